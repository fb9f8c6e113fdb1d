"""Each kind of NAT is what its name says, by the measurement of RFC 5780, and forgets in time."""

import select
import time
from collections.abc import Iterator

import pytest

from shore.lab.classify import Reflector, classify, lifetime
from shore.lab.inside import datagram_socket
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.nat import ImpossibleNat, Kind, Nat, NatBox

pytestmark = [pytest.mark.lab]
TRANSLATING = (
    "full-cone",
    "address-restricted",
    "port-restricted",
    "burned",
    "symmetric",
    "symmetric-sequential",
)
SERVERS = ("192.0.2.2", "192.0.2.3")


@pytest.fixture(scope="module")
def street() -> Iterator[Laboratory]:
    """a 10.1.0.2 ── home ── 100.64.0.0/24 ── carrier ── 192.0.2.0/24 ── world, which has two addresses."""
    with Laboratory("street") as lab:
        lab.host("a"), lab.router("home"), lab.router("carrier"), lab.host("world")
        inner = ("10.1.0.2/24", "fd01::2/64")
        lab.link(
            "lan",
            Ending("a", "eth0", inner, ("10.1.0.1", "fd01::1")),
            Ending("home", "lan0", ("10.1.0.1/24", "fd01::1/64")),
            cable=True,
        )
        lab.link(
            "access",
            Ending("home", "wan0", ("100.64.0.2/24", "fd64::2/64"), ("100.64.0.1", "fd64::1")),
            Ending("carrier", "lan0", ("100.64.0.1/24", "fd64::1/64")),
            cable=True,
        )
        lab.link(
            "core",
            Ending("carrier", "wan0", ("192.0.2.1/24", "2001:db8::1/64")),
            Ending(
                "world",
                "eth0",
                ("192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"),
                ("192.0.2.1", "2001:db8::1"),
            ),
            cable=True,
        )
        lab["carrier"].ip("route add 10.1.0.0/24 via 100.64.0.2")
        lab["carrier"].ip("-6 route add fd01::/64 via fd64::2")
        yield lab


@pytest.fixture
def reflector(street: Laboratory) -> Iterator[Reflector]:
    with Reflector(street["world"], SERVERS) as made:
        yield made


def plugged(street: Laboratory, home: Nat, carrier: Nat | None = None) -> NatBox:
    """Put fresh NATs in the two routers."""
    box = street.nat("home", home)
    street.nat("carrier", carrier or Nat("none"))
    for router in ("home", "carrier"):
        street[router].run("conntrack", "-F")
    return box


@pytest.mark.parametrize("kind", ["none", "firewall", *TRANSLATING])
def test_a_kind_is_what_its_name_says(street: Laboratory, reflector: Reflector, kind: Kind) -> None:
    plugged(street, Nat(kind))
    found = classify(street["a"], reflector)
    assert found.kind() == kind
    assert found.hairpin == (kind in ("none", "firewall"))
    assert found.step == (1 if kind == "symmetric-sequential" else None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSLATING)
def test_a_hairpin_can_be_had_with_each_kind(street: Laboratory, reflector: Reflector, kind: Kind) -> None:
    plugged(street, Nat(kind, hairpin=True))
    found = classify(street["a"], reflector)
    assert (found.hairpin, found.kind()) == (True, kind)


@pytest.mark.parametrize(
    "kind", ["full-cone", *(pytest.param(k, marks=pytest.mark.slow) for k in ("firewall", *TRANSLATING[1:]))]
)
def test_a_mapping_lives_as_long_as_asked(street: Laboratory, reflector: Reflector, kind: Kind) -> None:
    plugged(street, Nat(kind, lifetime_s=3))
    assert lifetime(street["a"], reflector, [1.0, 2.0, 4.5]) == (2.0, 4.5)


@pytest.mark.parametrize(
    ("home", "carrier", "together"),
    [
        ("port-restricted", "full-cone", "port-restricted"),
        ("full-cone", "port-restricted", "port-restricted"),
        ("port-restricted", "symmetric", "symmetric"),
        ("full-cone", "full-cone", "full-cone"),
    ],
)
def test_a_chain_is_as_strict_as_its_strictest(
    street: Laboratory, reflector: Reflector, home: Kind, carrier: Kind, together: Kind
) -> None:
    plugged(street, Nat(home), Nat(carrier))
    assert classify(street["a"], reflector).kind() == together


def test_blocked_udp_reaches_nobody_and_other_packets_pass(street: Laboratory, reflector: Reflector) -> None:
    plugged(street, Nat("port-restricted", udp_blocked=True))
    assert not classify(street["a"], reflector).reachable
    assert street["a"].reaches("192.0.2.2")


def test_a_policer_passes_its_rate(street: Laboratory) -> None:
    plugged(street, Nat("port-restricted", policer=200))
    with datagram_socket(street["a"]) as sender, datagram_socket(street["world"], "192.0.2.2", 7) as listener:
        began, arrived = time.monotonic(), 0
        for number in range(2000):
            sender.sendto(b"x", ("192.0.2.2", 7))
            time.sleep(max(0.0, began + number / 1000 - time.monotonic()))
        while select.select([listener], [], [], 0.2)[0]:
            listener.recv(10)
            arrived += 1
        took = number / 1000
    assert 0.85 * 200 * took < arrived < 1.15 * 200 * took + 20


def test_a_reboot_moves_every_mapping(street: Laboratory, reflector: Reflector) -> None:
    box = plugged(street, Nat("full-cone"))
    with datagram_socket(street["a"]) as inner, datagram_socket(street["world"], "192.0.2.2", 7) as outer:

        def mapped() -> tuple[str, int]:
            inner.sendto(b"out", ("192.0.2.2", 7))
            return outer.recvfrom(10)[1]  # type: ignore[no-any-return]

        def gets_in(to: tuple[str, int]) -> bool:
            reflector.send((1, 1), to)
            got = bool(select.select([inner], [], [], 0.3)[0])
            return got and inner.recv(20) == b"uninvited"

        before = mapped()
        assert mapped() == before
        assert gets_in(before)
        box.reboot()
        assert not gets_in(before)
        assert mapped() != before
        assert gets_in(mapped())


def test_a_nat_can_rebind_again_and_again(street: Laboratory) -> None:
    box = plugged(street, Nat("port-restricted"))
    ports = []
    with (
        datagram_socket(street["a"]) as inner,
        datagram_socket(street["world"], "192.0.2.2", 7) as outer,
        street.every(0.5, box.reboot),
    ):
        for _ in range(10):
            inner.sendto(b"out", ("192.0.2.2", 7))
            ports.append(outer.recvfrom(10)[1][1])
            time.sleep(0.2)
    assert 4 <= len(dict.fromkeys(ports)) <= 6


def test_a_firewall_holds_for_ipv6(street: Laboratory) -> None:
    plugged(street, Nat("none"))
    assert street["world"].reaches("fd01::2")
    plugged(street, Nat("firewall"))
    assert not street["world"].reaches("fd01::2", within_s=1)
    assert street["a"].reaches("2001:db8::2")


def test_what_cannot_be_is_refused_in_one_sentence() -> None:
    with pytest.raises(ImpossibleNat, match="lifetime_s = 0 is not between 1 and 86400"):
        Nat(lifetime_s=0)
    with pytest.raises(ImpossibleNat, match="a hairpin needs a translation, and `firewall` has none"):
        Nat("firewall", hairpin=True)
