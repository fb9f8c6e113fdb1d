"""Paths that carry less than Ethernet, with and without a word from routers: everything gets through."""

import time

import pytest

from shore.lab.ends import PORT, ShoreEnd
from shore.lab.forge import forging
from shore.lab.narrow import STOCK, A, B, pair
from shore.lab.net import later, until
from shore.lab.transfer import transfer

pytestmark = pytest.mark.lab
MIB = 1 << 20


def slow(value: int) -> object:
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize("icmp", [True, False])
@pytest.mark.parametrize("mtu", [slow(576), 1280, slow(1400), slow(1500)])
def test_a_mebibyte_always_completes_and_the_mtu_is_found(mtu: int, icmp: bool) -> None:
    with pair(mtu, icmp=icmp) as made:
        done = transfer(made.lab["b"], made.lab["a"], B, MIB, 20)
        assert done.bytes == MIB, made.log()
        assert done.stall <= 2.0, made.log()
        until(lambda: made.path_mtu() > 0, 5)
        assert mtu - 16 <= made.path_mtu() <= mtu, made.log()


def test_jumbo_frames_are_found_and_used() -> None:
    with pair(9000, icmp=False) as made:
        until(lambda: made.path_mtu() >= 8984, 8)
        done = transfer(made.lab["b"], made.lab["a"], B, MIB, 20)
        assert done.bytes == MIB
        assert made.lab["a"].run("ping", "-c1", "-W2", "-M", "do", "-s", "8880", B)


@pytest.mark.slow
def test_an_outer_path_of_ipv6() -> None:
    with pair(1380, icmp=False, family=6) as made:
        done = transfer(made.lab["a"], made.lab["b"], A, MIB, 20)
        assert done.bytes == MIB
        until(lambda: made.path_mtu() > 0, 5)
        assert 1364 <= made.path_mtu() <= 1380


@pytest.mark.parametrize("icmp", [True, False])
@pytest.mark.parametrize("mtu", [1280, slow(1400)])
def test_plain_wireguard_on_the_far_side_each_way(mtu: int, icmp: bool) -> None:
    with pair(mtu, icmp=icmp, b=STOCK) as made:
        time.sleep(2)
        for sender, receiver, address in (("a", "b", A), ("b", "a", B)):
            done = transfer(made.lab[sender], made.lab[receiver], address, MIB, 10)
            assert done.bytes == MIB, (sender, made.log())
            assert done.seconds <= 5, (sender, done)


def test_a_path_that_shrinks_under_bulk_stalls_for_two_seconds_at_most() -> None:
    with pair(1500, icmp=False) as made:
        assert isinstance(made.b, ShoreEnd)
        until(lambda: made.path_mtu() >= 1484, 5)
        made.link.change(rate_mbit=20)
        with later(1.5, lambda: made.link.change(mtu=1300)):
            done = transfer(made.lab["b"], made.lab["a"], B, 6 * MIB, 30)
        assert done.bytes == 6 * MIB, made.b.log()
        assert done.seconds > 2.5, "it was over before the path shrank"
        assert done.stall <= 2.0, made.b.log()


def test_forged_words_of_routers_change_nothing() -> None:
    with pair(1500, icmp=False) as made:
        until(lambda: made.path_mtu() >= 1484, 5)
        before = made.path_mtu()
        with forging(made.lab["b"], "10.99.1.1", "10.99.1.2", PORT):
            time.sleep(1)
            assert made.lab["a"].reaches(B, pings=5)
        assert "mtu" in made.lab["a"].ip("route get 10.99.1.2"), "the kernel takes them for genuine"
        assert made.path_mtu() == before
        assert made.lab["a"].reaches(B, pings=5)
