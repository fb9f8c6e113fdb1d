"""What nobody would probe or dial is left out at the door."""

from shore.coordination.whereabouts import (
    MOST_PREFIXES,
    fitting,
    is_address,
    sound,
)
from shore.core.candidates import MOST_CANDIDATES
from shore.model.desired import Candidate
from shore.wire import control


def test_few_candidates_and_relays_that_there_are() -> None:
    many = tuple(Candidate(f"192.0.2.1:{port}", "host") for port in range(1, 50))
    kept = sound(control.Whereabouts((many[0], *many), ("gone", "here", "here")), {"here"})
    assert kept == control.Whereabouts(many[:MOST_CANDIDATES], ("here",))


def test_what_a_node_may_lead_to() -> None:
    fit = ("10.1.0.0/24", "fd77::/64", "0.0.0.0/0", "::/0", "203.0.113.7/32")
    unfit = (
        "10.1.0.1/24",
        "nonsense",
        "100.64.0.0/10",
        "100.0.0.0/8",
        "fd01::/64",
        "127.0.0.0/8",
        "ff02::/16",
    )
    assert fitting((*fit, *unfit, *fit), "fd01::/48") == fit
    assert len(fitting(tuple(f"10.1.{number}.0/24" for number in range(200)), "fd01::/48")) == MOST_PREFIXES


def test_a_relay_may_have_a_name() -> None:
    for good in ("relay.example.org:443", "192.0.2.1:443", "[2001:db8::1]:443"):
        assert is_address(good)
    for bad in ("relay.example.org", "a b:443", "x\x1b:443", "-x:443", ":443", "[x]:443"):
        assert not is_address(bad)
