"""The heart of one tunnel.

`handle(event, now)` takes what has happened and returns what is to be done; `deadline()` says when to
call again with `Woke`. It does no IO, so a list of (now, event) is a complete recording.

Life: a configuration comes; sockets are opened, a data plane is started or found, the desired state is
pushed, the host is brought to its plan. From then on the desired state is derived anew after every event
and pushed when it differs from the last one; nothing is pushed twice. What the world does is answered by
raising `renew` of the peers it concerns (a changed link, a sleep, a new plane, a person's wish), by asking
names again, and by two ladders: of a peer (`peer`) and of the node, which reopens the sockets and then
replaces the plane only when every peer that was alive lately is silent, or our own losses last.

Invariants: an explicit listen port is never moved. A plane is replaced for silence or losses at most once
in ten minutes. `status` says connected only from counters that are fresh.
"""

from shore.core import timers
from shore.core.actions import (
    Action,
    Announce,
    ApplyHost,
    CloseSocket,
    GoDown,
    KillPlane,
    OpenExtraSocket,
    OpenSockets,
    Push,
    Resolve,
    SetMark,
    StartPlane,
)
from shore.core.events import (
    Attached,
    ClockRead,
    Configured,
    DeviceGone,
    DeviceMtuChanged,
    Event,
    ExtraSocketOpened,
    FactTold,
    LinksChanged,
    NameFailed,
    NameResolved,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    QuestionUnanswered,
    RenewAsked,
    Resumed,
    SocketsFailed,
    SocketsOpened,
    StampRemembered,
    Woke,
)
from shore.core.names import Names
from shore.core.peer import PeerRecord
from shore.core.plane import PlaneWatch
from shore.core.reconcile import fwmark_of, host_plan, mtu_of
from shore.core.stamps import Stamps
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.desired import DesiredState, Interface, Socket
from shore.model.facts import (
    Fact,
    Losing,
    PeerCounters,
    Roamed,
    SessionEstablished,
    SocketFailed,
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
        self.listen_port = 0
        self.peers: dict[bytes, PeerRecord] = {}
        self.plane = PlaneWatch()
        self.stamps = Stamps()
        self.answer: PlaneAnswered | None = None
        self.counters: tuple[PeerCounters, ...] = ()
        self.counters_at = float("-inf")
        self._names = Names()
        self._sockets: dict[int, Socket] = {}
        self._opening = False
        self._pushed: DesiredState | None = None
        self.plan: HostPlan | None = None
        self._planned: HostPlan | None = None
        self._mark: int | None = None
        self._mtu: int | None = None
        self._seen = 0
        self._links: tuple[Link, ...] | None = None
        self._rebound_at = float("-inf")
        self._replaced_at = float("-inf")
        self._actions: list[Action] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; return what is to be done, in order."""
        self._actions = []
        self._take(event, now)
        if self.config is not None:
            self._settle(now)
        return self._actions

    def deadline(self) -> float | None:
        """When to call again with Woke; None if there is nothing to wait for."""
        waits = [self._names.deadline(), self.plane.deadline()]
        return min((wait for wait in waits if wait is not None), default=None)

    def desired(self) -> DesiredState | None:
        """The desired state as it follows from everything known; None before there are sockets."""
        if self.config is None or not self._sockets:
            return None
        extras = [peer.extra for peer in self.peers.values() if peer.extra is not None]
        return DesiredState(
            interface=Interface(
                self.config.private_key, self._mtu or mtu_of(self.config), self.config.offload
            ),
            sockets=(*self._sockets.values(), *extras),
            peers=tuple(
                peer.desired(self._sockets, self._names.addresses)
                for peer in self.peers.values()
                if self.config.private_key is not None
            ),
        )

    def _take(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912 (one case per event)
        match event:
            case Configured():
                self._configure(event.config, now)
            case Attached():
                self._attach(event, now)
            case SocketsOpened():
                self._adopt_sockets(event)
            case ExtraSocketOpened():
                self._adopt_extra(event)
            case SocketsFailed():
                self._opening = False
                self._announce("sockets not opened", event.reason)
            case PlaneStarted():
                self._plane_started(event, now)
            case PlaneLost():
                self._plane_lost(event.reason, now)
            case PlaneAnswered():
                self._answered(event, now)
            case QuestionUnanswered():
                if self.plane.unanswered(event.lag_s):
                    self._replace_plane("it stopped answering")
            case FactTold():
                self._seen = max(self._seen, event.serial)
                self._learn(event.fact, now)
            case LinksChanged():
                self._links_changed(event.links, now)
            case Resumed():
                self._names.forget_waits(now)
                self._renew_all(f"the machine slept for {event.slept_s:.0f} s")
            case ClockRead():
                self._actions += self.stamps.clock_read(event.wall, now)
                if self.plane.pid is not None and self.stamps.outlived(now):
                    self._replace_plane("the clock was set, and it stamps handshakes by the old one")
            case StampRemembered():
                self.stamps.remember(event.stamp)
            case NameResolved():
                self._resolved(event, now)
            case NameFailed():
                if self._names.failed(event.host, now):
                    self._announce(f"{event.host} does not resolve", event.reason)
            case RenewAsked():
                self._renew(event.public_key, "asked for")
            case DeviceMtuChanged():
                self._mtu = event.mtu
            case DeviceGone():
                self._do(GoDown(f"{event.what} was deleted"))
            case Woke():
                pass

    # Configuration, sockets and the plane.

    def _configure(self, config: TunnelConfig, now: float) -> None:
        previous, self.config = self.config, config
        self.plan = host_plan(config) if config.host_managed else None
        wanted = {peer.public_key: peer for peer in config.peers}
        for key in self.peers.keys() - wanted.keys():
            self._forget(self.peers.pop(key))
        self.peers = {key: self._record(peer) for key, peer in wanted.items()}
        self._use_names(now)
        mark = fwmark_of(config)
        moved = previous is not None and config.listen_port not in (0, self.listen_port)
        if not self._sockets or moved:
            self._open_sockets(config.listen_port, "listen port" if moved else "start", now)
        elif mark != self._mark:
            self._do(SetMark(mark))
        self._mark = mark
        if previous is None:
            self.plane.want(now)

    def _record(self, config: PeerConfig) -> PeerRecord:
        record = self.peers.get(config.public_key)
        if record is None:
            return PeerRecord(config)
        record.reconfigure(config)
        return record

    def _forget(self, peer: PeerRecord) -> None:
        if peer.extra is not None:
            self._do(CloseSocket(peer.extra.id))

    def _attach(self, event: Attached, now: float) -> None:
        for socket in event.state.sockets:
            self._sockets.setdefault(socket.family, socket)
        self.listen_port = event.listen_port
        self.plane.started(event.pid)
        self.stamps.plane_found(now)
        self._pushed = event.state
        self._configure(event.config, now)
        open_ids = {socket.id for socket in event.state.sockets}
        for held in event.state.peers:
            peer = self.peers.get(held.public_key)
            if peer is None:
                continue
            peer.renew = held.renew
            peer.had_session, peer.last_session = True, now
            if held.paths and held.paths[0].socket in open_ids:
                peer.roamed = (held.paths[0].socket, held.paths[0].remote)

    def _adopt_sockets(self, event: SocketsOpened) -> None:
        old = {socket.id: family for family, socket in self._sockets.items()}
        self._sockets = {socket.family: socket for socket in event.sockets}
        self.listen_port, self._opening = event.port, False
        for peer in self.peers.values():
            if peer.roamed is not None and peer.roamed[0] in old:
                heir = self._sockets.get(old[peer.roamed[0]])
                peer.roamed = (heir.id, peer.roamed[1]) if heir else None
        for number in old.keys() - {socket.id for socket in event.sockets}:
            self._do(CloseSocket(number))

    def _adopt_extra(self, event: ExtraSocketOpened) -> None:
        peer = self.peers.get(event.public_key)
        if peer is None or peer.extra is not None:
            self._do(CloseSocket(event.socket.id))
        else:
            peer.extra = event.socket

    def _open_sockets(self, port: int, why: str, now: float) -> None:
        if self._opening or self.config is None:
            return
        self._opening = True
        self._rebound_at = now
        self._do(OpenSockets(port, fwmark_of(self.config), why))

    def _plane_started(self, event: PlaneStarted, now: float) -> None:
        self.plane.started(event.pid)
        self.stamps.plane_started(now)
        self._pushed, self._seen = None, 0
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

    def _answered(self, event: PlaneAnswered, now: float) -> None:
        self.plane.answered()
        self.answer = event
        if event.peers is not None:
            self.counters, self.counters_at = event.peers, now

    def _learn(self, fact: Fact, now: float) -> None:
        match fact:
            case SessionEstablished():
                peer = self.peers.get(fact.public_key)
                if peer is not None and peer.recovered(now):
                    self._announce("peer reached again", "a handshake was answered", fact.public_key)
            case Roamed():
                if fact.public_key in self.peers:
                    self.peers[fact.public_key].roamed = (fact.socket, fact.remote)
            case Unanswered():
                self._climb(fact, now)
            case Losing():
                self._losing(fact, now)
            case SocketFailed():
                self._rebind(f"a socket failed (errno {fact.errno})", now)
            case TunFailed() if fact.errno == DEVICE_DELETED:
                self._do(GoDown("the device was deleted"))
            case _:
                pass

    def _climb(self, fact: Unanswered, now: float) -> None:
        peer = self.peers.get(fact.public_key)
        if peer is None:
            return
        for rung in peer.climbed(fact.for_s):
            if rung == "extra socket" and peer.extra is None and peer.config.endpoints:
                family = 6 if peer.roamed and peer.roamed[1].startswith("[") else 4
                self._do(OpenExtraSocket(fact.public_key, family, self._mark or 0))
            if rung == "unreachable":
                self._announce("peer unreachable", f"no answer for {fact.for_s:.0f} s", fact.public_key)
        self._names.hurry(peer.names(), now)
        self._climb_as_node(now)

    def _climb_as_node(self, now: float) -> None:
        alive = [
            peer
            for peer in self.peers.values()
            if peer.last_session is not None and now - peer.last_session < timers.ALIVE_LATELY
        ]
        silent = min((peer.silent_s for peer in alive), default=0.0)
        if silent >= timers.REPLACE_AFTER and now - self._replaced_at >= timers.REPLACE_INTERVAL:
            self._replaced_at = now
            self._replace_plane("every peer is silent")
        elif silent >= timers.REBIND_AFTER and now - self._rebound_at >= timers.REPLACE_INTERVAL:
            self._rebind("every peer is silent", now)

    def _losing(self, fact: Losing, now: float) -> None:
        if fact.for_s >= timers.LOSING_REPLACE and now - self._replaced_at >= timers.REPLACE_INTERVAL:
            self._replaced_at = now
            self._replace_plane(f"it loses packets ({fact.reason})")
        elif fact.for_s >= timers.LOSING_REBIND:
            if fact.reason in ("send_error", "send_queue"):
                self._rebind(f"packets are lost ({fact.reason})", now)
            elif fact.public_key is not None:
                self._renew(fact.public_key, f"packets are lost ({fact.reason})")

    def _rebind(self, why: str, now: float) -> None:
        if now - self._rebound_at >= timers.REBIND_INTERVAL:
            self._announce("sockets reopened", why)
            self._open_sockets(self.listen_port, why, now)

    def _links_changed(self, links: tuple[Link, ...], now: float) -> None:
        previous, self._links = self._links, links
        if previous is None or underlay(previous) == underlay(links):
            return
        self._names.forget_waits(now)
        if self._planned is not None and self._planned.full_tunnel is not None:
            # What is on the same wire may go past it.
            self._planned = None
        if any(link.up and link.addresses for link in links):
            self._renew_all("the underlay changed")

    def _resolved(self, event: NameResolved, now: float) -> None:
        if not self._names.resolved(event.host, event.addresses, now):
            return
        for key, peer in self.peers.items():
            if event.host in peer.names():
                peer.roamed = None if peer.silent_s > 0 else peer.roamed
                self._renew(key, f"{event.host} resolved anew")

    def _use_names(self, now: float) -> None:
        hosts = [peer.names() for peer in self.peers.values()]
        self._names.use(set[str]().union(*hosts), now)

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

    def _settle(self, now: float) -> None:
        for host in self._names.due(now):
            self._do(Resolve(host))
        if self._sockets and self.plane.due(now):
            self._do(StartPlane())
        desired = self.desired()
        if desired is not None and self.plane.pid is not None and desired != self._pushed:
            self._pushed = desired
            self._do(Push(desired, self._seen))
        if self.plan is not None and self.plan != self._planned:
            self._planned = self.plan
            self._do(ApplyHost(self.plan))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _announce(self, what: str, why: str, public_key: bytes | None = None) -> None:
        self._do(Announce(what, why, public_key))


def underlay(links: tuple[Link, ...]) -> frozenset[tuple[object, ...]]:
    """What about the links decides where packets can go."""
    return frozenset(
        (link.index, link.up, frozenset(link.addresses), link.default)
        for link in links
        if link.addresses or link.default
    )
