"""A mesh on virtual time: relays, and what ties a machine to them and to the server (`server`).

The nodes' side is the product's own (`core.membership`, `core.mesh`, `core.relays`). What is modelled is what
lies between: a stream leaves by one uplink and address, delivers while those carry, and is stuck for good
after the first thing that it could not deliver, as nobody would tell its ends. Whoever hears nothing for 20 s
ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.core.netmaps import NETWORK, ROOT, SIGNER

from shore._native import ModelPlane
from shore.core import actions as do
from shore.core import events
from shore.core import member_events as on
from shore.core.membership import Member, Membership
from shore.core.mesh import call_to, meant_by, tunnel_config
from shore.core.relays import place_of
from shore.model.facts import LinkCounters
from shore.model.netmap import Admission, Relay, Signed
from shore.wire import control, signing
from shore.wire.relay import tag_of

if TYPE_CHECKING:
    from tests.sim.machine import Machine
    from tests.sim.meshworld import MeshWorld
    from tests.sim.network import Uplink

    from shore.model.desired import RelayLink

SILENT_FOR = 20.0
LOOK_EVERY = 0.5
PING_EVERY = 2.0
STUN_PORT = 3478


class Stream:
    """A TCP connection from a machine to a server or relay at `far`."""

    def __init__(self, world: MeshWorld, machine: Machine, near: Uplink, far: Uplink) -> None:
        self.world, self.machine, self.near, self.far = world, machine, near, far
        self.address = near.address
        self.life = machine.life
        self.stuck = self.ended = False
        self.heard_at = world.now

    def delay(self, *, up: bool) -> float | None:
        """How long something takes on it; None if it does not arrive, nor anything after it."""
        near, far, carries = self.near, self.far, self.world.internet.carries
        lives = self.machine.life == self.life and self.machine.asleep_since is None
        way = carries(near, far) if up else carries(far, near)
        if self.ended or self.stuck or not lives or near.address != self.address or not way:
            self.stuck = True
            return None
        return near.delay + far.delay


class SimRelay:
    """One relay, at an address of its own. `up` is whether its process runs."""

    def __init__(self, world: MeshWorld, name: str, uplink: Uplink) -> None:
        self.world, self.name, self.uplink = world, name, uplink
        self.pin = name.encode().ljust(32, b"\0")
        self.up = True
        self.revoked: set[bytes] = set()
        self.streams: dict[bytes, Tied] = {}
        self.forwarded = 0

    @property
    def record(self) -> Relay:
        address = self.uplink.address
        return Relay(self.name, self.pin, (f"{address}:443",), (f"{address}:{STUN_PORT}",))

    def die(self) -> None:
        """SIGKILL: the kernel resets its streams."""
        self.up = False
        for tied in list(self.streams.values()):
            tied.end("the relay closed it", told=True)
        self.streams.clear()

    def revoke(self, node_key: bytes) -> None:
        self.revoked.add(node_key)
        tied = self.streams.pop(tag_of(node_key), None)
        if tied is not None:
            tied.end("this node was revoked", told=True)

    def prove(self, tied: Tied) -> str | None:
        """Why it does not let a stream in, or None."""
        signed = msgspec.msgpack.decode(tied.wish.admission, type=Signed)
        admission = signing.unseal(signed, signing.ADMISSION, Admission)
        key = signing.public_of(Ed25519PrivateKey.from_private_bytes(tied.wish.admission_key))
        if signed.by != signing.public_of(SIGNER) or admission.relay != self.pin:
            return "the admission is for another relay"
        if admission.expires_at <= self.world.wall or admission.admission_key != key:
            return "the admission is not good"
        if admission.node_key in self.revoked:
            return "this node was revoked"
        tag = tag_of(admission.node_key)
        older = self.streams.pop(tag, None)
        if older is not None:
            older.end("replaced", told=True)
        self.streams[tag] = tied
        tied.node_key, tied.tag = admission.node_key, tag
        return None

    def forward(self, tied: Tied, remote: str, datagram: bytes) -> None:
        """A datagram came by a stream, for whoever is at that place."""
        if not self.up or self.streams.get(tied.tag) is not tied:
            return
        tied.stream.heard_at = self.world.now
        self.forwarded += 1
        self.world.check_forwarded(tied, remote, datagram)
        for other in self.streams.values():
            if place_of(other.node_key) == remote:
                delay = other.stream.delay(up=False)
                if delay is not None:
                    self.world.after(delay, other.receive, place_of(tied.node_key), datagram)
                return
        delay = tied.stream.delay(up=False)
        if delay is not None and self.world.now >= tied.away_said.get(remote, 0.0) + 1.0:
            tied.away_said[remote] = self.world.now
            self.world.after(delay, tied.hear_away, remote)


def stun_answer(request: bytes, source: str) -> bytes:
    """What a relay answers to a binding request from there (RFC 8489, IPv4)."""
    host, _, port = source.rpartition(":")
    cookie = request[4:8]
    address = bytes(a ^ b for a, b in zip(map(int, host.split(".")), cookie, strict=True))
    mapped = b"\0\1" + (int(port) ^ int.from_bytes(cookie[:2])).to_bytes(2) + address
    return b"\1\1\0\x0c" + request[4:20] + b"\0\x20\0\x08" + mapped


class Tied:
    """A machine's link to a relay, both ends of it."""

    def __init__(self, tie: Tie, relay: SimRelay, number: int, stream: Stream) -> None:
        self.tie, self.relay, self.number, self.stream = tie, relay, number, stream
        self.wish: RelayLink
        self.node_key = self.tag = b""
        self.up = False
        self.since = tie.world.now
        self.away_said: dict[str, float] = {}

    def prove(self, wish: RelayLink) -> None:
        """The plane has it: TLS and the proof take two round trips."""
        self.wish = wish
        delay = self.stream.delay(up=True)
        if delay is not None:
            self.tie.world.after(4 * delay, self._proved)
        self.tie.world.after(PING_EVERY, self._look)

    def send(self, remote: str, datagram: bytes) -> None:
        delay = self.stream.delay(up=True) if self.up else None
        if delay is not None:
            self.tie.world.after(delay, self.relay.forward, self, remote, datagram)

    def receive(self, place: str, datagram: bytes) -> None:
        if not self.stream.ended:
            self.stream.heard_at = self.tie.world.now
            self.tie.machine.deliver_at(self.number, place, datagram)

    def hear_away(self, remote: str) -> None:
        if not self.stream.ended:
            self.tie.machine.hear_away(self.number, remote)

    def end(self, why: str, *, told: bool = False) -> None:
        """It is no more; `told`: the far end says so, if that arrives."""
        if self.stream.ended:
            return
        delay = self.stream.delay(up=False) if told else 0.0
        if delay is not None:
            self.stream.ended = True
            self.tie.world.after(delay, self.tie.lost, self, why)

    def close(self) -> None:
        """Our end closes it."""
        self.stream.ended = True
        if self.relay.streams.get(self.tag) is self:
            del self.relay.streams[self.tag]

    def counters(self) -> LinkCounters:
        state = "up" if self.up else "connecting"
        rtt = 2000 * (self.stream.near.delay + self.stream.far.delay)
        return LinkCounters(self.number, state, self.tie.world.now - self.since, rtt, 0, 0, 0)

    def _proved(self) -> None:
        if self.stream.ended or self.stream.delay(up=False) is None:
            return
        refused = self.relay.prove(self) if self.relay.up else "the relay closed it"
        if refused is not None:
            self.end(refused, told=True)
            return
        self.up, self.since = True, self.tie.world.now
        self.stream.heard_at = self.tie.world.now
        self.tie.machine.link_up(self.number, f"{self.stream.near.public}:4000")

    def _look(self) -> None:
        """Pings, as both ends see them."""
        if self.stream.ended:
            return
        world = self.tie.world
        world.after(PING_EVERY, self._look)
        lives = self.relay.up and self.relay.streams.get(self.tag) is self
        if lives and None not in (self.stream.delay(up=True), self.stream.delay(up=False)):
            self.stream.heard_at = world.now
        elif world.now - self.stream.heard_at > SILENT_FOR:
            if self.relay.streams.get(self.tag) is self:
                del self.relay.streams[self.tag]
            self.end("nothing was heard for 20 s")


class Tie:
    """A machine's membership and its links, as `shore.node.mesh` and `shore.io` hold them."""

    def __init__(self, world: MeshWorld, machine: Machine) -> None:
        self.world, self.machine = world, machine
        self.machine_key = Ed25519PrivateKey.from_private_bytes(bytes([100 + machine.number]) * 32)
        self.links: dict[int, Tied] = {}
        self.link: Stream | None = None
        self.nonce = b""
        self.membership: Membership
        self.held = None
        self._wake_at = float("inf")
        self._drawn: bytes | None = None
        self._inbox: list[on.Event] = []
        self._busy = False

    def begin(self, *, restarted: bool = False) -> None:
        """A brain has come."""
        config = self.machine.config
        assert config.private_key is not None
        seed = self.world.chance.randbytes(32)
        self.machine.config = msgspec.structs.replace(config, admission_key=seed)
        member = Member(
            machine_key=self.machine_key,
            node_key=ModelPlane.public_key(config.private_key),
            admission_key=signing.public_of(Ed25519PrivateKey.from_private_bytes(seed)),
            root_hash=signing.fingerprint(signing.public_of(ROOT)),
            addresses=(f"{self.world.server.uplink.address}:443",),
            network=NETWORK,
            root=signing.public_of(ROOT),
        )
        self.links, self.link, self._inbox = {}, None, []
        self._wake_at = float("inf")
        self.membership = Membership(member, self.held, self.world.chance.random)
        if restarted:
            self.tell(on.SignalAsked(None, "restarted"))
        self.tell(on.Begun(self.world.wall))
        self.machine.later(LOOK_EVERY, self._look)

    def tell(self, event: on.Event) -> None:
        self._inbox.append(event)
        if self._busy:
            return
        self._busy = True
        while self._inbox:
            for action in self.membership.handle(self._inbox.pop(0), self.world.now):
                self._perform(action)
        self._busy = False
        deadline = self.membership.deadline()
        if deadline is not None and deadline < self._wake_at:
            self._wake_at = deadline
            self.machine.later(deadline - self.world.now, self._woke, deadline)

    def links_moved(self) -> None:
        """The underlay changed."""
        if self.machine.node is not None and hasattr(self, "membership"):
            self.tell(on.LinksMoved())

    def tell_peers(self, kind: control.SignalKind) -> None:
        node = self.machine.node
        self.tell(on.SignalAsked(None, kind, () if node is None else node.candidates()))

    def call(self, call: do.Call) -> None:
        node = self.machine.node
        self.tell(call_to(call, () if node is None else node.candidates()))

    def _woke(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = float("inf")
            self.tell(on.Woke())

    def _look(self) -> None:
        self.machine.later(self.world.look_every, self._look)
        node, netmap = self.machine.node, self.membership.netmap
        if node is not None and self.machine.asleep_since is None:
            relays = () if netmap is None else tuple(relay.id for relay in netmap.relays)
            self.tell(on.Moved(node.candidates(), relays[:2]))

    def _perform(self, action: on.Action) -> None:
        match action:
            case on.Dial():
                self.world.server.dialled(self)
            case on.Say():
                if self.link is not None:
                    self.world.server.told(self, self.link, action.content)
            case on.Unlink():
                if self.link is not None:
                    self.link.ended = True
                self.link = None
            case on.Keep():
                self.held = action.held
            case on.Use():
                self._use(action)
            case on.Deliver():
                for event in meant_by(action):
                    self.machine.tell(event)
            case on.DrawKey():
                self._drawn = self.world.chance.randbytes(32)
                self.machine.later(0.001, self.tell, on.KeyDrawn(ModelPlane.public_key(self._drawn)))
            case do.Announce():
                self.machine.announced.append((self.world.now, action))
            case _:
                pass

    def _use(self, use: on.Use) -> None:
        config = self.machine.config
        if self._drawn is not None and ModelPlane.public_key(self._drawn) == use.netmap.self.node_key:
            config = msgspec.structs.replace(config, private_key=self._drawn)
            self.machine.public_key = use.netmap.self.node_key
            self._drawn = None
        wanted = tunnel_config(config, use.netmap, time=use.time, admissions=use.admissions)
        if wanted != self.machine.config:
            self.machine.config = wanted
            self.machine.tell(events.Configured(wanted))

    # Relays.

    def dial(self, action: do.DialRelay) -> None:
        """Connect to a relay: a round trip, or a refusal, or a wait."""
        relay = self.world.relays[action.relay]
        near = self.world.exit_of(self.machine)
        carries = self.world.internet.carries
        reached = near is not None and carries(near, relay.uplink) and carries(relay.uplink, near)
        if near is None or not reached:
            self.machine.later(3.0, self.machine.tell, events.LinkDialFailed(relay.name, "no answer"))
            return
        trip = 2 * (near.delay + relay.uplink.delay)
        if not relay.up:
            self.machine.later(trip, self.machine.tell, events.LinkDialFailed(relay.name, "refused"))
            return
        number = self.machine.new_link()
        self.links[number] = Tied(self, relay, number, Stream(self.world, self.machine, near, relay.uplink))
        dialled = events.LinkDialled(relay.name, number, relay.uplink.address)
        self.machine.later(trip, self.machine.tell, dialled)

    def pushed(self, wishes: tuple[RelayLink, ...]) -> None:
        """The plane holds these links now."""
        for wish in wishes:
            tied = self.links.get(wish.id)
            if tied is not None and not hasattr(tied, "wish"):
                tied.prove(wish)

    def close(self, number: int) -> None:
        tied = self.links.pop(number, None)
        if tied is not None:
            tied.close()

    def plane_died(self) -> None:
        """TLS dies with a plane."""
        for number in list(self.links):
            self.close(number)

    def lost(self, tied: Tied, why: str) -> None:
        if self.links.get(tied.number) is tied:
            tied.up = False
            del self.links[tied.number]
            self.machine.link_down(tied.number, why)

    def counters(self) -> tuple[LinkCounters, ...]:
        return tuple(tied.counters() for tied in self.links.values() if hasattr(tied, "wish"))
