"""Two nodes of a mesh, each behind a NAT, with the relay between them: which pairs come to a direct path.

The first packet goes by the relay; a pair that can meet moves to a direct path, and no ping is lost by that.
"""

import time
from collections.abc import Iterator

import pytest

from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.member import Member
from shore.lab.nat import Kind, Nat
from shore.lab.net import until
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab]
FIRST_PING_WITHIN_S = 5.0
DIRECT_WITHIN_S = 15.0
CONES: tuple[Kind, Kind] = ("port-restricted", "port-restricted")
OPEN: tuple[Kind, Kind] = ("symmetric", "full-cone")
ADDRESS: tuple[Kind, Kind] = ("symmetric", "address-restricted")
MEETING = (CONES, pytest.param(OPEN, marks=pytest.mark.slow), pytest.param(ADDRESS, marks=pytest.mark.slow))


@pytest.fixture
def street(request: pytest.FixtureRequest) -> Iterator[tuple[Member, Member]]:
    """Nodes `a` and `b` of one network, each behind a NAT of the kind that is asked for."""
    with Laboratory("grid") as lab:
        lab.host("a"), lab.router("ha"), lab.router("core"), lab.router("hb"), lab.host("b"), lab.host("hub")
        for number, (end, home, kind) in enumerate(
            (("a", "ha", request.param[0]), ("b", "hb", request.param[1])), 1
        ):
            inner, outer = f"10.{number}.0", f"198.51.10{number}"
            lan = Ending(home, "lan0", (f"{inner}.1/24",))
            wan = Ending("core", f"wan{number}", (f"{outer}.1/24",))
            lab.link(f"lan-{end}", Ending(end, "eth0", (f"{inner}.2/24",), (f"{inner}.1",)), lan, cable=True)
            lab.link(f"wan-{end}", Ending(home, "wan0", (f"{outer}.2/24",), (f"{outer}.1",)), wan, cable=True)
            lab.nat(home, Nat(kind))
        hub = Ending("hub", "eth0", ("192.0.2.2/24",), ("192.0.2.1",))
        lab.link("wan-hub", hub, Ending("core", "hub0", ("192.0.2.1/24",)), cable=True)
        for name in ("a", "b", "hub"):
            lab[name].resolve_by("192.0.2.53")
        members = {name: Member(lab[name], name) for name in ("hub", "a", "b")}
        try:
            members["hub"].found()
            for name in ("a", "b"):
                members[name].join(members["hub"].shore("invite").split()[3])
            yield members["a"], members["b"]
        finally:
            for member in members.values():
                member.down()


@pytest.mark.parametrize("street", MEETING, indirect=True, ids=" and ".join)
def test_nats_that_can_meet_come_to_a_direct_path_and_lose_no_ping_on_the_way(
    street: tuple[Member, Member],
) -> None:
    a, _ = street
    address = _reached(a)
    pinger = Pinger(a.host, address)
    until(lambda: _way(a) == "direct", DIRECT_WITHIN_S)
    time.sleep(1)
    assert pinger.stop().lost() == 0


@pytest.mark.parametrize("street", [("symmetric", "symmetric")], indirect=True, ids=" and ".join)
def test_nats_that_cannot_meet_stay_with_the_relay_and_netcheck_says_what_would_help(
    street: tuple[Member, Member],
) -> None:
    a, _ = street
    _reached(a)
    time.sleep(5)
    assert _way(a) == "relay"
    said = a.shore("netcheck")
    assert "NAT: another mapping for each peer (endpoint-dependent)" in said
    assert "suggestion: the router shows each peer another port" in said


def _reached(a: Member) -> str:
    address = a.shore("ip", "b").split()[0]
    until(lambda: a.host.reaches(address, within_s=1), FIRST_PING_WITHIN_S)
    return address


def _way(a: Member) -> str | None:
    """The kind of the path that packets to b take."""
    peer = next(peer for peer in a.status().peers if peer.name == "b")
    return next((path.kind for path in peer.paths if path.primary), None)
