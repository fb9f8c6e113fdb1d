"""A mesh on virtual time: what goes on without its server, and how soon its nodes find each other again."""

from __future__ import annotations

import pytest
from tests.sim import machine as machines
from tests.sim.mesh import SimRelay, Tied
from tests.sim.meshworld import MeshWorld
from tests.sim.network import Nat

from shore._native import ModelPlane
from shore.core.relays import place_of

DAY = 86400.0


class LyingRelay(SimRelay):
    """It says everything again a while later, and that others have said it."""

    lies = 0

    def forward(self, tied: Tied, remote: str, datagram: bytes) -> None:
        super().forward(tied, remote, datagram)
        for number, other in enumerate(list(self.streams.values())):
            for source in self.streams.values():
                self.lies += 1
                delay = 0.05 + 0.01 * number
                self.world.after(delay, other.receive, place_of(source.node_key), datagram)
                self.world.after(delay + 1.0, other.receive, place_of(source.node_key), datagram)


def cone(n: int) -> Nat:
    return Nat(f"198.51.{n}.1", "endpoint", "port", True, 60.0)


def joined(*nats: Nat | None, relays: int = 1) -> MeshWorld:
    """Machines that have found each other."""
    world = MeshWorld(1, nats, relays=relays)
    world.start()
    world.run(20.0)
    assert world.lost(world.now - 2) == []
    return world


def test_members_find_each_other_by_the_server_and_meet_directly() -> None:
    world = joined(cone(1), cone(2), None)
    for pair in world.pairs:
        assert world.way(pair.a, pair.b) == "direct", pair


def test_whom_nothing_joins_directly_talk_by_the_relay() -> None:
    world = MeshWorld(1, (None, None))
    world.block(*world.machines)
    world.start()
    world.run(20.0)
    assert world.lost(5.0) == []
    assert world.way(*world.machines) == "relay"
    assert world.relays["r1"].forwarded > 100


def test_without_the_server_nothing_is_lost_and_a_direct_path_is_found_by_the_relay() -> None:
    world = MeshWorld(1, (cone(1), cone(2)))
    a, b = world.machines
    world.block(a, b)
    world.start()
    world.run(20.0)
    world.server.die()
    world.run(30.0)
    assert world.way(a, b) == "relay"
    world.block(a, b, -1)
    since = world.now
    world.run(90.0)
    assert world.way(a, b) == "direct"
    assert world.lost(since) == []


@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize("nats", [(None, None), (cone(1), cone(2))], ids=["public", "behind NATs"])
def test_both_may_move_at_once_while_the_server_is_down(nats: tuple[Nat | None, ...], relays: int) -> None:
    world = joined(*nats, relays=relays)
    a, b = world.machines
    world.server.die()
    world.run(10.0)
    at = world.now
    for machine in (a, b):
        world.move(machine, machine.uplinks[0])
    world.run(30.0)
    gap = world.gap(at + 0.05)
    assert gap is not None
    assert gap <= 5.0
    assert world.lost(at + 5.0) == []
    assert world.way(a, b) == "direct"


def test_a_server_that_falls_silent_is_noticed_within_20_s_and_nothing_is_lost() -> None:
    world = joined(None, cone(2))
    at = world.now
    world.server.silent = True
    world.run(20.1)
    assert {machine.tie.membership.state for machine in world.machines} == {"down"}
    world.server.silent = False
    world.run(60.0)
    assert {machine.tie.membership.state for machine in world.machines} == {"up"}
    assert world.lost(at) == []


def test_who_moved_says_so_by_a_new_link_long_before_the_old_one_would_be_given_up() -> None:
    world = joined(None, None)
    a, b = world.machines
    world.move(a, a.uplinks[0])
    world.run(5.0)
    assert a.tie.membership.state == "up"
    told = [said.why for at, said in b.announced if said.what == "session renewed" and at > world.now - 5.0]
    assert "asked for" in told


@pytest.mark.parametrize("way", ["direct", "relay"])
@pytest.mark.parametrize("server", [True, False], ids=["with the server", "without it"])
def test_sessions_that_died_with_a_plane_are_renewed_at_once(way: str, server: bool) -> None:
    world = joined(None, None) if way == "direct" else _by_relay()
    a, b = world.machines
    assert world.way(a, b) == way
    if not server:
        world.server.die()
        world.run(5.0)
    at = world.now
    b.plane_dies()
    world.run(5.0)
    gap = world.gap(at + 0.03)
    assert gap is not None
    assert gap <= 1.0


def test_a_node_that_reboots_without_the_server_is_there_again_from_its_netmap() -> None:
    world = joined(None, None)
    world.server.die()
    world.run(5.0)
    b = world.machines[1]
    b.crash(1.0)
    at = world.now
    world.run(10.0)
    gap = world.gap(at + 0.03)
    assert gap is not None
    assert gap <= 1.0 + 5.0


def test_relays_die_and_come_back() -> None:
    world = _by_relay(relays=2)
    a = world.machines[0]
    home = a.node.relays.home if a.node is not None else None
    for name in (home or "r1", *world.relays):
        at = world.now
        world.relays[name].die()
        world.run(10.0)
        gap = max((lost - at for lost, _ in world.lost(at)), default=0.0)
        assert gap <= 2.0, name
        world.relays[name].up = True
        world.run(30.0)
        assert world.lost(at + 2.0) == []


def test_the_only_relay_is_used_again_soon_after_it_is_back() -> None:
    world = _by_relay()
    world.relays["r1"].die()
    world.run(30.0)
    at = world.now
    world.relays["r1"].up = True
    world.run(10.0)
    gap = world.gap(at)
    assert gap is not None
    assert gap <= 5.0


@pytest.mark.parametrize("way", ["direct", "relay"])
def test_who_is_revoked_hears_nothing_more_and_nobody_hears_it(way: str) -> None:
    world = joined(None, None) if way == "direct" else _by_relay()
    a, b = world.machines
    world.revoke(b)
    world.run(60.0)
    assert a.node is not None
    assert a.node.peers == {}
    assert len(world.lost(world.now - 30.0, world.now - 1.0)) > 500


def test_a_relay_that_replays_and_forges_harms_nobody() -> None:
    world = MeshWorld(1, (None, None, None), make_relay=LyingRelay)
    a, b, _ = world.machines
    world.block(a, b)
    world.start()
    world.run(40.0)
    lying = world.relays["r1"]
    assert isinstance(lying, LyingRelay)
    assert lying.lies > 200
    assert world.lost(5.0) == []
    assert world.twice == 0
    assert world.way(a, b) == "relay"


@pytest.mark.parametrize("way", ["direct", "relay"])
def test_half_an_hour_without_the_server_costs_no_ping(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _without_server(way, 0.0, 1800.0, monkeypatch) == []


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("way", ["direct", "relay"])
def test_a_week_without_the_server_costs_no_ping(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the renewal that falls into its last day, node keys would run out within the week.
    assert _without_server(way, 1.15 * DAY, 7 * DAY, monkeypatch) == []


def _by_relay(relays: int = 1) -> MeshWorld:
    world = MeshWorld(1, (None, None), relays=relays)
    world.block(*world.machines)
    world.start()
    world.run(20.0)
    assert world.lost(world.now - 2) == []
    return world


def _without_server(way: str, up: float, down: float, monkey: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What is lost of a ping a minute while the server is up for so long, and then down for so long."""
    monkey.setattr(machines, "QUESTION_EVERY", 10.0)
    world = MeshWorld(1, (cone(1), cone(2)) if way == "direct" else (None, None), key_lifetime_s=8.1 * DAY)
    if way == "relay":
        world.block(*world.machines)
    world.start()
    world.run(20.0)
    assert world.lost(world.now - 2) == []
    world.ping_every, world.look_every = 60.0, 60.0
    since = world.now
    world.run(up)
    keys = {machine.public_key for machine in world.machines}
    assert (keys != {ModelPlane.public_key(bytes([n]) * 32) for n in (1, 2)}) == (up > DAY)
    world.server.die()
    world.run(down)
    assert world.way(*world.machines) == way
    assert len(world.answers) > (up + down) / 61
    return world.lost(since)
