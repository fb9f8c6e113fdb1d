"""The network as it lives: who has a link, and what each is to be told.

Links say what happened (`greeted`, `came`, `moved`, `gone`), and so do people (`changed`, `out`, `govern`);
netmaps mark who is concerned; one loop (`run`) settles each of them when its turn comes (`turns`). Deltas are
put on the links a few at a time: the first are on their way while the last are built, and all links are heard
meanwhile. A link that does not take what it is sent is ended: its node dials again and gets the whole.

Version numbers are reserved in the database by blocks, ahead of their use, so that none goes out twice,
however this process ends.

Whoever is out is dropped here in the same turn in which the database was told, and a link that was ended
brings nobody back: what it had read before is stale.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, select, update

from shore.coordination.database import NoDatabase
from shore.coordination.found import Founded
from shore.coordination.limits import Limits
from shore.coordination.members import Member
from shore.coordination.netmaps import DAY_S, Netmaps, Node
from shore.coordination.outbox import Outbox
from shore.coordination.policy import Policy, compile
from shore.coordination.repository import Repository
from shore.coordination.roll import standing
from shore.coordination.schema import networks, relays
from shore.coordination.turns import COALESCE_S, Turns
from shore.coordination.whereabouts import MOST_ADDRESSES, fitting, is_address, sound
from shore.core.candidates import sound_ones
from shore.model.netmap import LEASE_S, Admission, Head, Names, Relay, Server, Signed, Standing
from shore.wire import control, signing
from shore.wire.server import RelayShown, ServerStatus

AT_ONCE = 32
BLOCK = 1 << 20
SWEEP_S = 30.0
EPHEMERAL_S = 300.0
PIN_LENGTH = 32


class Mesh:
    """One network. Call `load` first."""

    netmaps: Netmaps

    def __init__(self, founded: Founded, key: Ed25519PrivateKey, repository: Repository) -> None:
        self.founded = founded
        self.repository = repository
        self.limits = Limits()
        self._key = key
        self._machines: dict[bytes, Outbox] = {}
        self._links: dict[int, Outbox] = {}
        self._relays: dict[int, Relay] = {}
        self._away_since: dict[int, float] = {}
        self._epoch = 0
        self._reserved = 0
        self._started_at = 0.0
        self._swept_at = 0.0
        self._keys_moved = False
        self._turns = Turns()
        self._stirred = asyncio.Event()
        self._to_keep = asyncio.Event()
        # What people should know of the server's parts.
        self.notes: Callable[[], tuple[str, ...]] = tuple

    async def load(self, now: float) -> None:
        """Read what is written down."""
        async with self.repository.database.reading() as connection:
            network = (await connection.execute(select(networks))).one()
            offered = (await connection.execute(select(relays))).all()
        self._epoch, self._reserved, self._started_at = network.epoch, network.version, now
        shared = (
            Names(f"{network.name}.internal", network.range_v6),
            Server(self.founded.addresses, self.founded.statements),
        )
        self.netmaps = Netmaps(compile(await self.repository.policy()), shared, network.version)
        await self._reserve()
        members = [row for row in await self.repository.roll.nodes() if standing(row, now) == "member"]
        self.netmaps.put_all(node_of(row) for row in members if row.role == "node")
        self._away_since = {row.id: now for row in members if row.ephemeral}
        numbers = {row.id for row in members if row.role == "relay"}
        self._relays = {row.node: relay_of(row) for row in offered if row.node in numbers}
        self.netmaps.offer(self._relays.values())
        self._swept_at = now

    async def run(self) -> None:
        """Tell whoever is concerned, for ever; what time alone changes is seen to twice a minute.

        Where an accident has ended it, it may be run again.
        """
        # What was half done then is done anew; nobody is here yet when it runs for the first time.
        self.netmaps.renew()
        self._stirred.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_in_turn())
            tasks.create_task(self._keep_up())

    async def _tell_in_turn(self) -> None:
        while True:
            await self._until_turn()
            now, began = time.monotonic(), time.process_time()
            if self._stirred.is_set():
                self._stirred.clear()
                self._turns.wait(self.netmaps.concerned(), len(self._links), now)
            taken = self._turns.take(AT_ONCE, now)
            self._settle(taken)
            # What was put on links is sent, and who said something is heard.
            await asyncio.sleep(0)
            if taken:
                self._turns.took(time.process_time() - began, len(taken))
            if self._keys_moved or self.netmaps.version + BLOCK // 2 > self._reserved:
                self._to_keep.set()

    async def _until_turn(self) -> None:
        due = self._turns.next()
        wait = None if due is None else due - time.monotonic()
        if wait is None or wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stirred.wait()

    async def _keep_up(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._to_keep.wait()
            await asyncio.sleep(COALESCE_S)
            self._to_keep.clear()
            # What the database did not take is tried again with the next that happens.
            with contextlib.suppress(NoDatabase):
                await self._keep(time.time())

    async def _keep(self, now: float) -> None:
        if self._keys_moved:
            await self._tell_relays(now)
        if self.netmaps.version + BLOCK // 2 > self._reserved:
            await self._reserve()
        if now >= self._swept_at + SWEEP_S or now < self._swept_at:
            await self.sweep(now)

    async def sweep(self, now: float) -> None:
        """Leases and admissions are renewed daily, keys expire, ephemeral nodes that went are forgotten."""
        day, self._swept_at = self._swept_at // DAY_S, now
        if now // DAY_S != day:
            self.netmaps.renew()
            self._let_in()
        for node in self.netmaps.expired(now):
            self._lapse(node.member.id, node.machine_key, now)
        late = [n for n, since in self._away_since.items() if now >= since + EPHEMERAL_S]
        for number in late:
            await self.repository.roll.leave(number, now)
            self._drop(number)

    def greeted(self, outbox: Outbox) -> None:
        """A machine has said who it is; an older link of the same ends."""
        older = self._machines.get(outbox.machine_key)
        if older is not None:
            older.end()
        self._machines[outbox.machine_key] = outbox

    def came(self, outbox: Outbox, node: Node, said: control.Present) -> None:
        """A member begins, with another key than before perhaps, or asks for what it lacks."""
        if outbox.ended:
            return
        number = node.member.id
        outbox.number, outbox.said, outbox.held = number, said, (said.epoch, said.version)
        self._links[number] = outbox
        self._away_since.pop(number, None)
        self.netmaps.put(self._as_said(node, online=True))
        self.netmaps.watch(number)
        if not self.netmaps.is_settled(number):
            self.netmaps.settle(time.time(), (number,))
        self._tell(outbox)
        outbox.put(control.Admissions(self._admissions(said)))
        self._stirred.set()

    def rekeyed(self) -> None:
        """A key is out as its node has another: relays are told."""
        self._keys_moved = True
        self._stirred.set()

    def moved(self, outbox: Outbox, said: control.Whereabouts) -> None:
        """A node told where it may be reached."""
        outbox.whereabouts = sound(said, {relay.id for relay in self._relays.values()})
        node = self.netmaps.node(outbox.number)
        if node is not None:
            self.netmaps.put(self._as_said(node, node.online))
            self._stirred.set()

    async def advertised(self, outbox: Outbox, prefixes: tuple[str, ...]) -> None:
        """A node told what it would lead to; of that, what was approved is its own now. Raises TooOften."""
        fit = fitting(prefixes, self.founded.range_v6)
        node = self.netmaps.node(outbox.number)
        if outbox.ended or node is None or fit == node.advertised:
            return
        now = time.time()
        self.limits.advertise(outbox.number, now)
        row = await self.repository.roll.advertise(outbox.number, fit, now)
        # It may have been put out, or come by another link, meanwhile.
        if row is not None and self._links.get(outbox.number) is outbox:
            self.changed(row, now)

    def gone(self, outbox: Outbox) -> None:
        """A link ended; it counts where no newer one of the same node is there."""
        if self._machines.get(outbox.machine_key) is outbox:
            del self._machines[outbox.machine_key]
        if self._links.get(outbox.number) is outbox:
            del self._links[outbox.number]
            self.netmaps.unwatch(outbox.number)
            self._turns.forget(outbox.number)
            self.limits.forget(outbox.number)
            node = self.netmaps.node(outbox.number)
            if node is not None:
                self.netmaps.put(msgspec.structs.replace(node, online=False))
                if node.ephemeral:
                    self._away_since[outbox.number] = time.time()
            self._stirred.set()

    def out(self, row: Row[Any], now: float) -> None:
        """A node was revoked or left: peers and relays are told without delay, and its link ends."""
        self._drop(row.id)
        outbox = self._machines.get(row.machine_key)
        if outbox is not None:
            outbox.put(self.stands(standing(row, now), now))
            outbox.end()

    def changed(self, row: Row[Any], now: float) -> None:
        """A node was approved, renamed or expired."""
        known, stands = self.netmaps.node(row.id), standing(row, now)
        outbox = self._machines.get(row.machine_key)
        if stands == "expired":
            self._lapse(row.id, row.machine_key, now)
        elif stands == "member" and known is not None:
            self.netmaps.put(self._as_said(node_of(row), known.online))
        elif stands == "member" and row.role == "relay":
            if outbox is not None and row.id not in self._links:
                outbox.number, self._links[row.id] = row.id, outbox
                outbox.put(self.stands(stands, now))
                self._keys_moved = True
        elif stands == "member":
            self.netmaps.put(node_of(row))
            if outbox is not None:
                outbox.put(self.stands(stands, now))
        self._stirred.set()

    def left(self, number: int) -> None:
        """A node said that it leaves."""
        self._drop(number)

    def govern(self, policy: Policy) -> None:
        """Another policy is in force."""
        self.netmaps.govern(policy)
        self._stirred.set()

    def stands(self, how: Standing, now: float) -> control.StandingIs:
        """What a machine is told that it is to us."""
        return control.StandingIs(self.founded.network, how, now)

    async def admit(self, outbox: Outbox, number: int, now: float) -> None:
        """A relay has a link: it is told whom to let in, and nodes that it is there, by fresh admissions."""
        if outbox.ended:
            return
        outbox.number = number
        self._links[number] = outbox
        outbox.put(await self._admitting(now))
        if number in self._relays:
            self._let_in()

    async def offered(self, outbox: Outbox, said: control.Offering) -> None:
        """A relay told where it is; it is where it was if that is nowhere. The first time makes it one."""
        addresses = tuple(filter(is_address, said.addresses))[:MOST_ADDRESSES]
        udp_addresses = tuple(filter(is_address, said.udp_addresses))[:MOST_ADDRESSES]
        known, number = self._relays.get(outbox.number), outbox.number
        pin = said.pin if known is None and len(said.pin) == PIN_LENGTH else None
        unknown = known is None and pin is None
        if not addresses or unknown or self._links.get(number) is not outbox:
            return
        if known is not None and (known.addresses, known.udp_addresses) == (addresses, udp_addresses):
            return
        row = await self.repository.roll.offer(number, (addresses, udp_addresses), pin, time.time())
        # It may have been put out meanwhile.
        if row is None or self._links.get(number) is not outbox:
            return
        self._relays[number] = relay_of(row)
        self.netmaps.offer(self._relays.values())
        if known is None:
            concerned = self.netmaps.concerned()
            for begin in range(0, len(concerned), AT_ONCE):
                self._settle(concerned[begin : begin + AT_ONCE])
                await asyncio.sleep(0)
            self._let_in()
        self._stirred.set()

    def status(self) -> ServerStatus:
        """How the network is, for people."""
        return ServerStatus(
            network=self.founded.name,
            addresses=self.founded.addresses,
            epoch=self._epoch,
            version=self.netmaps.version,
            nodes=len(self.netmaps.members),
            online=sum(1 for outbox in self._links.values() if outbox.said is not None),
            relays=tuple(
                RelayShown(relay.id, relay.addresses, relay.udp_addresses, number in self._links)
                for number, relay in self._relays.items()
            ),
            started_at=self._started_at,
            notes=self.notes(),
        )

    def is_online(self, number: int) -> bool:
        """Whether the node has a link."""
        return number in self._links

    def pass_on(self, number: int, signal: control.Signal) -> None:
        """One word, to a peer that holds the sender and has a link; else nothing."""
        sender, receiver = self.netmaps.node(number), self.netmaps.by_key(signal.peer)
        if sender is None or receiver is None or not self.netmaps.hold_each_other(number, receiver):
            return
        if receiver in self._links and self._links[receiver].has_room:
            candidates = sound_ones(signal.candidates)
            self._links[receiver].put(control.Signal(sender.node_key, signal.kind, candidates))

    def _as_said(self, node: Node, online: bool) -> Node:
        outbox, known = self._links.get(node.member.id), self.netmaps.node(node.member.id)
        if outbox is not None and outbox.whereabouts is not None:
            said = outbox.whereabouts
            return msgspec.structs.replace(
                node, online=online, candidates=said.candidates, relays=said.relays
            )
        if known is None:
            return msgspec.structs.replace(node, online=online)
        return msgspec.structs.replace(node, online=online, candidates=known.candidates, relays=known.relays)

    def _drop(self, number: int) -> None:
        self.netmaps.remove(number)
        self._turns.forget(number)
        self._links.pop(number, None)
        self._away_since.pop(number, None)
        if self._relays.pop(number, None) is not None:
            self.netmaps.offer(self._relays.values())
        self._keys_moved = True
        self._stirred.set()

    def _lapse(self, number: int, machine_key: bytes, now: float) -> None:
        """Its key counts no more; the link stays, so that another can be presented."""
        self._drop(number)
        outbox = self._machines.get(machine_key)
        if outbox is not None:
            outbox.put(self.stands("expired", now))

    async def _tell_relays(self, now: float) -> None:
        self._keys_moved = False
        try:
            admitting = await self._admitting(now)
        except NoDatabase:
            self._keys_moved = True
            raise
        for outbox in self._links.values():
            if outbox.said is None:
                outbox.put(admitting)

    def _let_in(self) -> None:
        """Give every node what admits it to each relay that there is."""
        for outbox in self._links.values():
            if outbox.said is not None:
                outbox.put(control.Admissions(self._admissions(outbox.said)))

    async def _admitting(self, now: float) -> control.Admitting:
        founded, out = self.founded, await self.repository.roll.keys_out(now)
        return control.Admitting(founded.root, founded.network, founded.statements, out)

    def _settle(self, numbers: tuple[int, ...]) -> None:
        for number in self.netmaps.settle(time.time(), numbers):
            if number in self._links:
                self._tell(self._links[number])

    def _tell(self, outbox: Outbox) -> None:
        node = self.netmaps.node(outbox.number)
        assert node is not None
        latest, digest = self.netmaps.head(outbox.number)
        epoch, version = outbox.held
        if (epoch, version) == (self._epoch, latest):
            return
        head = Head(self.founded.network, node.machine_key, self._epoch, latest, time.time(), digest)
        signed = signing.seal(self._key, signing.NETMAP, head)
        change = self.netmaps.since(outbox.number, version) if epoch == self._epoch else None
        outbox.held = (self._epoch, latest)
        if change is None:
            outbox.put(control.NetmapIs(signed, self.netmaps.latest(outbox.number).records))
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
            for relay in self._relays.values()
        }

    async def _reserve(self) -> None:
        self._reserved = max(self._reserved, self.netmaps.version) + BLOCK
        async with self.repository.database.writing() as connection:
            await connection.execute(update(networks).values(version=self._reserved))


def node_of(row: Row[Any]) -> Node:
    """A node as it is written down, before it said anything."""
    return Node(
        Member(row.id, row.name, row.user, tuple(row.tags), (row.v4, row.v6), led_to(row)),
        row.machine_key,
        row.node_key,
        tuple(row.advertised),
        row.expires_at,
        row.ephemeral,
        row.endorsement,
    )


def led_to(row: Row[Any]) -> tuple[str, ...]:
    """The prefixes that a node leads to with somebody's approval."""
    return tuple(prefix for prefix in row.prefixes if prefix in row.advertised)


def relay_of(row: Row[Any]) -> Relay:
    """A relay as it is written down."""
    return Relay(row.id, row.pin, tuple(row.addresses), tuple(row.udp_addresses))
