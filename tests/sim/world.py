"""The world of one run: machines, the internet, time, chance, and what must hold.

One seed is one run: everything that is drawn comes from one source, everything that happens is an event in
one queue, and the trace (a hash of every datagram with its time) tells two runs apart. What must hold is
checked on the way against a model too simple to be wrong: two machines have a *healthy* path if a pair of
their uplinks carries datagrams both ways now, and one of the two can find the other there by its
configuration. The numbers are those of the invariants in docs/sim.md.
"""

import heapq
import random
import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from tests.sim.machine import LARGE, Machine, inner
from tests.sim.network import Internet, Uplink, Way

from shore.core.status import tunnel_status

PING_EVERY = 0.05
# One of so many pings is followed by a large one.
LARGE_EVERY = 10
FLOWS_WITHIN = 5.0
TRUE_WITHIN = 8.0
# A keepalive of 25 s, and what follows from it.
FOUND_WITHIN = 30.0
MOST_EVENTS = 20_000
MOST_NOTES = 5_000
_INSTANT = struct.Struct("d")
KINDS_ON_WIRE = frozenset((1, 2, 3, 4, 0x81, 0x82, 0x83))


Note = str | Callable[[], str]


class Broken(AssertionError):
    """An invariant does not hold."""


class Pair:
    """Two machines that talk: `a` pings `b`."""

    def __init__(self, a: Machine, b: Machine) -> None:
        self.a, self.b = a, b
        self.healthy_since: float | None = None
        self.answered = self.answered_large = float("-inf")
        self.sent = self.lost = 0
        self.waiting: dict[int, float] = {}

    def __str__(self) -> str:
        return f"{self.a.number}-{self.b.number}"


class World:
    """Make machines, `start`, `run`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 1.0
        self.chance = random.Random(seed)
        self.internet = Internet(self.chance)
        self.machines: list[Machine] = []
        self.pairs: list[Pair] = []
        self.names: dict[str, tuple[str, ...]] = {}
        self.notes: list[tuple[float, int, Note]] = []
        # Where the configuration of others finds a machine: by name, or by these addresses for ever.
        self.known: dict[int, tuple[str, ...]] = {}
        self.named: dict[int, str] = {}
        self.datagrams = 0
        self.flows_within = FLOWS_WITHIN
        self._ways: dict[tuple[Uplink, int, str], Way] = {}
        self._version = -1
        self._trace = blake2b(digest_size=8)
        self._queue: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0
        self._planes = 0
        self._heard: dict[tuple[int, int], float] = {}
        self._pings: dict[tuple[int, int], Pair] = {}
        self._begun_by: dict[int, list[Pair]] = {}
        self._number = 0
        self._switches: dict[tuple[int, bytes], tuple[float, int]] = {}

    # Time.

    def at(self, when: float, what: Callable[..., Any], *arguments: object) -> None:
        """Do it then."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what, arguments))

    def after(self, delay: float, what: Callable[..., Any], *arguments: object) -> None:
        """Do it in a while."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + max(delay, 0.0), self._count, what, arguments))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= end:
            self.now, _, what, arguments = pop(queue)
            what(*arguments)
        self.now = end

    def start(self) -> None:
        """Bring every machine up and let them talk."""
        for machine in self.machines:
            self._begun_by[machine.number] = []
            machine.start()
        for n, a in enumerate(self.machines):
            for b in self.machines[n + 1 :]:
                pair = Pair(a, b) if self.chance.random() < 0.5 else Pair(b, a)
                self.pairs.append(pair)
                self._pings[(pair.a.number, pair.b.number)] = pair
                self._begun_by[pair.a.number].append(pair)
        self.look()
        for machine in self.machines:
            self.after(0.5 + self.chance.random() * PING_EVERY, self._beat, machine)
        self.after(1.0, self._watch)

    def plane_seed(self) -> int:
        """A seed for each plane's life."""
        self._planes += 1
        return (self.seed * 4096 + self._planes) % 2**32

    @property
    def trace(self) -> str:
        """What happened, as a hash."""
        return self._trace.hexdigest()

    def note(self, machine: int, text: Note) -> None:
        """Remember it for the diagram; words that are only made if somebody draws it."""
        self.notes.append((self.now, machine, text))
        if len(self.notes) > MOST_NOTES:
            del self.notes[: MOST_NOTES // 2]

    # Datagrams.

    def carry(
        self, sender: Machine, uplink: Uplink, port: int, remote: str, datagram: bytes, fragments: bool
    ) -> None:
        """A datagram leaves a machine; data may be sent in `fragments`, anything else in none."""
        self.datagrams += 1
        kind = datagram[0]
        if kind not in KINDS_ON_WIRE:
            self.broken(f"I2: machine {sender.number} sent {kind:#x} in the clear")
        is_data = kind == 4 and len(datagram) > 32
        if is_data and remote not in sender.proved and not self._is_named(sender, remote):
            self.broken(f"I3: machine {sender.number} sent data to {remote}, which is not proved")
        way = self._way(uplink, port, remote)
        source, home, now = way.source, way.home, self.now
        self._trace.update(_INSTANT.pack(now) + way.label + datagram)
        if way.nat is not None:
            source = way.nat.leave(source, remote, now, self.chance)
        whole = not (is_data and fragments)
        if home is None or (whole and len(datagram) > way.most) or (is_data and way.deaf):
            return
        delays = (way.delay,)
        if way.delay is None:
            delays = self.internet.delays(uplink, home, datagram, way.family, fragments=not whole)
        arguments = (sender, remote, home, way.port, source, datagram)
        for delay in delays:
            self._count += 1
            heapq.heappush(self._queue, (now + delay, self._count, self._deliver, arguments))

    def _way(self, uplink: Uplink, port: int, remote: str) -> Way:
        """What becomes of it, derived anew where anything changed."""
        if self._version != Uplink.version:
            self._version = Uplink.version
            self._ways = {}
        key = (uplink, port, remote)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = self.internet.way(*key)
        return way

    def _is_named(self, sender: Machine, remote: str) -> bool:
        """Whether a name leads there, of a peer that cannot be asked: nobody knows it as a Shore node."""
        home, _ = self.internet.home(remote)
        if home is None or self.machines[home.owner].public_key in sender.acquainted:
            return False
        name = self.named.get(home.owner)
        return name is not None and remote.rpartition(":")[0].strip("[]") in self.names[name]

    def _deliver(
        self, sender: Machine, remote: str, home: Uplink, port: int, source: str, datagram: bytes
    ) -> None:
        if home.down:
            return
        family = 6 if source[0] == "[" else 4
        inside: int | None = port
        if family == 4 and home.nat is not None:
            at = home.nat.enter(port, source, self.now)
            if at is None:
                return
            host, inside = self.internet.split(at)
            # A NAT may send it to an address that is ours no more.
            inside = inside if host == home.address else None
        receiver = self.machines[home.owner]
        self._heard[(receiver.number, sender.number)] = self.now
        sender.proved.add(remote)
        receiver.proved.add(source)
        if inside is not None:
            receiver.deliver(home, inside, family, source, datagram)

    def arrived(
        self, machine: Machine, source: bytes, target: bytes, kind: int, number: int, large: bool
    ) -> None:
        """A machine's data plane gave an inner packet to its TUN."""
        if target != inner(machine.number):
            self.broken(f"I9: machine {machine.number} got a packet for {target[3]}")
        # The number says who sent the request: its low digits are the pair.
        pinger, pinged = number // 10 % 10, number % 10
        wanted = (pinged, pinger) if kind == 0 else (pinger, pinged)
        if (source[3], target[3]) != wanted:
            self.broken(f"I1: machine {machine.number} got a packet of {source[3]} for {wanted}")
        if kind == 0:
            pair = self._pings[(pinger, pinged)]
            if large:
                pair.answered_large = self.now
            else:
                pair.answered = self.now
            pair.waiting.pop(number, None)

    def _beat(self, machine: Machine) -> None:
        self.after(PING_EVERY, self._beat, machine)
        if machine.asleep_since is not None or machine.plane is None:
            return
        for pair in self._begun_by[machine.number]:
            self._number += 1
            machine.send(pair.b.number, 8, self._number * 100 + machine.number * 10 + pair.b.number)
            pair.sent += 1
            if pair.sent % LARGE_EVERY == 0:
                number = self._number * 100 + machine.number * 10 + pair.b.number
                machine.send(pair.b.number, 8, number, LARGE)

    # What must hold.

    def broken(self, what: str) -> None:
        """End the run: an invariant does not hold."""
        raise Broken(f"seed {self.seed}, {self.now:.3f} s: {what}")

    def look(self) -> None:
        """Something changed: who has a healthy path now?"""
        for pair in self.pairs:
            if not self.is_healthy(pair):
                pair.healthy_since = None
            elif pair.healthy_since is None:
                pair.healthy_since = self.now

    def is_healthy(self, pair: Pair) -> bool:
        """Whether some pair of uplinks works both ways, and configuration can find it."""
        a, b = pair.a, pair.b
        if any(one.asleep_since is not None or one.node is None for one in (a, b)):
            return False
        return any(
            near.has(family)
            and far.has(family)
            and (self._finds(b, near, family) or self._finds(a, far, family))
            and self.internet.carries(near, far, family)
            and self.internet.carries(far, near, family)
            and not (near.deaf or far.deaf)
            and near.loss + far.loss < 0.1
            for near in a.uplinks
            for far in b.uplinks
            for family in (4, 6)
        )

    def _finds(self, who: Machine, uplink: Uplink, family: int) -> bool:
        """Whether `who` knows by configuration that somebody is at `uplink`."""
        if uplink.owner == who.number - 1 or (family == 4 and uplink.nat is not None):
            return False
        address = uplink.address6 if family == 6 else uplink.address
        return address in self.known.get(uplink.owner, ())

    def _watch(self) -> None:
        self.after(0.5, self._watch)
        if len(self._queue) > MOST_EVENTS:
            self.broken(f"I7: {len(self._queue)} events wait")
        for machine in self.machines:
            if machine.applied is None:
                machine.disturbed = self.now
        for pair in self.pairs:
            since = pair.healthy_since
            if since is None:
                continue
            since = max(since, pair.a.disturbed, pair.b.disturbed, pair.answered)
            if self.now - since > self.flows_within and self._is_known(pair):
                self.broken(f"I4: nothing flows between {pair} since {since:.2f} s by a healthy path")

    def _is_known(self, pair: Pair) -> bool:
        """Whether `a` can begin; a machine that was reborn waits for those whom only they can find."""
        begins = any(
            far.has(family) and self._finds(pair.a, far, family)
            for far in pair.b.uplinks
            for family in (4, 6)
        )
        return begins or self.now - pair.a.born > FOUND_WITHIN

    def checked(self, machine: Machine) -> None:
        """A machine has taken counters: its status must be the truth, and what it keeps what follows."""
        node = machine.node
        if node is None or node.config is None:
            return
        for wrong in wrong_in(machine):
            self.broken(wrong)
        status = tunnel_status(node, self.now, brain_pid=1, public_key=None, notes=())
        by_key = dict(zip(node.peers, status.peers, strict=True))
        for pair in self.pairs:
            if pair.a is not machine:
                continue
            peer = by_key[machine.world.key_of(pair.b.number)]
            silence = self.now - max(self._heard.get((machine.number, pair.b.number), 0.0), machine.disturbed)
            if peer.connected and silence > TRUE_WITHIN:
                self.broken(f"I11: {pair} is called connected after {silence:.1f} s of silence")
            since = max(pair.healthy_since or self.now, machine.disturbed, pair.b.disturbed)
            flowing = self.now - since
            if not peer.connected and flowing > TRUE_WITHIN and self.now - pair.answered < 0.2:
                self.broken(f"I11: {pair} is called unconnected while it answers")

    def key_of(self, number: int) -> bytes:
        """A machine's public key."""
        return self.machines[number - 1].public_key

    def switches(self) -> dict[tuple[int, int], int]:
        """How often each machine has left a path to each peer, as far as its plane remembers."""
        numbers = {machine.public_key: machine.number for machine in self.machines}
        return {
            (machine.number, numbers[entry.public_key]): entry.switches
            for machine in self.machines
            if machine.node is not None
            for entry in machine.node.counters.values()
        }

    def move(self, machine: Machine, uplink: Uplink) -> None:
        """An uplink gets another address; a name follows it, a configuration does not."""
        self.internet.leave(uplink)
        self._number += 1
        if uplink.nat is None:
            uplink.address = f"203.0.{machine.number}.{self._number % 250 + 1}"
        else:
            uplink.nat.address = f"198.18.{machine.number}.{self._number % 250 + 1}"
            uplink.nat.reboot()
        self.internet.join(uplink)
        if uplink.nat is None:
            machine.links_changed()
        name = self.named.get(machine.number - 1)
        if name is not None:
            self.names[name] = found_at(machine.uplinks)


def found_at(uplinks: list[Uplink]) -> tuple[str, ...]:
    """The addresses at which others can begin: public ones, of both families."""
    v4 = [up.public for up in uplinks if up.nat is None and not up.only6]
    return (*v4, *(up.address6 for up in uplinks if up.address6))


def wrong_in(machine: Machine) -> list[str]:
    """The invariants that hold in each machine by itself and do not hold in this one."""
    node, wrong = machine.node, []
    if node is None or node.config is None:
        return []
    if len(machine.sockets) > 24:
        wrong.append(f"I7: machine {machine.number} holds {len(machine.sockets)} sockets")
    kept = node.desired()
    node.forget_derived()
    if kept != node.desired():
        wrong.append(f"I13: machine {machine.number} keeps {kept}, and {node.desired()} follows")
    return wrong
