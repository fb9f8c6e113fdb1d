"""What can happen to a world: faults with a beginning, an end, and a name.

A fault is a frozen value made of numbers and words, so that a schedule is a list, a list can be shortened,
and what is left of it can be kept in a file. Each kind is a pair of functions: what it does and how it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from tests.sim.network import Uplink

if TYPE_CHECKING:
    from tests.sim.machine import Machine
    from tests.sim.world import World


class Fault(msgspec.Struct, frozen=True):
    """`machine` and `other` count from 0, `uplink` is any number, `amount` a share from 0 to 1."""

    at: float
    kind: str
    machine: int
    uplink: int
    other: int
    lasts: float
    amount: float


class Scene:
    """A fault and those whom it strikes."""

    def __init__(self, world: World, fault: Fault) -> None:
        self.world, self.fault = world, fault
        self.machine: Machine = world.machines[fault.machine % len(world.machines)]
        self.uplink: Uplink = self.machine.uplinks[fault.uplink % len(self.machine.uplinks)]
        others = [machine for machine in world.machines if machine is not self.machine]
        self.other: Machine = others[fault.other % len(others)]
        self.far: Uplink = self.other.uplinks[fault.uplink % len(self.other.uplinks)]


def down(scene: Scene, count: int) -> None:
    """An uplink is unplugged, and comes back as another device."""
    scene.uplink.down += count
    if scene.uplink.up:
        scene.uplink.index += 100
    scene.machine.links_changed()


def silent(scene: Scene, count: int) -> None:
    """An uplink swallows everything, both ways."""
    scene.uplink.hole_out += count
    scene.uplink.hole_in += count


def hole_out(scene: Scene, count: int) -> None:
    """An uplink swallows what goes out."""
    scene.uplink.hole_out += count


def hole_in(scene: Scene, count: int) -> None:
    """An uplink swallows what comes in."""
    scene.uplink.hole_in += count


def cut(scene: Scene, count: int) -> None:
    """Two uplinks cannot talk, in either direction."""
    scene.world.internet.cut(scene.uplink, scene.far, count)
    scene.world.internet.cut(scene.far, scene.uplink, count)


def half_cut(scene: Scene, count: int) -> None:
    """Two uplinks cannot talk in one direction."""
    scene.world.internet.cut(scene.uplink, scene.far, count)


def deaf(scene: Scene, count: int) -> None:
    """Data messages of WireGuard are dropped, the rest passes."""
    scene.uplink.deaf += count


def offline(scene: Scene, count: int) -> None:
    """A machine loses all its uplinks to a black hole."""
    for uplink in scene.machine.uplinks:
        uplink.hole_out += count
        uplink.hole_in += count


def v4_dies(scene: Scene, count: int) -> None:
    """An uplink swallows IPv4, and carries IPv6 if it has it."""
    scene.uplink.dead4 += count


def v6_dies(scene: Scene, count: int) -> None:
    """An uplink swallows IPv6."""
    scene.uplink.dead6 += count


def narrow(scene: Scene, count: int) -> None:
    """An uplink carries smaller packets than before, and nobody says so."""
    if count > 0:
        scene.uplink.mtu = min(scene.uplink.mtu, LEAST_MTU + int(scene.fault.amount * 140))
    else:
        scene.uplink.mtu = scene.uplink.whole_mtu


def flaps(scene: Scene, count: int) -> None:
    """An uplink swallows everything, then nothing, again and again."""
    silent(scene, count)
    if count > 0:
        half = 0.2 + scene.fault.amount * 2.0
        beats = int(scene.fault.lasts / half)
        for beat in range(1, beats + beats % 2 - 1):
            scene.world.after(beat * half, _flap, scene, -1 if beat % 2 else 1)


def _flap(scene: Scene, count: int) -> None:
    silent(scene, count)
    scene.world.look()


def lossy(scene: Scene, count: int) -> None:
    """An uplink loses up to a fifth."""
    scene.uplink.loss = max(scene.uplink.loss + count * scene.fault.amount * 0.2, 0.0)


def slow(scene: Scene, count: int) -> None:
    """An uplink becomes up to 300 ms slower and jitters."""
    scene.uplink.delay += count * scene.fault.amount * 0.3
    scene.uplink.jitter += count * scene.fault.amount * 0.05


def disorderly(scene: Scene, count: int) -> None:
    """An uplink reorders and doubles."""
    scene.uplink.reorder += count * scene.fault.amount * 0.2
    scene.uplink.duplicate += count * scene.fault.amount * 0.2


def moved(scene: Scene, count: int) -> None:
    """An uplink gets another address, and keeps it."""
    if count > 0:
        scene.world.move(scene.machine, scene.uplink)


def nat_reboot(scene: Scene, count: int) -> None:
    """A NAT forgets its mappings and deals out other ports."""
    if count > 0 and scene.uplink.nat is not None:
        scene.uplink.nat.reboot()
        scene.uplink.nat.preserves_port = False


def plane_dies(scene: Scene, count: int) -> None:
    """The data plane is killed."""
    if count > 0:
        scene.machine.plane_dies()


def brain_restarts(scene: Scene, count: int) -> None:
    """The brain is killed and another one attaches."""
    if count > 0 and scene.machine.node is not None and scene.machine.asleep_since is None:
        scene.machine.brain_restarts()


def brain_stalls(scene: Scene, count: int) -> None:
    """The brain stops thinking for a while."""
    if count > 0:
        scene.machine.stall()
    else:
        scene.machine.think_again()


def sleeps(scene: Scene, count: int) -> None:
    """The machine is suspended for a while."""
    if count > 0:
        scene.machine.sleep()
    else:
        scene.machine.wake()


def crashes(scene: Scene, count: int) -> None:
    """The machine reboots at once."""
    if count > 0:
        scene.machine.crash(min(scene.fault.lasts, 2.0))


def resolver_down(scene: Scene, count: int) -> None:
    """Names do not resolve."""
    scene.machine.resolver_up = count < 0


KINDS: dict[str, Callable[[Scene, int], None]] = {
    kind.__name__: kind
    for kind in (
        down,
        silent,
        hole_out,
        hole_in,
        cut,
        half_cut,
        deaf,
        offline,
        lossy,
        slow,
        disorderly,
        moved,
        nat_reboot,
        plane_dies,
        brain_restarts,
        brain_stalls,
        sleeps,
        crashes,
        resolver_down,
        v4_dies,
        v6_dies,
        narrow,
        flaps,
    )
}
LEAST_MTU = 1288
# Those that the first edition knew; what broke in it is kept as it was.
FIRST_KINDS = sorted(KINDS.keys() - {"v4_dies", "v6_dies", "narrow", "flaps"})


def strike(world: World, fault: Fault) -> None:
    """Begin a fault now; it ends by itself."""
    scene = Scene(world, fault)
    world.note(scene.machine.number, f"FAULT {fault.kind} of {scene.uplink.name}, {fault.lasts:.1f} s")
    KINDS[fault.kind](scene, 1)
    world.look()
    world.after(fault.lasts, end, scene)


def end(scene: Scene) -> None:
    """A fault is over."""
    KINDS[scene.fault.kind](scene, -1)
    scene.world.note(scene.machine.number, f"END of {scene.fault.kind}")
    scene.world.look()
