"""Names and addresses of members."""

import random
from ipaddress import IPv4Address, IPv4Network

import pytest

from shore.coordination import names


@pytest.mark.parametrize(
    ("asked", "given"),
    [("Kitchen PC.lan", "kitchen-pc"), ("--", "node"), ("a" * 80, "a" * 63), ("\x1b[31mred", "31mred")],
)
def test_what_is_asked_for_becomes_the_nearest_label(asked: str, given: str) -> None:
    assert names.label(asked) == given
    assert names.valid_name(given)


def test_the_second_of_a_name_gets_a_number_that_fits() -> None:
    assert names.unique("kitchen", {"kitchen"}) == "kitchen-2"
    assert names.unique("kitchen", {"kitchen", "kitchen-2"}) == "kitchen-3"
    long = "a" * 63
    assert names.unique(long, {long}) == "a" * 61 + "-2"


@pytest.mark.parametrize("address", ["100.64.0.0", "100.64.7.255", "100.100.100.100", "100.128.0.1"])
def test_some_addresses_are_nobodys(address: str) -> None:
    assert not names.usable(IPv4Address(address))


def test_an_address_is_free_and_not_in_use_locally() -> None:
    chance = random.Random(1)
    avoid = IPv4Network("100.64.0.0/11")
    taken: set[str] = set()
    for _ in range(500):
        address = names.draw_v4(taken, chance.randrange, [avoid])
        assert names.usable(address)
        assert address not in avoid
        assert str(address) not in taken
        taken.add(str(address))


def test_where_all_is_in_use_around_an_address_is_drawn_all_the_same() -> None:
    halves = [IPv4Network("100.64.0.0/11"), IPv4Network("100.96.0.0/11")]
    assert names.usable(names.draw_v4((), random.Random(1).randrange, halves))


def test_no_address_left_is_said() -> None:
    with pytest.raises(names.NoRoom, match="no address left"):
        names.draw_v4((), lambda _: 0)


def test_both_families_have_the_same_number() -> None:
    own = names.draw_range_v6(bytes([1, 2, 3, 4, 5]))
    assert str(own) == "fd01:203:405::/48"
    assert str(names.v6_of(IPv4Address("100.64.0.1"), own)) == "fd01:203:405::2"
