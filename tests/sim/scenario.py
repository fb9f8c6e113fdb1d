"""From a seed to a world and its faults, and from there to a verdict."""

import random
import traceback

import msgspec
from tests.sim.faults import FIRST_KINDS, KINDS, Fault, strike
from tests.sim.machine import Machine
from tests.sim.network import Nat, Uplink
from tests.sim.world import Broken, World, found_at

from shore._native import ModelPlane
from shore.model.config import Endpoint, PeerConfig, TunnelConfig

FAULTS = 10
FIRST_FAULT, LAST_FAULT = 4.0, 24.0
RECOVERED_WITHIN = 30.0
LARGE_WITHIN = 1.5
STATIONARY = 10.0
MOST_SWITCHES = 2
PORT = 51820
LATEST = 2


class Scenario(msgspec.Struct, frozen=True):
    """A seed makes everything; `faults` are those of it that are kept, all if None.

    The first edition had IPv4 only, and no faults of families and sizes, nor flapping: its seeds stay the
    runs that they were.
    """

    seed: int
    faults: tuple[int, ...] | None = None
    was: str = ""
    edition: int = 1


def build(seed: int, edition: int = LATEST) -> World:
    """Two to six machines; the first one is public, the others by chance."""
    world = World(seed)
    chance = world.chance
    count = chance.randint(2, 6)
    uplinks = [_uplinks(number, chance) for number in range(1, count + 1)]
    if edition > 1:
        _give_v6(uplinks, random.Random(seed ^ 0x1B6))
    named = [chance.random() < 0.3 for _ in uplinks]
    for n, ups in enumerate(uplinks):
        public = found_at(ups)
        if public and named[n]:
            world.named[n] = f"m{n + 1}.test"
            world.names[world.named[n]] = public
        elif public:
            world.known[n] = public
        for up in ups:
            world.internet.join(up)
    for n, ups in enumerate(uplinks):
        peers = tuple(_peer(world, other, chance) for other in range(count) if other != n)
        config = TunnelConfig("wg0", bytes([n + 1]) * 32, listen_port=PORT, peers=peers, host_managed=False)
        world.machines.append(Machine(world, n + 1, config, ups))
    return world


def _uplinks(number: int, chance: random.Random) -> list[Uplink]:
    behind_nat = number > 1 and chance.random() < 0.5
    made = []
    for n in range(chance.choice((1, 2, 2))):
        delay = 0.002 + chance.random() * 0.03
        address = f"10.{number}.{n}.2" if behind_nat else f"192.0.{number}.{n + 1}"
        nat = _nat(f"198.51.{number}.{n + 1}", chance) if behind_nat else None
        made.append(Uplink(number - 1, f"eth{n}", n + 2, address, nat, delay=delay))
    return made


def _give_v6(uplinks: list[list[Uplink]], chance: random.Random) -> None:
    """Two of three uplinks have IPv6, and a few of those nothing else."""
    for ups in uplinks:
        for n, up in enumerate(ups):
            if chance.random() < 0.67:
                up.address6 = f"2001:db8:{up.owner + 1}::{n + 1}"
                up.only6 = up.nat is None and chance.random() < 0.15


def _nat(address: str, chance: random.Random) -> Nat:
    return Nat(
        address,
        chance.choice(("endpoint", "address", "port")),
        chance.choice(("endpoint", "address", "port")),
        chance.random() < 0.5,
        chance.choice((30.0, 60.0, 120.0)),
    )


def _peer(world: World, other: int, chance: random.Random) -> PeerConfig:
    name = world.named.get(other)
    hosts = (name,) if name is not None else world.known.get(other, ())
    return PeerConfig(
        public_key(other),
        allowed_ips=(f"10.0.0.{other + 1}/32",),
        endpoints=tuple(Endpoint(host, PORT) for host in hosts),
        redundancy=chance.choice(("auto", "auto", "auto", "off", "interactive", "always")),
    )


def public_key(n: int) -> bytes:
    """Of machine `n`, from 0."""
    return ModelPlane.public_key(bytes([n + 1]) * 32)


def schedule(seed: int, edition: int = LATEST) -> tuple[Fault, ...]:
    """Ten faults; they overlap."""
    chance = random.Random(seed ^ 0x5EED)
    kinds = FIRST_KINDS if edition == 1 else sorted(KINDS)
    faults = [
        Fault(
            round(chance.uniform(FIRST_FAULT, LAST_FAULT), 3),
            chance.choice(kinds),
            chance.randrange(6),
            chance.randrange(2),
            chance.randrange(5),
            round(chance.uniform(0.5, 8.0), 3),
            round(chance.random(), 3),
        )
        for _ in range(FAULTS)
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def play(scenario: Scenario) -> World:
    """Run it. Raises Broken, with the world as its attribute `world`."""
    world = build(scenario.seed, scenario.edition)
    faults = schedule(scenario.seed, scenario.edition)
    kept = range(len(faults)) if scenario.faults is None else scenario.faults
    try:
        _play(world, [faults[n] for n in kept])
    except Broken as broken:
        broken.world = world  # type: ignore[attr-defined]
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        failed = Broken(
            f"seed {world.seed}, {world.now:.3f} s: I0: {error!r} in {at.name} ({at.filename}:{at.lineno})"
        )
        failed.world = world  # type: ignore[attr-defined]
        raise failed from error
    return world


def _play(world: World, faults: list[Fault]) -> None:
    world.start()
    for fault in faults:
        world.at(world.now + fault.at, strike, world, fault)
    over = max((fault.at + fault.lasts for fault in faults), default=0.0)
    world.run(max(over, FIRST_FAULT) + 2.5)
    recover(world)
    be_still(world)


def recover(world: World) -> None:
    """I5: every pair that has a working path uses one within 30 s, for large packets too."""
    end = world.now + RECOVERED_WITHIN
    while True:
        world.run(1.0)
        silent = [
            str(pair)
            for pair in expected(world)
            if world.now - pair.answered > 0.5 or world.now - pair.answered_large > LARGE_WITHIN
        ]
        if not silent:
            return
        if world.now >= end:
            world.broken(f"I5: silent 30 s after the last fault: {', '.join(silent)}")


def expected(world: World) -> list:
    """Pairs that must be able to talk when nothing is wrong: one of the two can be found."""
    return [
        pair
        for pair in world.pairs
        if world.is_healthy(pair) or _names(world, pair.a, pair.b) or _names(world, pair.b, pair.a)
    ]


def _names(world: World, who: Machine, other: Machine) -> bool:
    """Whether `who` has a name, and one of its addresses is of a family that `other` has."""
    if who.number - 1 not in world.named:
        return False
    families = {6 if ":" in address else 4 for address in found_at(who.uplinks)}
    return any(up.has(family) for up in other.uplinks for family in families)


def be_still(world: World) -> None:
    """I8: nobody flaps while nothing happens."""
    before = world.switches()
    world.run(STATIONARY)
    for key, count in world.switches().items():
        if count - before.get(key, count) > MOST_SWITCHES:
            world.broken(f"I8: {count - before[key]} path changes of {key} in {STATIONARY:.0f} s")


def shrink(scenario: Scenario) -> Scenario:
    """Leave out faults while the same invariant still breaks."""
    kept = list(range(FAULTS)) if scenario.faults is None else list(scenario.faults)
    was = _verdict(Scenario(scenario.seed, tuple(kept), edition=scenario.edition))
    for n in list(kept):
        fewer = tuple(other for other in kept if other != n)
        if _verdict(Scenario(scenario.seed, fewer, edition=scenario.edition))[:3] == was[:3]:
            kept.remove(n)
    was = _verdict(Scenario(scenario.seed, tuple(kept), edition=scenario.edition))
    return Scenario(scenario.seed, tuple(kept), was, scenario.edition)


def _verdict(scenario: Scenario) -> str:
    try:
        play(scenario)
    except Broken as broken:
        return str(broken).partition(" s: ")[2]
    return ""
