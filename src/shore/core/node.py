"""The heart of one tunnel.

`handle(event, now)` takes what has happened and returns what is to be done; `deadline()` says when to
call again with `Woke`. It does no IO, so a list of (now, event) is a complete recording.

Life: a configuration comes; sockets are opened, a data plane is started or found, the desired state is
pushed, the host is brought to its plan. From then on the desired state is derived anew after every event
and pushed when it differs from the last one; nothing is pushed twice. (`derivation` makes anew only what may
be another one.) What the world does is answered by raising `renew` of the peers it concerns (a changed link,
a sleep, a new plane, a person's wish), by asking names again, and by two ladders: of a peer (`peer`) and of
the node, which reopens the sockets and then replaces the plane only when every peer that was alive lately is
silent, or our own losses last.

Invariants: an explicit listen port is never moved. A plane is replaced for silence or losses at most once
in ten minutes. `status` says connected only from counters that are fresh.
"""

from shore.core import events as on
from shore.core.actions import (
    Action,
    Announce,
    ApplyHost,
    CloseSocket,
    GoDown,
    KillPlane,
    OpenExtraSocket,
    Push,
    Resolve,
    SetMark,
    StartPlane,
)
from shore.core.derivation import Derivation, concerned
from shore.core.keepalive import Keepalive
from shore.core.mesh import word_to_peers
from shore.core.mtu import Mtus
from shore.core.names import Names, names_of
from shore.core.peer import PeerRecord
from shore.core.plane import PlaneWatch
from shore.core.reconcile import fwmark_of
from shore.core.recovery import NodeLadder, Rung
from shore.core.relays import Relays, is_place
from shore.core.stamps import Stamps
from shore.core.traversal import Traversal
from shore.core.underlay import Underlay
from shore.model.config import TunnelConfig
from shore.model.desired import Candidate, DesiredState
from shore.model.facts import (
    Acquainted,
    Candidates,
    Fact,
    Learned,
    Losing,
    Mapped,
    Measured,
    PeerCounters,
    Roamed,
    SessionEstablished,
    SocketFailed,
    Swallowed,
    TunFailed,
    Unanswered,
)
from shore.model.host import HostPlan
from shore.model.links import Link

# EBADFD: what a TUN descriptor says once its device is gone.
DEVICE_DELETED = 77


class Node:
    """One tunnel's decisions. Read `config`, `plan`, `peers` and `plane`; change by events only."""

    def __init__(self) -> None:
        self.config: TunnelConfig | None = None
        self.peers: dict[bytes, PeerRecord] = {}
        self.plane = PlaneWatch()
        self.stamps = Stamps()
        self.keepalive = Keepalive()
        self.answer: on.PlaneAnswered | None = None
        # As each was told last; ages are as of then.
        self.counters: dict[bytes, PeerCounters] = {}
        self.counters_at = float("-inf")
        self._names = Names()
        self.underlay = Underlay()
        self.relays = Relays()
        self.traversal = Traversal(self.peers, self.relays, self.underlay)
        self.mtus = Mtus(self.peers, self.underlay)
        self._derivation = Derivation(
            self.peers, self.underlay, self._names, self.keepalive, self.mtus, self.relays
        )
        self._pushed: DesiredState | None = None
        self.plan: HostPlan | None = None
        self._planned: HostPlan | None = None
        self._seen = 0
        self._ladder = NodeLadder()
        self._actions: list[Action] = []

    def handle(self, event: on.Event, now: float) -> list[Action]:
        """Take one event; return what is to be done, in order."""
        self._actions = []
        self._derivation.concern(concerned(event))
        self._take(event, now)
        self._actions += self.keepalive.follow(event, self.underlay, self.counters, self._is_wanted, now)
        self._actions += self.relays.follow(event, self.underlay, now)
        own = self.candidates()
        self._actions += self.traversal.follow(event, self.counters, own, now)
        self._derivation.concern(self.traversal.raised())
        if self.config is not None:
            self._settle(self.config, now)
        return self._actions

    @property
    def listen_port(self) -> int:
        """The port of the sockets, 0 before there are any."""
        return self.underlay.port

    def deadline(self) -> float | None:
        """When to call again with on.Woke; None if there is nothing to wait for."""
        timed = (self._names, self.plane, self.mtus, self.keepalive, self.relays, self.traversal)
        waits = [each.deadline() for each in timed]
        return min((wait for wait in waits if wait is not None), default=None)

    def desired(self) -> DesiredState | None:
        """The desired state as it follows from everything known; None before there are sockets."""
        if self.config is None or not self.underlay.sockets.unbound:
            return None
        return self._derivation.desired(self.config, self.counters)

    def candidates(self) -> tuple[Candidate, ...]:
        """Where this node may be found, as every Shore peer is told."""
        return self._derivation.own

    def forget_derived(self) -> None:
        """Derive everything anew next time, from what is known; it is the same."""
        self._derivation.concern(None)

    def _take(self, event: on.Event, now: float) -> None:  # noqa: C901, PLR0912, PLR0915 (one case per event)
        match event:
            case on.Configured():
                self._configure(event.config, now)
            case on.Attached():
                self._attach(event, now)
            case on.SocketsOpened():
                self._adopt_sockets(event)
            case on.ExtraSocketOpened():
                self._adopt_extra(event)
            case on.UplinkSocketOpened():
                if not self.underlay.sockets.opened(event.way, event.socket):
                    self._do(CloseSocket(event.socket.id))
            case on.UplinkSocketFailed():
                self.underlay.sockets.failed(event.way)
                self._announce(f"no socket on {event.way[0]}", event.reason)
            case on.PortsMapped():
                self._ports_mapped(event)
            case on.SocketsFailed():
                self.underlay.opening = False
                self._announce("sockets not opened", event.reason)
            case on.PlaneStarted():
                self._plane_started(event, now)
            case on.PlaneLost():
                self._plane_lost(event.reason, now)
            case on.PlaneAnswered():
                self._answered(event, now)
            case on.QuestionUnanswered():
                if self.plane.unanswered(event.lag_s):
                    self._replace_plane("it stopped answering")
            case on.FactTold():
                self._seen = max(self._seen, event.serial)
                self._learn(event.fact, now)
            case on.LinksChanged():
                self._links_changed(event.links, now)
            case on.Resumed():
                self._names.forget_waits(now)
                self._renew_all(f"the machine slept for {event.slept_s:.0f} s")
            case on.ClockRead():
                self._actions += self.stamps.clock_read(event.wall, now)
                if self.plane.pid is not None and self.stamps.outlived(now):
                    self._replace_plane("the clock was set, and it stamps handshakes by the old one")
            case on.StampRemembered():
                self.stamps.remember(event.stamp)
            case on.NameResolved():
                self._resolved(event, now)
            case on.NameFailed():
                if self._names.failed(event.host, now):
                    self._announce(f"{event.host} does not resolve", event.reason)
            case on.RenewAsked():
                self._renew(event.public_key, "asked for")
            case on.PeerCalled() | on.PokeAsked() if event.public_key in self.peers:
                self.peers[event.public_key].poked(event)
            case on.DeviceMtuChanged():
                self.mtus.device_changed(self.config, event.mtu)
            case on.DeviceGone():
                self._do(GoDown(f"{event.what} was deleted"))
            case on.Woke():
                self._derivation.concern(self.mtus.due(now))
                self._actions += self.mtus.wake(now)

    # Configuration, sockets and the plane.

    def _configure(self, config: TunnelConfig, now: float) -> None:
        previous, self.config = self.config, config
        self.plan = self._derivation.plan(config)
        wanted = {peer.public_key: peer for peer in config.peers}
        for key in self.peers.keys() - wanted.keys():
            self._forget(self.peers.pop(key))
        records = {key: self.peers.get(key) or PeerRecord(peer) for key, peer in wanted.items()}
        for key, record in records.items():
            record.reconfigure(wanted[key])
        self.peers.clear()
        self.peers.update(records)
        hosts = [peer.names() for peer in self.peers.values()]
        self._names.use(names_of(config.stun).union(*hosts), now)
        self._actions += self.relays.configure(config)
        mark, marked = fwmark_of(config), self.underlay.mark
        self.underlay.mark = mark
        moved = previous is not None and config.listen_port not in (0, self.listen_port)
        if not self.underlay.sockets.unbound or moved:
            self._open_sockets(config.listen_port, "listen port" if moved else "start", now)
        elif mark != marked or previous is None:
            self._do(SetMark(mark))
        if previous is None:
            self.plane.want(now)

    def _forget(self, peer: PeerRecord) -> None:
        self.counters.pop(peer.config.public_key, None)
        if peer.extra is not None:
            self._do(CloseSocket(peer.extra.id))

    def _attach(self, event: on.Attached, now: float) -> None:
        self.underlay.sockets.adopt(event.state.sockets)
        self.underlay.port = event.listen_port
        self.plane.started(event.pid)
        self.stamps.plane_found(now)
        self._pushed = event.state
        self.relays.adopt(event.state.links, event.state.bindings)
        self._configure(event.config, now)
        for held in event.state.peers:
            peer = self.peers.get(held.public_key)
            if peer is not None:
                peer.attached(held, event.state.ways(), self.underlay.sockets, now)

    def _adopt_sockets(self, event: on.SocketsOpened) -> None:
        closing, heirs = self.underlay.opened(event)
        for peer in self.peers.values():
            if peer.roamed is not None and peer.roamed[0] in heirs:
                heir = heirs[peer.roamed[0]]
                peer.roamed = (heir, peer.roamed[1]) if heir else None
        self._actions += closing

    def _adopt_extra(self, event: on.ExtraSocketOpened) -> None:
        peer = self.peers.get(event.public_key)
        if peer is None or peer.extra is not None:
            self._do(CloseSocket(event.socket.id))
        else:
            peer.extra = event.socket

    def _ports_mapped(self, event: on.PortsMapped) -> None:
        before, self.underlay.granted = self.underlay.granted, event.endpoints
        for granted in sorted(set(event.endpoints) - set(before)):
            self._announce(f"port mapped at {granted}", f"a gateway sends it to port {self.listen_port}")
        for gone in sorted(set(before) - set(event.endpoints)):
            self._announce(f"port no longer mapped at {gone}", "the gateway or our wish is gone")

    def _open_sockets(self, port: int, why: str, now: float) -> None:
        opening = self.underlay.open(port, why)
        if opening:
            self._ladder.opened(now)
        self._actions += opening

    def _plane_started(self, event: on.PlaneStarted, now: float) -> None:
        self.plane.started(event.pid)
        self.stamps.plane_started(now)
        self._pushed, self._seen = None, 0
        if self.plane.restarts:
            self._actions += word_to_peers(self.config, "session_lost")
        for peer in self.peers.values():
            if peer.had_session:
                peer.renew += 1

    def _plane_lost(self, reason: str, now: float) -> None:
        self._announce("data plane replaced", reason)
        self.plane.lost(now)
        self._pushed = None
        self.counters_at = float("-inf")

    def _replace_plane(self, why: str) -> None:
        self._do(KillPlane(why))
        self._announce("data plane stopped", why)

    # What the plane and the world tell.

    def _answered(self, event: on.PlaneAnswered, now: float) -> None:
        self.plane.answered()
        self.answer = event
        if event.peers is not None:
            fresh = {entry.public_key: entry for entry in event.peers}
            self.counters = fresh if event.whole else self.counters | fresh
            self.counters_at = now
            self._judge(event.peers, now)

    def _judge(self, counters: tuple[PeerCounters, ...], now: float) -> None:
        metered = self.underlay.metered(self.config) if self.config else set()
        for entry in counters:
            peer = self.peers.get(entry.public_key)
            if peer is not None:
                before = peer.standing()
                uplinks, sockets = self.underlay.uplinks(entry), self.underlay.sockets
                self._actions += peer.counted(entry, metered, uplinks, sockets, now)
                self._actions += self.mtus.counted(entry, now)
                if peer.standing() != before:
                    self._derivation.concern((entry.public_key,))

    def _learn(self, fact: Fact, now: float) -> None:
        peer = self.peers.get(getattr(fact, "public_key", None) or b"")
        match fact:
            case SessionEstablished() if peer is not None:
                self._actions += peer.recovered(now)
                self._measure(peer, now)
            case Acquainted() if peer is not None:
                self._actions += peer.acquaint(fact)
                self._measure(peer, now)
            case Roamed() if peer is not None:
                self._actions += peer.roam(fact, self.underlay.sockets)
            case Learned() if peer is not None:
                peer.learned((fact.socket, fact.remote))
            case Candidates() if peer is not None and peer.told != fact.candidates:
                peer.told = fact.candidates
                self._derivation.concern((fact.public_key,))
            case Mapped():
                self.underlay.sightings.saw(fact, now)
            case Measured() | Swallowed() if peer is not None:
                before = peer.sizes.proved()
                self._actions += self.mtus.told(fact, now)
                if peer.sizes.proved() != before:
                    self._derivation.resized(fact.public_key)
            case Unanswered() if peer is not None:
                self._climb(peer, fact, now)
            case Losing():
                rung = self._ladder.losses(fact, now)
                who = "it loses packets" if rung == "replace" else "packets are lost"
                self._climb_as_node(rung, f"{who} ({fact.reason})", now, fact.public_key)
            case SocketFailed():
                self._socket_failed(fact, now)
            case TunFailed() if fact.errno == DEVICE_DELETED:
                self._do(GoDown("the device was deleted"))

    def _climb(self, peer: PeerRecord, fact: Unanswered, now: float) -> None:
        for rung in peer.climbed(fact.for_s):
            if rung == "extra socket" and peer.extra is None and peer.config.endpoints:
                family = 6 if peer.roamed and peer.roamed[1].startswith("[") else 4
                self._do(OpenExtraSocket(fact.public_key, family, self.underlay.mark))
            if rung == "unreachable":
                self._announce("peer unreachable", f"no answer for {fact.for_s:.0f} s", fact.public_key)
        self._names.hurry(peer.names(), now)
        self._climb_as_node(self._ladder.silence(list(self.peers.values()), now), "every peer is silent", now)

    def _climb_as_node(
        self, rung: Rung | None, why: str, now: float, public_key: bytes | None = None
    ) -> None:
        match rung:
            case "replace":
                self._replace_plane(why)
            case "rebind":
                self._rebind(why, now)
            case "renew" if public_key is not None:
                self._renew(public_key, why)

    def _rebind(self, why: str, now: float) -> None:
        if self._ladder.may_rebind(now):
            self._announce("sockets reopened", why)
            self._open_sockets(self.listen_port, why, now)

    def _socket_failed(self, fact: SocketFailed, now: float) -> None:
        # The socket of an uplink that is gone follows its link.
        if self.underlay.sockets.uplink_of(fact.socket) is None and not self.keepalive.owns(fact.socket):
            self._rebind(f"a socket failed (errno {fact.errno})", now)

    def _measure(self, peer: PeerRecord, now: float) -> None:
        if (config := self.config) is None:
            return
        place = peer.place(self._derivation.footing(config, self.counters, ()))
        if place is not None and not is_place(place[1]):
            self._actions += self.mtus.known(config, peer, place, now)

    def _links_changed(self, links: tuple[Link, ...], now: float) -> None:
        moved = self.underlay.moved(links)
        for entry in self.counters.values():
            # Devices may carry more now, or less.
            self._actions += self.mtus.counted(entry, now)
        if not moved:
            return
        self._names.forget_waits(now)
        self.relays.moved()
        self.traversal.moved(now)
        if self._planned is not None and self._planned.full_tunnel is not None:
            # What is on the same wire may go past it.
            self._planned = None
        if self.underlay.leads_on():
            self._renew_all("the underlay changed")
            self._actions += word_to_peers(self.config, "initiate")
            self._actions += self.mtus.disturbed(now)

    def _resolved(self, event: on.NameResolved, now: float) -> None:
        if not self._names.resolved(event.host, event.addresses, now):
            return
        for key, peer in self.peers.items():
            if event.host in peer.names():
                peer.roamed = None if peer.silent_s > 0 else peer.roamed
                self._renew(key, f"{event.host} resolved anew")

    def _renew(self, public_key: bytes, why: str) -> None:
        peer = self.peers.get(public_key)
        if peer is not None:
            peer.renew += 1
            self._announce("session renewed", why, public_key)

    def _renew_all(self, why: str) -> None:
        for peer in self.peers.values():
            peer.renew += 1
        self._announce("all sessions renewed", why)

    # What follows.

    def _settle(self, config: TunnelConfig, now: float) -> None:
        for host in self._names.due(now):
            self._do(Resolve(host))
        self._actions += self.underlay.follow(config)
        if self.underlay.sockets.unbound and self.plane.due(now):
            self._do(StartPlane())
        desired = self.desired()
        self.underlay.sightings.asked(desired.stun if desired is not None else (), now)
        if desired is not None and self.plane.pid is not None and desired != self._pushed:
            self._pushed = desired
            self._do(Push(desired, self._seen))
        self.plan = self._derivation.plan(config)
        if self.plan is not None and self.plan != self._planned:
            self._planned = self.plan
            self._do(ApplyHost(self.plan))

    def _is_wanted(self, public_key: bytes) -> bool:
        """Whether it is a Shore peer that somebody needs."""
        peer = self.peers.get(public_key)
        return peer is not None and peer.acquainted and peer.is_wanted

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _announce(self, what: str, why: str, public_key: bytes | None = None) -> None:
        self._do(Announce(what, why, public_key))
