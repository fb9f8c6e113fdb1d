"""The network as it lives: who has a link, and what each is to be told.

Links say what happened (`came`, `moved`, `gone`); netmaps mark who is concerned; one loop (`run`) settles
them 100 ms after the first of a burst and puts deltas on the links. A link that does not take what it is sent
is ended: its node dials again and gets the whole. Version numbers are reserved in the database by blocks,
ahead of their use, so that none goes out twice, however this process ends.
"""

import asyncio
import time
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, select, update

from shore.coordination.found import Founded
from shore.coordination.members import Member
from shore.coordination.netmaps import DAY_S, Netmaps, Node
from shore.coordination.policy import compile
from shore.coordination.repository import Repository
from shore.coordination.schema import networks, nodes, policies, relays
from shore.model.netmap import LEASE_S, Admission, Head, Names, Relay, Server, Signed
from shore.wire import control, signing
from shore.wire.server import RelayShown, ServerStatus

COALESCE_S = 0.1
BLOCK = 1 << 20
MOST_WAITING = 64


class Outbox:
    """What waits to be sent on one link; `held` is the version that its node has or is being sent."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = (0, 0)
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        self.ended = False

    def put(self, message: control.FromServer) -> None:
        """Have it sent; a link that is full ends."""
        try:
            self.waiting.put_nowait(control.encode(message))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Send no more, and close."""
        if not self.ended:
            self.ended = True
            while self.waiting.full():
                self.waiting.get_nowait()
            self.waiting.put_nowait(None)


class Mesh:
    """One network. Call `load` first."""

    netmaps: Netmaps

    def __init__(self, founded: Founded, key: Ed25519PrivateKey, repository: Repository) -> None:
        self.founded = founded
        self.repository = repository
        self._key = key
        self._links: dict[int, Outbox] = {}
        self._relays: tuple[Relay, ...] = ()
        self._epoch = 0
        self._reserved = 0
        self._started_at = 0.0
        self._stirred = asyncio.Event()

    async def load(self, now: float) -> None:
        """Read what is written down."""
        async with self.repository.engine.connect() as connection:
            network = (await connection.execute(select(networks))).one()
            text = await connection.scalar(select(policies.c.text).order_by(policies.c.id.desc()).limit(1))
            members = (await connection.execute(select(nodes).where(nodes.c.role == "node"))).all()
            offered = (await connection.execute(select(relays))).all()
        self._epoch, self._reserved, self._started_at = network.epoch, network.version, now
        shared = (
            Names(f"{network.name}.internal", network.range_v6),
            Server(self.founded.addresses, self.founded.statements),
        )
        self.netmaps = Netmaps(compile(text or "{}"), shared, network.version)
        await self._reserve()
        for row in members:
            if row.revoked_at is None and row.approved_at and (not row.expires_at or row.expires_at > now):
                self.netmaps.put(node_of(row))
        self._relays = tuple(Relay(r.id, r.pin, tuple(r.addresses), tuple(r.udp_addresses)) for r in offered)
        self.netmaps.offer(self._relays)
        self.netmaps.settle(now)

    async def run(self) -> None:
        """Tell whoever is concerned, for ever; leases are renewed when the day changes."""
        day = time.time() // DAY_S
        while True:
            try:
                async with asyncio.timeout(60):
                    await self._stirred.wait()
            except TimeoutError:
                pass
            if time.time() // DAY_S != day:
                day = time.time() // DAY_S
                self.netmaps.renew()
            await asyncio.sleep(COALESCE_S)
            self._stirred.clear()
            self._settle()
            if self.netmaps.version + BLOCK // 2 > self._reserved:
                await self._reserve()

    def came(self, node: Node, said: control.Present) -> Outbox:
        """A member begins; an older link of the same ends."""
        number = node.member.id
        if number in self._links:
            self._links[number].end()
        known = self.netmaps.node(number) or node
        if known.node_key != said.node_key:
            known = node
        self.netmaps.put(msgspec.structs.replace(known, online=True))
        if not self.netmaps.is_built(number):
            self._settle()
        outbox = self._links[number] = Outbox(number)
        outbox.held = (said.epoch, said.version)
        self._tell(outbox)
        outbox.put(control.Admissions(self._admissions(said)))
        self._stirred.set()
        return outbox

    def again(self, outbox: Outbox, said: control.Present) -> None:
        """A node asks for what it lacks, on the link that it has."""
        outbox.held = (said.epoch, said.version)
        self._tell(outbox)

    def moved(self, number: int, said: control.Whereabouts) -> None:
        """A node told where it may be reached."""
        node = self.netmaps.node(number)
        if node is not None:
            self.netmaps.put(msgspec.structs.replace(node, candidates=said.candidates, relays=said.relays))
            self._stirred.set()

    def gone(self, outbox: Outbox) -> None:
        """A link ended, and no newer one of the same node is there."""
        if self._links.get(outbox.number) is outbox:
            del self._links[outbox.number]
            node = self.netmaps.node(outbox.number)
            if node is not None:
                self.netmaps.put(msgspec.structs.replace(node, online=False))
            self._stirred.set()

    def out(self, number: int) -> None:
        """A node was revoked or left: peers are told without delay, and its link ends."""
        self.netmaps.remove(number)
        self._stirred.set()
        if number in self._links:
            self._links[number].end()

    def status(self) -> ServerStatus:
        """How the network is, for people."""
        return ServerStatus(
            network=self.founded.name,
            addresses=self.founded.addresses,
            epoch=self._epoch,
            version=self.netmaps.version,
            nodes=len(self.netmaps.members),
            online=len(self._links),
            relays=tuple(RelayShown(r.id, r.addresses, r.udp_addresses, False) for r in self._relays),
            started_at=self._started_at,
        )

    def pass_on(self, number: int, signal: control.Signal) -> None:
        """One word, to a peer that holds the sender and has a link; else nothing."""
        sender, receiver = self.netmaps.node(number), self.netmaps.by_key(signal.peer)
        if sender is None or receiver is None or not self.netmaps.hold_each_other(number, receiver):
            return
        if receiver in self._links:
            self._links[receiver].put(control.Signal(sender.node_key, signal.kind, signal.candidates))

    def _settle(self) -> None:
        for number in self.netmaps.settle(time.time()):
            if number in self._links:
                self._tell(self._links[number])

    def _tell(self, outbox: Outbox) -> None:
        latest = self.netmaps.latest(outbox.number)
        node = self.netmaps.node(outbox.number)
        assert node is not None
        epoch, version = outbox.held
        if (epoch, version) == (self._epoch, latest.version):
            return
        head = Head(
            self.founded.network, node.machine_key, self._epoch, latest.version, time.time(), latest.digest
        )
        signed = signing.seal(self._key, signing.NETMAP, head)
        change = self.netmaps.since(outbox.number, version) if epoch == self._epoch else None
        outbox.held = (self._epoch, latest.version)
        if change is None:
            outbox.put(control.NetmapIs(signed, latest.records))
        else:
            outbox.put(control.Delta(change.from_digest, signed, change.changed, change.removed))

    def _admissions(self, said: control.Present) -> dict[str, Signed]:
        now = time.time()
        return {
            relay.id: signing.seal(
                self._key,
                signing.ADMISSION,
                Admission(relay.pin, said.node_key, said.admission_key, now, now + LEASE_S),
            )
            for relay in self._relays
        }

    async def _reserve(self) -> None:
        self._reserved = max(self._reserved, self.netmaps.version) + BLOCK
        async with self.repository.engine.begin() as connection:
            await connection.execute(update(networks).values(version=self._reserved))


def node_of(row: Row[Any]) -> Node:
    """A node as it is written down, before it said anything."""
    return Node(
        Member(row.id, row.name, row.user, tuple(row.tags), (row.v4, row.v6)),
        row.machine_key,
        row.node_key,
        tuple(row.prefixes),
        row.expires_at,
        row.ephemeral,
        row.endorsement,
    )
