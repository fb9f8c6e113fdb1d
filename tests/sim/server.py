"""The coordination server on virtual time: real netmaps (`shore.coordination.netmaps`), really signed.

Its links are streams of `mesh`. It keeps the rules of docs/protocol/control.md, and believes every node: that
proofs are checked is for tests/coordination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from tests.core.netmaps import NETWORK, NOW, ROOT, SIGNER, statement
from tests.sim.mesh import SILENT_FOR, Stream, Tie

from shore.coordination.members import Member as Rolled
from shore.coordination.netmaps import DAY_S, Netmaps, Node
from shore.coordination.policy import STARTER, compile
from shore.core import member_events as on
from shore.model.netmap import LEASE_S, Admission, Head, Names
from shore.model.netmap import Server as ServerRecord
from shore.wire import control, signing

if TYPE_CHECKING:
    from tests.sim.meshworld import MeshWorld
    from tests.sim.network import Uplink

PIN = bytes([7] * 32)
SWEEP_EVERY = 30.0
COALESCE = 0.1
LONG = NOW + 4e8


class Session:
    """What the server knows of one link."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.said: control.Present | None = None
        self.version = 0


class SimServer:
    """The coordination server. `up` is whether it runs, `silent` whether it says and hears nothing."""

    def __init__(self, world: MeshWorld, uplink: Uplink, key_lifetime_s: float | None = None) -> None:
        self.world, self.uplink = world, uplink
        self.up, self.silent = True, False
        self.sessions: dict[Tie, Session] = {}
        self._lifetime = key_lifetime_s
        self._day = 0.0
        self._settling = False
        shared = (
            Names("shore.internal", "fd12:3456:789a::/48"),
            ServerRecord((f"{uplink.address}:443",), (statement(until=LONG),)),
        )
        self.netmaps = Netmaps(compile(STARTER), shared, 0)

    def enrol(self, tie: Tie) -> None:
        """It is a member."""
        number = tie.machine.number
        addresses = (f"100.64.0.{number}", f"fd12:3456:789a::{number:x}")
        rolled = Rolled(number, f"m{number}", "owner", (), addresses)
        expires = None if self._lifetime is None else self.world.wall + self._lifetime
        self.netmaps.put(
            Node(rolled, signing.public_of(tie.machine_key), tie.machine.public_key, expires_at=expires)
        )

    def begin(self) -> None:
        self.netmaps.offer(relay.record for relay in self.world.relays.values())
        self.netmaps.settle(self.world.wall)
        self._day = self.world.wall // DAY_S
        self.world.after(SWEEP_EVERY, self._sweep)

    def die(self) -> None:
        """SIGKILL: the kernel resets its links."""
        self.up = False
        for tie, session in list(self.sessions.items()):
            self._reset(tie, session)
        self.sessions.clear()

    def revoke(self, tie: Tie) -> None:
        self.netmaps.remove(tie.machine.number)
        for relay in self.world.relays.values():
            self.world.after(self.uplink.delay + relay.uplink.delay, relay.revoke, tie.machine.public_key)
        session = self.sessions.pop(tie, None)
        if session is not None:
            self._reset(tie, session)
        self._stir()

    def dialled(self, tie: Tie) -> None:
        near = self.world.exit_of(tie.machine)
        carries = self.world.internet.carries
        if near is None or not (carries(near, self.uplink) and carries(self.uplink, near)):
            return
        trip = 2 * (near.delay + self.uplink.delay)
        if not self.up:
            tie.machine.later(trip, tie.tell, on.Unlinked("refused"))
            return
        stream = tie.link = Stream(self.world, tie.machine, near, self.uplink)
        tie.machine.later(2 * trip, self._open, tie, stream)

    def told(self, tie: Tie, stream: Stream, content: bytes) -> None:
        delay = stream.delay(up=True)
        if delay is not None:
            self.world.after(delay, self._hear, tie, stream, content)

    def _open(self, tie: Tie, stream: Stream) -> None:
        if tie.link is not stream or stream.ended:
            return
        tie.tell(on.Linked(f"{self.uplink.address}:443", PIN))
        if self.up and not self.silent:
            self.sessions[tie] = Session(stream)
            named = (statement("server", PIN, LONG), statement(until=LONG))
            self._say(tie, control.Challenge((1,), bytes(32), signing.public_of(ROOT), named))

    def _hear(self, tie: Tie, stream: Stream, content: bytes) -> None:
        session = self.sessions.get(tie)
        if not self.up or self.silent or session is None or session.stream is not stream:
            return
        stream.heard_at = self.world.now
        number = tie.machine.number
        match control.from_node(content):
            case control.Hello():
                node = self.netmaps.node(number)
                standing = "revoked" if node is None else "member"
                self._say(tie, control.StandingIs(NETWORK, standing, self.world.wall))
            case control.Present() as said:
                self._present(tie, session, said)
            case control.Whereabouts() as said:
                node = self.netmaps.node(number)
                if node is not None:
                    self.netmaps.put(
                        msgspec.structs.replace(
                            node, candidates=said.candidates[:8], relays=said.relays, online=True
                        )
                    )
                    self._stir()
            case control.Signal() as said:
                self._pass_on(tie, said)
            case control.Ping() as said:
                self._say(tie, control.Pong(said.id))

    def _present(self, tie: Tie, session: Session, said: control.Present) -> None:
        node = self.netmaps.node(tie.machine.number)
        if node is None:
            return
        if node.node_key != said.node_key:
            for relay in self.world.relays.values():
                self.world.after(self.uplink.delay + relay.uplink.delay, relay.revoke, node.node_key)
            expires = None if self._lifetime is None else self.world.wall + self._lifetime
            node = msgspec.structs.replace(node, node_key=said.node_key, expires_at=expires)
        self.netmaps.put(msgspec.structs.replace(node, online=True))
        self.netmaps.watch(tie.machine.number)
        session.said, session.version = said, said.version
        self._settle()
        self._tell(tie, session)
        self._admit(tie, session)

    def _pass_on(self, tie: Tie, said: control.Signal) -> None:
        sender, to = self.netmaps.node(tie.machine.number), self.netmaps.by_key(said.peer)
        if sender is None or to is None:
            return
        for other in self.sessions:
            if other.machine.number == to:
                self._say(other, control.Signal(sender.node_key, said.kind, said.candidates))

    def _stir(self) -> None:
        if not self._settling:
            self._settling = True
            self.world.after(COALESCE, self._settle)

    def _settle(self) -> None:
        self._settling = False
        concerned = self.netmaps.settle(self.world.wall)
        for tie, session in list(self.sessions.items()):
            if session.said is not None and tie.machine.number in concerned:
                self._tell(tie, session)

    def _tell(self, tie: Tie, session: Session) -> None:
        latest = self.netmaps.latest(tie.machine.number)
        if latest.version == session.version:
            return
        session.version = latest.version
        machine = signing.public_of(tie.machine_key)
        head = Head(NETWORK, machine, 1, latest.version, self.world.wall, latest.digest)
        self._say(tie, control.NetmapIs(signing.seal(SIGNER, signing.NETMAP, head), latest.records))

    def _admit(self, tie: Tie, session: Session) -> None:
        assert session.said is not None
        now, said = self.world.wall, session.said
        admissions = {
            relay.name: signing.seal(
                SIGNER,
                signing.ADMISSION,
                Admission(relay.pin, said.node_key, said.admission_key, now, now + LEASE_S),
            )
            for relay in self.world.relays.values()
        }
        self._say(tie, control.Admissions(admissions))

    def _say(self, tie: Tie, message: control.FromServer) -> None:
        stream = self.sessions[tie].stream
        delay = None if self.silent else stream.delay(up=False)
        if delay is not None:
            self.world.after(delay, self._arrive, tie, stream, control.encode(message))

    def _arrive(self, tie: Tie, stream: Stream, content: bytes) -> None:
        if tie.link is stream and not stream.ended and tie.machine.life == stream.life:
            tie.tell(on.Heard(content))

    def _reset(self, tie: Tie, session: Session) -> None:
        delay = session.stream.delay(up=False)
        if delay is not None:
            self.world.after(delay, self._end, tie, session.stream)

    def _end(self, tie: Tie, stream: Stream) -> None:
        if tie.link is stream and tie.machine.life == stream.life:
            stream.ended, tie.link = True, None
            tie.tell(on.Unlinked("reset"))

    def _sweep(self) -> None:
        self.world.after(SWEEP_EVERY, self._sweep)
        if not self.up:
            return
        for tie, session in list(self.sessions.items()):
            if self.world.now - session.stream.heard_at > SILENT_FOR:
                del self.sessions[tie]
        day, self._day = self._day, self.world.wall // DAY_S
        if self._day != day:
            self.netmaps.renew()
            self._settle()
            for tie, session in list(self.sessions.items()):
                if session.said is not None:
                    self._admit(tie, session)
