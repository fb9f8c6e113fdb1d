"""The simulated NATs do what RFC 4787 calls them."""

import random

import pytest
from tests.sim.network import Behaviour, Internet, Nat, Uplink

INSIDE, FIRST, SAME_HOST, OTHER = "10.0.0.2:51820", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.9:1"


def nat(mapping: Behaviour = "endpoint", filtering: Behaviour = "port") -> Nat:
    return Nat("198.51.100.1", mapping, filtering)


def leave(nat: Nat, remote: str, now: float = 0.0) -> str:
    return nat.leave(INSIDE, remote, now, random.Random(1))


@pytest.mark.parametrize(("mapping", "ports"), [("endpoint", 1), ("address", 2), ("port", 3)])
def test_mappings_depend_on_what_they_are_named_after(mapping: Behaviour, ports: int) -> None:
    one = nat(mapping)
    assert len({leave(one, remote) for remote in (FIRST, SAME_HOST, OTHER)}) == ports


@pytest.mark.parametrize(
    ("filtering", "passes"),
    [("endpoint", {FIRST, SAME_HOST, OTHER}), ("address", {FIRST, SAME_HOST}), ("port", {FIRST})],
)
def test_filters_pass_what_they_are_named_after(filtering: Behaviour, passes: set[str]) -> None:
    one = nat(filtering=filtering)
    port = int(leave(one, FIRST).rpartition(":")[2])
    entered = {remote for remote in (FIRST, SAME_HOST, OTHER) if one.enter(port, remote, 0.0) == INSIDE}
    assert entered == passes


def test_only_what_goes_out_keeps_a_mapping_alive() -> None:
    one = nat()
    port = int(leave(one, FIRST).rpartition(":")[2])
    assert one.enter(port, FIRST, 60.0) == INSIDE
    assert one.enter(port, FIRST, 61.0) is None
    leave(one, FIRST, 61.0)
    assert one.enter(51820, FIRST, 120.0) == INSIDE


def test_a_reboot_forgets_every_mapping() -> None:
    one = nat()
    port = int(leave(one, FIRST).rpartition(":")[2])
    one.reboot()
    assert one.enter(port, FIRST, 0.0) is None


def test_the_internet_carries_what_no_fault_stops() -> None:
    internet = Internet(random.Random(1))
    a, b = Uplink(0, "eth0", 2, "192.0.2.1"), Uplink(1, "eth0", 2, "192.0.2.2")
    assert internet.delays(a, b, bytes(100)) == (0.02,)
    assert internet.delays(a, b, bytes(1500)) == ()
    internet.cut(a, b, 1)
    assert internet.delays(a, b, bytes(100)) == ()
    assert internet.delays(b, a, bytes(100)) == (0.02,)
    internet.cut(a, b, -1)
    b.deaf = 1
    assert internet.delays(a, b, b"\x04" + bytes(99)) == ()
    assert internet.delays(a, b, b"\x01" + bytes(99)) == (0.02,)


def test_a_narrow_uplink_swallows_what_may_not_be_cut() -> None:
    internet = Internet(random.Random(1))
    a, b = Uplink(0, "eth0", 2, "192.0.2.1"), Uplink(1, "eth0", 2, "192.0.2.2")
    b.mtu = 1300
    assert internet.delays(a, b, bytes(1272)) == (0.02,)
    assert internet.delays(a, b, bytes(1273)) == ()
    assert internet.delays(a, b, bytes(1253), 6) == ()
    assert internet.delays(a, b, bytes(1400), fragments=True) == (0.02,)


def test_one_family_dies_and_the_other_lives() -> None:
    internet = Internet(random.Random(1))
    a = Uplink(0, "eth0", 2, "192.0.2.1", address6="2001:db8::1")
    b = Uplink(1, "eth0", 2, "192.0.2.2", address6="2001:db8::2", only6=True)
    for uplink in (a, b):
        internet.join(uplink)
    assert internet.home("192.0.2.2:1") == (None, 1)
    assert internet.home("[2001:db8::2]:1") == (b, 1)
    a.dead4 = 1
    assert (internet.carries(a, b, 4), internet.carries(a, b, 6)) == (False, True)
    a.dead4, b.dead6 = 0, 1
    assert (internet.carries(a, b, 4), internet.carries(a, b, 6)) == (True, False)
