"""A world in which peers come from a server's netmaps, and relays join whom nothing else does.

Machines know nobody at first: each is a member of one network, whose server and relays have addresses of
their own. What must hold is counted by pings, as sparse as the run is long, and watched on the way:

    no plaintext        what a relay forwards is WireGuard or ours, as everything on any wire (I2)
    no packet astray    nothing is sent to who was revoked, nor taken from there, once its peers must know
    no loss             each ping is answered within a second; those that are not are kept with their time
"""

from __future__ import annotations

from typing import Any

import msgspec
from tests.core.netmaps import NOW
from tests.sim.machine import _HEADER, PACKET, Machine
from tests.sim.mesh import STUN_PORT, SimRelay, Tie, Tied, stun_answer
from tests.sim.network import Nat, Uplink
from tests.sim.server import SimServer
from tests.sim.world import KINDS_ON_WIRE, Pair, World, wrong_in

from shore._native import ModelPlane
from shore.core import actions as do
from shore.core import events
from shore.core.relays import is_place, place_of
from shore.model.config import TunnelConfig

ANSWERED_WITHIN = 1.0
# After this, nobody sends to who was revoked, and nobody takes anything from there.
REVOKED_WITHIN = 5.0
ICMP = 1
_PADDING = bytes(PACKET - _HEADER.size)


class LinkedPlane:
    """A data plane whose links somebody carries."""

    def __init__(self, plane: ModelPlane, tie: Tie) -> None:
        self._plane, self._tie = plane, tie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plane, name)

    def outcome(self) -> tuple[list[tuple[int | None, int, str, bytes]], list[tuple[int, bytes]], float]:
        datagrams, facts, deadline = self._plane.outcome()
        direct = []
        for peer, socket, remote, datagram in datagrams:
            if not is_place(remote):
                direct.append((peer, socket, remote, datagram))
            elif (tied := self._tie.links.get(socket)) is not None:
                tied.send(remote, datagram)
        return direct, facts, deadline


class MeshMachine(Machine):
    """A machine whose brain is a member of the network."""

    world: MeshWorld

    def __init__(self, world: MeshWorld, number: int, uplinks: list[Uplink]) -> None:
        self.base = TunnelConfig("shore0", bytes([number]) * 32, host_managed=False)
        super().__init__(world, number, self.base, uplinks)
        self.tie = Tie(world, self)
        self.later = self._later
        self._born_before = False

    @property
    def life(self) -> int:
        return self._life

    def start(self) -> None:
        self.tie.begin(restarted=self._born_before)
        self._born_before = True
        super().start()

    def crash(self, back_after: float) -> None:
        self.tie.plane_died()
        super().crash(back_after)
        self.config = msgspec.structs.replace(self.base, private_key=self.config.private_key)

    def plane_dies(self, reason: str = "killed") -> None:
        self.tie.plane_died()
        super().plane_dies(reason)

    def links_changed(self) -> None:
        self.tie.links_moved()
        super().links_changed()

    def tell(self, event: events.Event) -> None:
        if isinstance(event, events.PlaneAnswered):
            event = msgspec.structs.replace(event, links=self.tie.counters())
        super().tell(event)

    def new_link(self) -> int:
        self._last_socket += 1
        return self._last_socket

    def link_up(self, number: int, observed: str) -> None:
        if self.plane is not None:
            self.plane.link_up(number, observed, self.world.now)
            self._settle()

    def link_down(self, number: int, why: str) -> None:
        if self.plane is not None:
            self.plane.link_down(number, why, self.world.now)
            self._settle()

    def hear_away(self, number: int, remote: str) -> None:
        if self.plane is not None:
            self.plane.away(number, remote, self.world.now)
            self._settle()

    def deliver_at(self, number: int, place: str, datagram: bytes) -> None:
        """A datagram from a relay."""
        if self.plane is not None and self.asleep_since is None:
            opened = self.plane.receive(number, place, datagram, self.world.now)
            if opened is not None:
                self._take(opened)
            self._settle()

    def _take(self, opened: bytes) -> bool:
        # What the heart asks of peers that it does not know as Shore nodes yet; our host answers no echo.
        return opened[9] != ICMP and super()._take(opened)

    def send(self, target: int, kind: int, number: int, size: int = PACKET) -> None:
        if self.plane is not None and self.asleep_since is None:
            self.plane.send(inner_packet(self.number, target, kind, number), self.world.now)
            self._settle()

    def _start_plane(self, start: int) -> None:
        before = self.plane
        super()._start_plane(start)
        if self.plane is not None and self.plane is not before:
            self.plane = LinkedPlane(self.plane, self.tie)  # type: ignore[assignment]

    def _push(self) -> None:
        super()._push()
        if self.applied is not None:
            self.tie.pushed(self.applied.links)

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.DialRelay():
                self.tie.dial(action)
            case do.CloseLink():
                self.tie.close(action.id)
            case do.Call():
                self.tie.call(action.public_key)
            case do.TellPeers():
                self.tie.tell_peers(action.kind)
            case _:
                super()._perform(action)


class MeshWorld(World):
    """Add machines, then `start`. `nats` are those of the machines in turn, None for a public address."""

    machines: list[MeshMachine]  # type: ignore[assignment]

    def __init__(
        self,
        seed: int,
        nats: tuple[Nat | None, ...],
        *,
        relays: int = 1,
        key_lifetime_s: float | None = None,
        make_relay: type[SimRelay] = SimRelay,
    ) -> None:
        super().__init__(seed)
        self.ping_every = 0.05
        self.look_every = 0.5
        self.losses: list[tuple[float, str]] = []
        self.answers: list[tuple[float, str]] = []
        # Packets that a machine took a second time, of those that it took.
        self.twice = 0
        self._taken: set[tuple[int, int, int]] = set()
        self.astray: dict[bytes, float] = {}
        self.server = SimServer(self, self._apart("192.88.99.1"), key_lifetime_s)
        self.relays = {
            name: make_relay(self, name, self._apart(f"192.88.99.{n + 2}"))
            for n, name in enumerate(f"r{n + 1}" for n in range(relays))
        }
        for n, nat in enumerate(nats):
            number = n + 1
            address = f"192.0.{number}.1" if nat is None else f"10.{number}.0.2"
            uplink = Uplink(n, "eth0", 2, address, nat, delay=0.01)
            self.internet.join(uplink)
            machine = MeshMachine(self, number, [uplink])
            self.machines.append(machine)
            self.server.enrol(machine.tie)

    @property
    def wall(self) -> float:
        """Seconds of the Unix epoch."""
        return NOW + self.now

    def start(self) -> None:
        self.server.begin()
        super().start()

    def block(self, a: Machine, b: Machine, count: int = 1) -> None:
        """No datagram between two machines any more; streams to relays go on."""
        self.internet.cut(a.uplinks[0], b.uplinks[0], count)
        self.internet.cut(b.uplinks[0], a.uplinks[0], count)

    def way(self, a: Machine, b: Machine) -> str | None:
        """The kind of the path in use that answers."""
        counters = None if a.node is None else a.node.counters.get(b.public_key)
        paths = () if counters is None else counters.paths
        return next((path.kind for path in paths if path.primary and path.state == "live"), None)

    def exit_of(self, machine: Machine) -> Uplink | None:
        """The uplink of its default route."""
        return next((uplink for uplink in machine.uplinks if uplink.up and not uplink.only6), None)

    def revoke(self, machine: MeshMachine) -> None:
        """The server revokes it, and everybody must know soon."""
        self.server.revoke(machine.tie)
        self.astray[machine.public_key] = self.now + REVOKED_WITHIN

    def lost(self, since: float, until: float | None = None) -> list[tuple[float, str]]:
        """Pings of that time that were not answered in a second."""
        return [entry for entry in self.losses if since <= entry[0] < (until or self.now)]

    def gap(self, since: float) -> float | None:
        """Seconds from then until the first answer; None if there was none."""
        return next((at - since for at, _ in self.answers if at >= since), None)

    def carry(self, sender: Machine, uplink: Uplink, port: int, remote: str, *rest: Any) -> None:
        home, at = self.internet.home(remote)
        if home is not None and home.owner < 0:
            self._ask_stun(sender, uplink, port, remote, home, rest[0], known=at == STUN_PORT)
            return
        if home is not None:
            peer = self.machines[home.owner].public_key
            self._check_astray(sender.public_key, peer)
            known = sender.node.peers.get(peer) if sender.node is not None else None
            # Data may go where the network says that the peer is, and nowhere else that is not proved.
            if known is not None and any(remote == each.endpoint for each in known.config.candidates):
                sender.proved.add(remote)
        super().carry(sender, uplink, port, remote, *rest)

    def _ask_stun(
        self,
        sender: Machine,
        uplink: Uplink,
        port: int,
        remote: str,
        home: Uplink,
        request: bytes,
        *,
        known: bool,
    ) -> None:
        relay = next((relay for relay in self.relays.values() if relay.uplink is home), None)
        if not known or relay is None or request[:2] != b"\0\1":
            self.broken(f"machine {sender.number} sent {request[:2]!r} to {remote}")
        source = f"{uplink.address}:{port}"
        if uplink.nat is not None:
            source = uplink.nat.leave(source, remote, self.now, self.chance)
        back, at = self.internet.home(source)
        if relay.up and back is uplink and self.internet.carries(uplink, home):
            delay = 2 * (uplink.delay + home.delay)
            self.after(delay, self._deliver, sender, remote, uplink, at, remote, stun_answer(request, source))

    def check_forwarded(self, tied: Tied, remote: str, datagram: bytes) -> None:
        """A relay was given this."""
        if datagram[0] not in KINDS_ON_WIRE:
            self.broken(f"I2: {datagram[0]:#x} in the clear by a relay")
        for key, at in self.astray.items():
            if self.now > at and (remote == place_of(key) or tied.node_key == key):
                self.broken(f"a datagram by {tied.relay.name} of or for who was revoked")

    def arrived(
        self, machine: Machine, source: bytes, target: bytes, kind: int, number: int, large: bool
    ) -> None:
        pinger, pinged = number // 10 % 10, number % 10
        wanted = (pinged, pinger) if kind == 0 else (pinger, pinged)
        if (source[3], target[3]) != wanted or target[3] != machine.number:
            self.broken(f"I1: machine {machine.number} got a packet of {source[3]} for {target[3]}")
        key = self.key_of(source[3])
        if self.now > self.astray.get(key, float("inf")):
            self.broken(f"machine {machine.number} took a packet of {source[3]}, which was revoked")
        self.twice += (machine.number, kind, number) in self._taken
        self._taken.add((machine.number, kind, number))
        if kind == 0:
            pair = self._pings[(pinger, pinged)]
            sent = pair.waiting.pop(number, None)
            if sent is not None:
                pair.answered = self.now
                self.answers.append((self.now, str(pair)))

    def checked(self, machine: Machine) -> None:
        for wrong in wrong_in(machine):
            self.broken(wrong)

    def _check_astray(self, *keys: bytes) -> None:
        for key in keys:
            if self.now > self.astray.get(key, float("inf")) and keys[0] != key:
                self.broken("a datagram to who was revoked")

    def _beat(self, machine: Machine) -> None:
        self.after(self.ping_every, self._beat, machine)
        if machine.asleep_since is not None or machine.plane is None:
            return
        for pair in self.pairs:
            if pair.a is machine:
                self._number += 1
                number = self._number * 100 + machine.number * 10 + pair.b.number
                pair.sent += 1
                pair.waiting[number] = self.now
                self.after(ANSWERED_WITHIN, self._judge, pair, number)
                machine.send(pair.b.number, 8, number)

    def _judge(self, pair: Pair, number: int) -> None:
        sent = pair.waiting.pop(number, None)
        if sent is not None:
            pair.lost += 1
            self.losses.append((sent, str(pair)))

    def _watch(self) -> None:
        """What needs configurations that find each other is not watched here."""

    def _apart(self, address: str) -> Uplink:
        uplink = Uplink(-1, "eth0", 2, address, delay=0.005)
        self.internet.join(uplink)
        return uplink


def inner_packet(source: int, target: int, kind: int, number: int) -> bytes:
    """As `machine.packet`, between addresses of the mesh."""
    return _HEADER.pack(0x45, PACKET, _inner(source), _inner(target), kind, number) + _PADDING


def _inner(number: int) -> bytes:
    return bytes((100, 64, 0, number))
