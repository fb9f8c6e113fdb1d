"""A node's name server: what it answers, and what it leaves to others."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from shore.wire.names import Zone, answer

ZONE = Zone(
    "shore.internal",
    ("100.64.0.0/10", "fd12:3456:789a::/48"),
    {
        "hub.shore.internal": ("100.64.0.1", "fd12:3456:789a::1"),
        "laptop.shore.internal": ("100.64.0.2",),
    },
)


def ask(name: str, kind: str) -> dns.message.Message | None:
    said = answer(dns.message.make_query(name, kind).to_wire(), ZONE)
    return None if said is None else dns.message.from_wire(said)


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("hub.shore.internal", "A", ["100.64.0.1"]),
        ("HUB.Shore.Internal", "A", ["100.64.0.1"]),
        ("hub.shore.internal", "AAAA", ["fd12:3456:789a::1"]),
        ("laptop.shore.internal", "AAAA", []),
        ("hub.shore.internal", "MX", []),
        ("shore.internal", "A", []),
        ("2.0.64.100.in-addr.arpa", "PTR", ["laptop.shore.internal."]),
    ],
)
def test_names_of_the_network_are_answered(name: str, kind: str, found: list[str]) -> None:
    said = ask(name, kind)
    assert said is not None
    assert said.rcode() == dns.rcode.NOERROR
    assert said.flags & dns.flags.AA
    assert [record.to_text() for rrset in said.answer for record in rrset] == found


@pytest.mark.parametrize("name", ["nobody.shore.internal", "a.hub.shore.internal", "9.0.64.100.in-addr.arpa"])
def test_names_that_the_network_does_not_have_end_here(name: str) -> None:
    said = ask(name, "A")
    assert said is not None
    assert said.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", ["example.com", "internal", "notshore.internal", "1.2.0.192.in-addr.arpa", "."]
)
def test_everything_else_is_for_others(name: str) -> None:
    assert ask(name, "A") is None


@pytest.mark.parametrize("query", [b"", b"short", bytes(12), bytes(600)])
def test_nonsense_is_no_query(query: bytes) -> None:
    with pytest.raises(ValueError, match="no query"):
        answer(query, ZONE)


def test_an_answer_is_no_query() -> None:
    made = dns.message.make_response(dns.message.make_query("hub.shore.internal", "A"))
    with pytest.raises(ValueError, match="no query"):
        answer(made.to_wire(), ZONE)
