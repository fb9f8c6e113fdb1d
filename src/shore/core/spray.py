"""A path by chance: 256 sockets before a NAT that draws ports, and guesses from the other end.

Where our NAT shows each peer another port and the peer's lets in only the port that was written to, neither
end can name a place. What helps then is arithmetic (`crates/dataplane-core/src/spray.rs` has it): who is
behind the NAT that draws opens a *fan* of 256 sockets towards the peer and asks it, through the server, to
*spray*: to try ports of ours until one meets the fan.

    relayed, tried in vain, NAT draws ports --relay saw the peer--> opening --sockets--> fanned, peer asked
    fanned --the peer spoke by one of them--> that socket is the peer's own, all others are closed
    fanned --15 s--> all are closed
    asked to spray, NAT draws no ports --relay saw the peer--> spraying --a path, or 5 s--> over

A spray is a flood, if a small one, so it goes only to the address at which a relay itself sees the peer: what
a peer says of itself leads no probe to a third party. Either end does its part once in ten minutes for each
peer, for one peer at a time; the plane holds to the same limits by itself. Two NATs that both draw ports are
left to their relay: it would take some 170,000 probes. The ports behind those that a peer was seen at come
first, since some NATs count.
"""

from collections.abc import Iterable, Mapping

from shore.core.actions import Action, Announce, Call, CloseSocket, OpenFan
from shore.core.candidates import host_of
from shore.core.events import (
    Configured,
    Event,
    FactTold,
    FanOpened,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    SprayAsked,
    Woke,
)
from shore.core.peer import PeerRecord
from shore.core.relays import Relays
from shore.core.timers import FAN_AFTER, FAN_FOR, SEEN_AGAIN, SPRAY_AGAIN, SPRAY_FOR
from shore.core.underlay import Underlay
from shore.model.desired import Fan, Socket, Spray
from shore.model.facts import Learned, PeerCounters

SOCKETS = 256
# A fan lies within so many ports of a NAT that counts; one guess in each quarter of that, for a thousand.
NEXT_PORTS = range(1, 1024, 63)
MOST_KNOWN = 3
LAST_PORT = 65535
# By how many hops a datagram leaves the NATs before us, and reaches none before the peer: tried in turn.
HOPS = (2, 3, 4)


class Fanning:
    """One fan: the endpoint that it aims at, and until when it is open."""

    def __init__(self, aim: str, until: float) -> None:
        self.aim, self.until = aim, until
        self.sockets: tuple[int, ...] = ()


class Sprays:
    """All fans and sprays of one tunnel; both stand in the parts of their peers."""

    def __init__(self, peers: Mapping[bytes, PeerRecord], relays: Relays, underlay: Underlay) -> None:
        self._peers, self._relays, self._underlay = peers, relays, underlay
        self._fans: dict[bytes, Fanning] = {}
        # Who asked, the endpoint of ours that its fan aims at, and until when that is worth something.
        self._asked: dict[bytes, tuple[str, float]] = {}
        self._sprays: dict[bytes, float] = {}
        self._fan_again: dict[bytes, float] = {}
        self._spray_again: dict[bytes, float] = {}
        self._fans_had: dict[bytes, int] = {}
        self._number = 0
        self._raised: set[bytes] = set()

    def follow(
        self,
        event: Event,
        apart: Mapping[bytes, float],
        counters: Mapping[bytes, PeerCounters],
        now: float,
    ) -> list[Action]:
        """What an event means. `apart` are peers without a direct path, and since when one is tried for."""
        actions = [*self._take(event, now), *self._expire(apart, now)]
        if not isinstance(event, PlaneAnswered | FactTold | SprayAsked | Woke):
            return actions
        tired = [key for key, since in apart.items() if now - since >= FAN_AFTER]
        due = [key for key in tired if self._fan_again.get(key, now) <= now]
        draws = self._draws(counters, now) if due or self._asked else None
        hopeful = due if draws else []
        self._relays.ask([self._peers[key].config for key in {*hopeful, *self._asked}])
        for key in hopeful:
            actions += self._open(key, now)
        for key in list(self._asked):
            actions += self._spray(key, draws, now)
        return actions

    def raised(self) -> set[bytes]:
        """Whose wishes are other ones; says so once."""
        raised, self._raised = self._raised, set()
        return raised

    def deadline(self) -> float | None:
        """When something is over."""
        ends = [fan.until for fan in self._fans.values()]
        return min(
            (*ends, *self._sprays.values(), *(until for _, until in self._asked.values())), default=None
        )

    def _draws(self, counters: Mapping[bytes, PeerCounters], now: float) -> bool | None:
        """Whether the NAT before us shows each peer another port; None while that is not known."""
        mapping = self._underlay.mapping(counters.values(), now)
        return None if mapping is None else mapping == "endpoint_dependent"

    def _take(self, event: Event, now: float) -> list[Action]:
        match event:
            case FanOpened(public_key=key):
                return self._opened(event)
            case FactTold(fact=Learned(public_key=key, socket=socket)):
                fan = self._fans.get(key)
                return self._adopt(key, socket) if fan is not None and socket in fan.sockets else []
            case PlaneAnswered() if self._fans:
                # Facts about one peer replace each other.
                met = [(entry.public_key, path.socket) for entry in event.peers or () for path in entry.paths]
                fans = self._fans
                seen = [(key, number) for key, number in met if key in fans and number in fans[key].sockets]
                return self._adopt(*seen[0]) if seen else []
            case SprayAsked(public_key=key) if key in self._peers:
                self._asked[key] = (event.aim, now + SPRAY_FOR)
            case PlaneLost() | PlaneStarted():
                # What it had under way is lost, and what was promised to whom as well.
                return self._end_all([*self._fans, *self._sprays])
            case Configured():
                return self._end_all([key for key in self._fans if key not in self._peers])
            case _:
                pass
        return []

    def _expire(self, apart: Mapping[bytes, float], now: float) -> list[Action]:
        late = [key for key, fan in self._fans.items() if fan.until <= now or key not in apart]
        over = [key for key, until in self._sprays.items() if until <= now or key not in apart]
        stale = [key for key, (_, until) in self._asked.items() if until <= now or key not in apart]
        for key in stale:
            del self._asked[key]
        return self._end_all([*late, *over])

    # Our NAT draws ports.

    def _open(self, key: bytes, now: float) -> list[Action]:
        peer = self._peers[key]
        seen = self._relays.seen(peer.config)
        if seen is None or self._fans:
            return []
        places = (one.endpoint for one in (*peer.told, *peer.config.candidates))
        aim = next((place for place in places if host_of(place) == seen), None)
        # It may be seen elsewhere later.
        self._fan_again[key] = now + (SEEN_AGAIN if aim is None else SPRAY_AGAIN)
        if aim is None:
            return []
        self._fans[key] = Fanning(aim, now + FAN_FOR)
        return [OpenFan(key, SOCKETS, self._underlay.mark)]

    def _opened(self, event: FanOpened) -> list[Action]:
        key = event.public_key
        fan, peer = self._fans.get(key), self._peers.get(key)
        if fan is None or peer is None or fan.sockets:
            return [CloseSocket(number) for number in event.sockets]
        had = self._fans_had[key] = self._fans_had.get(key, -1) + 1
        fan.sockets = event.sockets
        self._number += 1
        peer.fan = Fan(self._number, fan.aim, HOPS[had % len(HOPS)], event.sockets)
        self._raised.add(key)
        return [
            Call(key, aim=fan.aim),
            Announce(f"{len(event.sockets)} sockets opened", "our NAT draws ports: the peer guesses", key),
        ]

    def _adopt(self, key: bytes, socket: int) -> list[Action]:
        """The peer has met the fan by this socket."""
        peer = self._peers[key]
        former = [] if peer.extra is None else [CloseSocket(peer.extra.id)]
        peer.extra = Socket(socket, 4)
        return [*former, *self._end(key, but=socket), Announce("port guessed", "the peer met a socket", key)]

    # The peer's does.

    def _spray(self, key: bytes, draws: bool | None, now: float) -> list[Action]:
        if draws:
            # Both draw: neither can be guessed.
            del self._asked[key]
            return self._end(key)
        peer, (aim, _) = self._peers[key], self._asked[key]
        seen = self._relays.seen(peer.config)
        if seen is None or ":" in seen or self._sprays or self._spray_again.get(key, now) > now:
            return []
        socket = self._socket(aim)
        if socket is None:
            return []
        del self._asked[key]
        self._number += 1
        self._sprays[key] = now + SPRAY_FOR
        self._spray_again[key] = now + SPRAY_AGAIN
        peer.spray = Spray(self._number, socket, seen, _guesses(peer, seen))
        self._raised.add(key)
        return [Announce("ports of the peer are guessed", f"its NAT at {seen} draws them", key)]

    def _socket(self, aim: str) -> int | None:
        """The one that is seen there; else any, as there mostly is but one."""
        known = self._underlay.sightings.socket_at(aim)
        ours = [socket.id for socket in self._underlay.sockets.of_family(4)]
        return known if known in ours else next(iter(ours), None)

    # Either is over.

    def _end_all(self, keys: Iterable[bytes]) -> list[Action]:
        return [action for key in dict.fromkeys(keys) for action in self._end(key)]

    def _end(self, key: bytes, but: int | None = None) -> list[Action]:
        fan = self._fans.pop(key, None)
        self._sprays.pop(key, None)
        if (peer := self._peers.get(key)) is not None:
            peer.fan = peer.spray = None
            self._raised.add(key)
        return [CloseSocket(number) for number in (fan.sockets if fan else ()) if number != but]


def _guesses(peer: PeerRecord, seen: str) -> tuple[int, ...]:
    """The ports behind those that the peer was seen at."""
    places = [one.endpoint for one in (*peer.told, *peer.config.candidates) if host_of(one.endpoint) == seen]
    known = dict.fromkeys(int(place.rpartition(":")[2]) for place in reversed(places))
    ports = [port + ahead for port in list(known)[:MOST_KNOWN] for ahead in NEXT_PORTS]
    return tuple(dict.fromkeys(port for port in ports if port <= LAST_PORT))
