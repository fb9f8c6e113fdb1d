"""One peer as the heart sees it: where it may be, and how far its recovery has climbed.

The data plane retries, rotates and roams by itself. Here is what outlives a plane: the endpoints that
the configuration names, the one the peer last spoke from, the renewals asked for. The *ladder* climbs
while initiations go unanswered: ask for the names again, add a socket on a new port for this peer
alone, say that it is unreachable; and it is left by the first session.

A Shore peer has more: what it told of itself, every place it spoke from, and a judge of its paths. The place
that its packets take now comes first in the advice, so that advice never contradicts a reflex.
"""

from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from shore.core import timers
from shore.core.actions import Action, Announce
from shore.core.candidates import Place, endpoint, family_of, few_ports, is_told, places
from shore.core.changes import has_left, preferred, switched
from shore.core.events import PeerCalled, PokeAsked
from shore.core.keepalive import Keepalive
from shore.core.names import names_of
from shore.core.relays import is_place
from shore.core.score import PathJudge
from shore.core.sizes import Sizes
from shore.core.sockets import Sockets
from shore.model.config import PeerConfig
from shore.model.desired import Candidate, Fan, Lane, Path, Peer, Socket, Spray
from shore.model.facts import Acquainted, PeerCounters, Roamed
from shore.model.scores import Verdict

# A peer with an Endpoint must not idle out behind a NAT because its file is silent.
OWN_KEEPALIVE = 25
MOST_SPOKEN = 4
# The second is in use where the peer turns out to be a Shore node.
LANES = (Lane(0), Lane(1))
# A stream carries more; this is fair to what else goes by it, and no search is needed. A relay's UDP side
# carries it in 1,492 bytes of IPv4. In IPv6 it would be 1,512.
RELAYED_MTU = 1500
RELAYED_MTU_6 = 1488

RUNGS = (
    ("resolving", timers.RESOLVE_AFTER),
    ("extra socket", timers.EXTRA_SOCKET_AFTER),
    ("unreachable", timers.UNREACHABLE_AFTER),
)


class Footing(NamedTuple):
    """What every peer's part of the desired state stands on.

    `own` is told to Shore peers, `metered` are the ids of sockets that cost money, `cap` is the longest
    packet that may be sent.
    """

    sockets: Sockets
    addresses: Callable[[str], tuple[str, ...]]
    keepalive: Keepalive
    own: tuple[Candidate, ...] = ()
    metered: Container[int] = ()
    cap: int | None = None
    # Where a peer is at relays, and where it is away.
    relayed: Callable[[PeerConfig], tuple[list[Place], list[Place]]] = lambda _: ([], [])


class PeerRecord:
    """What the heart knows of one peer."""

    def __init__(self, config: PeerConfig) -> None:
        self.config = config
        self.renew = 0
        self.poke = 0
        self.prime = 0
        self.had_session = False
        self.last_session: float | None = None
        self.roamed: tuple[int, str] | None = None
        # Where its packets go now, as the plane says.
        self.primary: tuple[int, str] | None = None
        self.extra: Socket | None = None
        # What is done to meet it by chance (`spray`).
        self.spray: Spray | None = None
        self.fan: Fan | None = None
        self.silent_s = 0.0
        self.rung = 0
        # What is known of it as a Shore node.
        self.acquainted = False
        self.answers_probes = False
        # Whether it is left to relays until it is known; `traversal` ends that.
        self.left_to_relays = bool(config.relays)
        self.told: tuple[Candidate, ...] = ()
        self.spoken: list[Place] = []
        # By which interfaces its paths leave, as far as that is known.
        self.uplinks: dict[Place, str] = {}
        self.judge = PathJudge()
        self.sizes = Sizes()
        self._path_ids: dict[tuple[int, str], int] = {}

    def keepalive(self) -> tuple[int, str]:
        """The interval in seconds, 0 for none, and why."""
        if self.config.keepalive_s is not None:
            return (
                self.config.keepalive_s,
                "configured" if self.config.keepalive_s else "off in the configuration",
            )
        if self.config.endpoints:
            return OWN_KEEPALIVE, "Shore's own: the peer has an Endpoint and no PersistentKeepalive"
        if self.config.candidates:
            return OWN_KEEPALIVE, "Shore's own: the peer is of a mesh"
        return 0, "none: the peer has no Endpoint"

    def quiet_s(self, keepalive: Keepalive, place: Place) -> tuple[int, str]:
        """How long a path to it as a Shore peer may be left alone, and why."""
        quiet_s, why = keepalive.quiet_s(place)
        configured = self.config.keepalive_s or quiet_s
        return (configured, "configured") if configured < quiet_s else (quiet_s, why)

    @property
    def is_wanted(self) -> bool:
        """Whether its session is kept alive without traffic."""
        return bool(self.config.endpoints or self.config.candidates) or self.keepalive()[0] > 0

    def names(self) -> set[str]:
        """Names that must be resolved for it."""
        return names_of(self.config.endpoints)

    def reconfigure(self, config: PeerConfig) -> None:
        """Take another configuration; another endpoint is gone to at once."""
        moved = config.endpoints != self.config.endpoints
        elsewhere = config.candidates != self.config.candidates and self.silent_s > 0
        self.config = config
        if elsewhere:
            self.renew += 1
        if moved and config.endpoints:
            self.roamed = None
            self.spoken = []
            self.renew += 1

    def desired(self, footing: Footing) -> Peer:
        """Its part of the desired state."""
        # A Shore peer's paths are kept alive by probes.
        keepalive_s = 0 if self.answers_probes else self.keepalive()[0]
        return Peer(
            public_key=self.config.public_key,
            preshared_key=self.config.preshared_key,
            allowed_ips=self.config.allowed_ips,
            keepalive_s=keepalive_s,
            wanted=self.is_wanted,
            renew=self.renew,
            lanes=LANES,
            paths=self._paths(footing),
            redundancy=self.config.redundancy,
            candidates=footing.own if self.acquainted else (),
            trials=footing.keepalive.trials(self.config.public_key) if self.acquainted else (),
            poke=self.poke,
            prime=self.prime,
            spray=self.spray,
            fan=self.fan,
        )

    def own_sockets(self) -> tuple[Socket, ...]:
        """Those that are for it alone."""
        fan = () if self.fan is None else tuple(Socket(number, 4) for number in self.fan.sockets)
        return fan if self.extra is None else (self.extra, *fan)

    def resized(self, part: Peer, cap: int | None) -> Peer:
        """The same part, with the MTUs of its paths as they are proved now."""
        paths = (
            path
            if path.kind == "relay"
            else replace(path, mtu=self.sizes.mtu((path.socket, path.remote), cap))
            for path in part.paths
        )
        return replace(part, paths=tuple(paths))

    def inner_mtu(self) -> int | None:
        """The longest packet that the path in use carries, where that is known."""
        return None if self.primary is None else self.sizes.inner_mtu(self.primary)

    def standing(self) -> object:
        """All of it that counters can change and its part of the desired state depends on, to compare."""
        known = (self.acquainted, self.answers_probes, self.roamed, [*self.spoken])
        return (*known, self.primary, self.sizes.proved(), self.uplinks)

    def place(self, footing: Footing) -> Place | None:
        """Where its packets go now, as far as we know."""
        if self.roamed is not None:
            return self.roamed
        paths = self._paths(footing)
        return (paths[0].socket, paths[0].remote) if paths else None

    def attached(self, held: Peer, open_ids: set[int], sockets: Sockets, now: float) -> None:
        """What a running plane holds of it, for a brain that has just come."""
        self.renew, self.poke, self.prime = held.renew, held.poke, held.prime
        self.had_session, self.last_session = True, now
        if held.paths and held.paths[0].socket in open_ids:
            self.roamed = place = (held.paths[0].socket, held.paths[0].remote)
            shared = {socket.id for socket in sockets.all()}
            if not is_place(place[1]) and place[0] not in shared:
                self.extra = Socket(place[0], family_of(place[1]))

    def moved_to(self, place: Place) -> None:
        """The primary path is this one now."""
        self.roamed = self.primary = place
        self.learned(place)

    def poked(self, event: PeerCalled | PokeAsked) -> None:
        """A person wants it probed, or the peer itself says where it may be; nothing is proved by that."""
        if isinstance(event, PeerCalled):
            self.told = event.candidates
        else:
            self.poke += 1

    def learned(self, place: Place) -> None:
        """It spoke from there."""
        self.spoken = [*few_ports([place, *self.spoken])][:MOST_SPOKEN]

    def counted(
        self,
        counters: PeerCounters,
        metered: Container[int],
        uplinks: Mapping[Place, str],
        sockets: Sockets,
        now: float,
    ) -> list[Action]:
        """The plane's numbers about it; they may be a reason to prefer another path."""
        self.acquainted = counters.probed
        # A path that is only suspect, as lossy ones often are, is no reason to change anything.
        alive = any(path.state not in ("dead", "unproven") for path in counters.paths)
        self.answers_probes = counters.probed and alive
        self.uplinks = dict(uplinks)
        costly = {(path.socket, path.remote) for path in counters.paths if path.socket in metered}
        judged = self._judge(counters, costly, sockets, now) if counters.probed else None
        if judged is None:
            return []
        self.moved_to((judged.best.socket, judged.best.remote))
        return [preferred(self.config.public_key, judged, self.judge, sockets)]

    def _judge(
        self, counters: PeerCounters, costly: set[Place], sockets: Sockets, now: float
    ) -> Verdict | None:
        here = next(((path.socket, path.remote) for path in counters.paths if path.primary), None)
        if here is not None and self.sizes.shrank(here, now):
            self.judge.forgive(here)
        held = here is not None and self.sizes.may_explain_loss(here, now)
        slower = sockets.slower
        return self.judge.judge(counters.paths, costly, now, self.uplinks, slower=slower, held=held)

    def climbed(self, silent_s: float) -> list[str]:
        """Initiations have gone unanswered for so long. Returns the rungs that were reached."""
        self.silent_s = silent_s
        reached = []
        while self.rung < len(RUNGS) and silent_s >= RUNGS[self.rung][1]:
            reached.append(RUNGS[self.rung][0])
            self.rung += 1
        return reached

    def recovered(self, now: float) -> list[Action]:
        """A session came up. Says so if the ladder had been entered."""
        entered = self.rung > 0
        self.rung, self.silent_s = 0, 0.0
        self.had_session, self.last_session = True, now
        return self._say("peer reached again", "a handshake was answered") if entered else []

    def acquaint(self, fact: Acquainted) -> list[Action]:
        """It is a Shore node."""
        known, self.acquainted = self.acquainted, True
        if fact.restarted:
            return self._say("peer restarted", "it has a new epoch")
        return [] if known else self._say("peer is a Shore node", "it answered a hello")

    def roam(self, fact: Roamed, sockets: Sockets) -> list[Action]:
        """Its primary path is another one."""
        self.moved_to((fact.socket, fact.remote))
        return [switched(fact, self.judge, sockets)] if self.acquainted and has_left(fact) else []

    def _say(self, what: str, why: str) -> list[Action]:
        return [Announce(what, why, self.config.public_key)]

    @property
    def recovery(self) -> str | None:
        """The rung it stands on."""
        return RUNGS[self.rung - 1][0] if self.rung else None

    def _paths(self, footing: Footing) -> tuple[Path, ...]:
        sockets = footing.sockets
        remotes = [
            endpoint(address, configured.port)
            for configured in self.config.endpoints
            for address in footing.addresses(configured.host)
        ]
        open_ids = {socket.id for socket in (*sockets.all(), *self.own_sockets())}
        relayed, away = footing.relayed(self.config)
        by_relay = self.roamed is not None and is_place(self.roamed[1])
        last = [] if self.roamed is None or by_relay else [self.roamed]
        roamed = [place for place in last if place[0] in open_ids]
        ourselves = {candidate.endpoint for candidate in footing.own}
        offered = [one for one in self.config.candidates if self.acquainted or not self._is_shut(one)]
        listed = [one.endpoint for one in offered if is_told(one, ourselves)]
        if self.acquainted:
            told = [one.endpoint for one in self.told if is_told(one, ourselves)] + listed
            # Until a reflex has moved it, its packets go where the file says first.
            first = [
                (socket.id, remote)
                for remote in remotes[:1]
                for socket in sockets.of_family(family_of(remote))
            ]
            here = last or first[:1]
            spoken = [place for place in self.spoken if not is_place(place[1])]
            found = places(sockets, [*here, *spoken], remotes, told, open_ids)
        else:
            unbound = sockets.unbound
            found = tuple(roamed) + tuple(
                (unbound[family_of(remote)].id, remote)
                for remote in (*remotes, *listed)
                if family_of(remote) in unbound
            )
        if self.extra is not None:
            known = [*remotes, *(remote for _, remote in roamed)]
            family = self.extra.family
            found += tuple((self.extra.id, remote) for remote in known if family_of(remote) == family)
        # What nobody has answered yet goes by a relay, and stays there until a direct path is proved.
        if by_relay and self.roamed in relayed:
            found = (self.roamed, *found, *relayed)
        elif not self.acquainted and not last:
            found = (*relayed, *found)
        else:
            found += tuple(relayed)
        unique = self._apart(list(dict.fromkeys((*found, *away))), sockets)
        return tuple(
            Path(
                id=self._path_id(place),
                kind="relay" if is_place(place[1]) else "direct",
                socket=place[0],
                remote=place[1],
                metered=place[0] in footing.metered,
                quiet_s=self.quiet_s(footing.keepalive, place)[0],
                mtu=_relayed_mtu(place, sockets)
                if is_place(place[1])
                else self.sizes.mtu(place, footing.cap),
            )
            for place in unique
        )

    def _is_shut(self, candidate: Candidate) -> bool:
        """Whether a NAT stands there that may be spoilt by what comes before its own side has spoken."""
        return self.left_to_relays and candidate.kind in ("server_reflexive", "peer_reflexive")

    def _path_id(self, place: tuple[int, str]) -> int:
        return self._path_ids.setdefault(place, len(self._path_ids) + 1)

    def _apart(self, order: list[Place], sockets: Sockets) -> list[Place]:
        """The first, then what leaves by other uplinks: one that fails takes all its paths with it."""

        def uplink(place: Place) -> str | None:
            return sockets.uplink_of(place[0]) or self.uplinks.get(place)

        here = uplink(order[0]) if order else None
        if here is None:
            return order
        return [
            order[0],
            *sorted(order[1:], key=lambda place: 2 if is_place(place[1]) else int(uplink(place) == here)),
        ]


def _relayed_mtu(place: Place, sockets: Sockets) -> int:
    return RELAYED_MTU_6 if place[0] in sockets.narrow else RELAYED_MTU
