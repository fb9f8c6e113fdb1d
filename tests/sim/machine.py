"""One simulated machine: the heart of a tunnel, its data plane, and the shell between them.

The shell does what `shore.node` does, without a kernel: it opens sockets, pushes desired states, starts and
kills planes, resolves names, asks questions, tells facts. The brain may be stopped or begun anew while the
plane carries on, and the other way round; a plane that died takes its sessions with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from tests.sim.doors import Doors, Opened
from tests.sim.network import Uplink

from shore._native import ModelPlane
from shore.core import actions as do
from shore.core import events
from shore.core.node import Node
from shore.model.config import TunnelConfig
from shore.model.desired import DesiredState, Socket
from shore.model.facts import Acquainted, Fact, PeerCounters
from shore.model.links import Family, Link

if TYPE_CHECKING:
    from tests.sim.world import World

QUESTION_EVERY = 0.5
COUNTERS_EVERY = 2
STARTING_TAKES = 0.05
PUSHING_TAKES = 0.002
RESOLVING_TAKES = 0.03

_encode = msgspec.msgpack.Encoder().encode
_decode_fact = msgspec.msgpack.Decoder(Fact).decode
_decode_counters = msgspec.msgpack.Decoder(tuple[PeerCounters, ...]).decode
_HEADER = struct.Struct(">BxH8x4s4sBxxxI")
PACKET, LARGE = 92, 1360


@cache
def inner(number: int) -> bytes:
    """The address of a machine inside the tunnels, in bytes."""
    return bytes((10, 0, 0, number))


@cache
def _padding(size: int) -> bytes:
    return bytes(size - _HEADER.size)


def packet(source: int, target: int, kind: int, number: int, size: int = PACKET) -> bytes:
    """An inner packet; kind 8 asks for an answer and 0 is one, as in ICMP."""
    return _HEADER.pack(0x45, size, inner(source), inner(target), kind, number) + _padding(size)


def _families(uplink: Uplink) -> tuple[Family, ...]:
    both: tuple[Family, ...] = (4, 6)
    return tuple(family for family in both if uplink.up and uplink.has(family))


def _all_families(uplinks: list[Uplink]) -> list[Family]:
    both: tuple[Family, ...] = (4, 6)
    return [family for family in both if family == 4 or any(up.has(family) for up in uplinks)]


class Machine:
    """Machine `number`, from 1. `uplinks` in the order of their default routes."""

    def __init__(self, world: World, number: int, config: TunnelConfig, uplinks: list[Uplink]) -> None:
        self.world = world
        self.number = number
        self.config = config
        self.uplinks = uplinks
        self.public_key = ModelPlane.public_key(config.private_key or bytes(32))
        self.node: Node | None = None
        self.plane: ModelPlane | None = None
        self.applied: DesiredState | None = None
        self.doors = Doors(uplinks)
        self.asleep_since: float | None = None
        self.stalled = False
        self.resolver_up = True
        self.announced: list[tuple[float, do.Announce]] = []
        # Where its datagrams were taken, or where it was spoken to from, in this plane's life.
        self.proved: set[str] = set()
        # Who was found to be a Shore node in this plane's life.
        self.acquainted: set[bytes] = set()
        self.disturbed = 0.0
        # Since when it remembers what it learnt of others.
        self.born = 0.0
        self._last_socket = 0
        self._pid = 0
        self._starts = 0
        self._pending: do.Push | None = None
        self._facts: list[tuple[int, Fact]] = []
        self._inbox: list[events.Event] = []
        self._draining = False
        self._wake_at = float("inf")
        # When the plane wants a tick, and when it was last scheduled: earlier, if anything.
        self._deadline = 0.0
        self._tick_at = float("inf")
        self._life = 0
        self._questions = 0
        # Whether this brain was told the counters of all peers by this plane.
        self._told_all = False
        # Paths by which data must not be fragmented.
        self._sized: frozenset[tuple[int, str]] = frozenset()

    @property
    def sockets(self) -> dict[int, Opened]:
        """The open ones."""
        return self.doors.sockets

    # Life.

    def start(self) -> None:
        """Bring the tunnel up from nothing."""
        self.node = Node()
        self.disturbed = self.world.now
        self.tell(events.Configured(self.config))
        self.links_changed()
        self._later(QUESTION_EVERY, self._ask)

    def crash(self, back_after: float) -> None:
        """Everything of it dies, and is started again from the configuration."""
        self._life += 1
        self.node, self.plane, self.applied = None, None, None
        self.doors.hold({})
        self._facts, self._pending, self._inbox = [], None, []
        self.proved, self.acquainted = set(), set()
        self._wake_at = self._tick_at = float("inf")
        self.disturbed = self.born = self.world.now + back_after
        self.stalled, self.asleep_since = False, None
        self.world.after(back_after, self._revive, self._life)

    def _revive(self, life: int) -> None:
        if life == self._life:
            self.start()

    def plane_dies(self, reason: str = "killed") -> None:
        """The data plane ends; the brain hears of it."""
        if self.plane is None:
            return
        self.plane, self.applied, self._facts = None, None, []
        self.proved, self.acquainted = set(), set()
        self._tick_at = float("inf")
        self.disturbed = self.world.now
        self._later(0.001, self.tell, events.PlaneLost(reason))

    def brain_restarts(self) -> None:
        """Another brain attaches to the running plane, or starts one."""
        self._inbox = []
        self._starts += 1
        self.stalled = self._told_all = False
        self._wake_at = float("inf")
        plane_held = self.plane is not None and self.applied is not None
        port = self.node.listen_port if self.node is not None else 0
        self.node = Node()
        if plane_held and self.applied is not None:
            held = {socket.id for socket in self.applied.sockets}
            self.doors.hold({number: one for number, one in self.sockets.items() if number in held})
            self.tell(events.Attached(self.config, self._pid, self.applied, port))
            for serial, fact in self._facts:
                self.tell(events.FactTold(serial, fact))
        else:
            self.plane = None
            self.doors.hold({})
            self._tick_at = float("inf")
            self.disturbed = self.world.now
            self.tell(events.Configured(self.config))
        self.links_changed()

    def stall(self) -> None:
        """The brain stops thinking, the plane carries on."""
        self.stalled = True

    def think_again(self) -> None:
        """The brain goes on where it was."""
        self.stalled = False
        self._drain()

    def sleep(self) -> None:
        """Nothing of it runs."""
        if self.asleep_since is None:
            self.asleep_since = self.world.now

    def wake(self) -> None:
        """The machine was asleep, and both processes notice."""
        if self.asleep_since is None:
            return
        slept, self.asleep_since = self.world.now - self.asleep_since, None
        self.disturbed = self.world.now
        self._tick()
        self.tell(events.Resumed(slept))

    def links_changed(self) -> None:
        """Tell the links as they are."""
        links = tuple(
            Link(up.name, up.index, up.up, up.whole_mtu, up.addresses if up.up else (), _families(up))
            for up in self.uplinks
        )
        self.tell(events.LinksChanged(links))

    # The brain: feed, drain, re-arm.

    def tell(self, event: events.Event) -> None:
        """Take an event; carry out what follows from it before the next one."""
        self._inbox.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._draining or self.stalled or self.asleep_since is not None or self.node is None:
            return
        self._draining = True
        while self._inbox:
            for action in self.node.handle(self._inbox.pop(0), self.world.now):
                self._perform(action)
        self._draining = False
        deadline = self.node.deadline()
        if deadline is not None and deadline < self._wake_at:
            self._wake_at = deadline
            self._later(deadline - self.world.now, self._woke, deadline)

    def _woke(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = float("inf")
            self.tell(events.Woke())

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.Push():
                if self._pending is None:
                    self._later(PUSHING_TAKES, self._push)
                self._pending = action
            case do.OpenSockets():
                port = action.port or 51820
                made = tuple(self._open(family, port, None) for family in _all_families(self.uplinks))
                self.tell(events.SocketsOpened(port, made))
            case do.OpenExtraSocket():
                port = 40000 + self._last_socket
                family = 6 if action.family == 6 else 4
                self.tell(events.ExtraSocketOpened(action.public_key, self._open(family, port, None)))
            case do.OpenUplinkSocket():
                name, index, of = action.way
                if any(up.name == name and up.index == index and up.up for up in self.uplinks):
                    opened = self._open(of, action.port, name)
                    self.tell(events.UplinkSocketOpened(action.way, opened))
                else:
                    self.tell(events.UplinkSocketFailed(action.way, "No such device"))
            case do.StartPlane():
                self._starts += 1
                self._later(STARTING_TAKES, self._start_plane, self._starts)
            case do.KillPlane():
                self.plane_dies(action.why)
            case do.Measure():
                if self.plane is not None:
                    self.plane.measure(_encode(action.questions), self.world.now)
            case do.Resolve():
                self._later(RESOLVING_TAKES, self._resolve, action.host)
            case do.Announce():
                self.announced.append((self.world.now, action))
                self.world.note(self.number, partial(self._said, action))
            case do.GoDown():
                self.world.broken(f"machine {self.number} went down: {action.why}")
            case _:
                pass

    def _open(self, family: Literal[4, 6], port: int, uplink: str | None) -> Socket:
        self._last_socket += 1
        self.doors.open(Opened(self._last_socket, family, port, uplink))
        return Socket(self._last_socket, family, uplink)

    def _start_plane(self, start: int) -> None:
        if start != self._starts:
            return
        self._pid += 1
        self.plane = ModelPlane(self.world.plane_seed(), self.world.now)
        self.applied, self._told_all = None, False
        self.proved, self.acquainted = set(), set()
        self.tell(events.PlaneStarted(self._pid))

    def _push(self) -> None:
        push, self._pending = self._pending, None
        if push is None or self.plane is None:
            return
        try:
            self.plane.apply(_encode(push.state), push.seen, self.world.now)
        except ValueError as error:
            self.world.broken(f"machine {self.number}: desired state refused: {error}")
            return
        self.applied = push.state
        self.doors.enforce(frozenset(socket.id for socket in push.state.sockets))
        paths = [path for peer in push.state.peers for path in peer.paths]
        self._sized = frozenset((path.socket, path.remote) for path in paths if path.mtu is not None)
        self._facts = [(serial, fact) for serial, fact in self._facts if serial > push.seen]
        named = {socket.id for socket in push.state.sockets}
        kept = {n: one for n, one in self.sockets.items() if n in named or self._holds(n)}
        self.doors.hold(kept)
        self._settle()

    def _holds(self, number: int) -> bool:
        """Whether the brain knows of a socket that it has not pushed yet."""
        if self.node is None:
            return False
        extras = [peer.extra for peer in self.node.peers.values() if peer.extra is not None]
        return any(socket.id == number for socket in (*self.node.underlay.sockets.all(), *extras))

    def _resolve(self, host: str) -> None:
        addresses = self.world.names.get(host, ())
        reachable = self.resolver_up and any(up.up and not up.hole_out for up in self.uplinks)
        if reachable and addresses:
            self.tell(events.NameResolved(host, addresses))
        else:
            self.tell(events.NameFailed(host, "no answer"))

    def _ask(self) -> None:
        self._later(QUESTION_EVERY, self._ask)
        if self.stalled or self.asleep_since is not None or self.node is None:
            return
        if self.plane is None:
            return
        self._questions += 1
        wary = any(peer.judge.is_wary for peer in self.node.peers.values())
        if self._questions % COUNTERS_EVERY and not wary:
            self.tell(events.PlaneAnswered({}, {}))
            return
        whole, self._told_all = not self._told_all, True
        counters = _decode_counters(self.plane.counters(not whole, self.world.now))
        self.tell(events.PlaneAnswered({}, {}, counters, whole))
        self.world.checked(self)

    # The plane.

    def send(self, target: int, kind: int, number: int, size: int = PACKET) -> None:
        """A packet from the TUN."""
        if self.plane is not None and self.asleep_since is None:
            sent = packet(self.number, target, kind, number, size)
            carried = self.plane.send(sent, self.world.now)
            if carried < size:
                # An ICMP message told the sender.
                self.plane.send(packet(self.number, target, kind, number, carried), self.world.now)
            self._settle()

    def deliver(self, uplink: Uplink, port: int, family: int, remote: str, datagram: bytes) -> None:
        """A datagram for one of our endpoints."""
        if self.plane is None or self.asleep_since is not None or self.applied is None:
            return
        number = self.doors.listener(uplink, port, family)
        if number is None:
            return
        opened = self.plane.receive(number, remote, datagram, self.world.now)
        if opened is None or not self._take(opened):
            self._settle()

    def _take(self, opened: bytes) -> bool:
        """A packet for the TUN. Returns whether it was answered, and everything settled thereby."""
        _, size, source, target, kind, number = _HEADER.unpack_from(opened)
        self.world.arrived(self, source, target, kind, number, size > PACKET)
        if kind != 8:
            return False
        self.send(source[3], 0, number, size)
        return True

    def _settle(self) -> None:
        plane = self.plane
        if plane is None:
            return
        now = self.world.now
        datagrams, facts, deadline = plane.outcome()
        for peer, socket, remote, datagram in datagrams:
            way = self.doors.exit(socket)
            if way is None:
                plane.refused(peer, socket, remote, now)
                deadline = now
            else:
                fragments = (socket, remote) not in self._sized
                self.world.carry(self, way[0], way[1], remote, datagram, fragments)
        for serial, message in facts:
            fact = _decode_fact(message)
            self._facts.append((serial, fact))
            if isinstance(fact, Acquainted):
                self.acquainted.add(fact.public_key)
            self.world.note(self.number, partial(self._told, fact))
            self.tell(events.FactTold(serial, fact))
        self._deadline = deadline
        if deadline < self._tick_at:
            self._tick_at = deadline
            self.world.at(max(deadline, now), self._tick_due, deadline)

    def _said(self, said: do.Announce) -> str:
        return f"SAYS {self._of(said.public_key)}{said.what}: {said.why}"

    def _told(self, fact: Fact) -> str:
        values = [f"{name}={getattr(fact, name)}" for name in fact.__struct_fields__ if name != "public_key"]
        return f"{self._of(getattr(fact, 'public_key', None))}{type(fact).__name__} {' '.join(values)}"

    def _of(self, key: bytes | None) -> str:
        numbers = {machine.public_key: machine.number for machine in self.world.machines}
        return f"[m{numbers[key]}] " if key else ""

    def _tick_due(self, at: float) -> None:
        if at != self._tick_at:
            return
        self._tick_at = float("inf")
        if self.asleep_since is not None:
            return
        if self._deadline > self.world.now:
            self._tick_at = self._deadline
            self.world.at(self._deadline, self._tick_due, self._deadline)
        else:
            self._tick()

    def _tick(self) -> None:
        if self.plane is not None:
            self.plane.tick(self.world.now)
            self._settle()

    def _later(self, delay: float, what: Callable[..., Any], *arguments: object) -> None:
        """Do it unless the machine has crashed by then."""
        self.world.after(delay, self._alive, self._life, what, arguments)

    def _alive(self, life: int, what: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if life == self._life:
            what(*arguments)
