"""What netcheck makes of what the tunnel knows."""

import msgspec
from tests.core.test_node import PEER, WIRED, Table, running

from shore.core.events import FactTold, LinksChanged, PlaneAnswered, PortsMapped, Woke
from shore.core.netcheck import netcheck
from shore.model.config import Endpoint
from shore.model.facts import Mapped, PathCounters, PeerCounters
from shore.model.netcheck import Netcheck

SERVERS = ("198.51.100.8", "198.51.100.9")
STUN = tuple(Endpoint(server, 3478) for server in SERVERS)


def started(**changes: object) -> Table:
    table = running(**{"stun": STUN, **changes})
    table.tell(LinksChanged((WIRED,)))
    return table


def seen(table: Table, *mapped: str) -> Netcheck:
    for server, each in zip(SERVERS, mapped, strict=False):
        table.fact(Mapped(1, f"{server}:3478", each))
    return checked(table)


def checked(table: Table) -> Netcheck:
    return netcheck(table.node, table.now)


def test_one_mapping_for_two_servers_is_endpoint_independent() -> None:
    found = seen(started(), "203.0.113.7:4000", "203.0.113.7:4000")
    assert (found.public_v4, found.public_v6) == (("203.0.113.7:4000",), ())
    assert (found.mapping, found.udp_blocked, found.suggestion) == ("endpoint_independent", False, None)


def test_another_mapping_for_each_server_is_endpoint_dependent_and_a_mapped_port_cures_it() -> None:
    table = started(port_mapping=True)
    found = seen(table, "203.0.113.7:4000", "203.0.113.7:4001")
    assert found.mapping == "endpoint_dependent"
    assert found.suggestion == (
        "the router shows each peer another port: switch on UPnP, NAT-PMP or PCP there, "
        "or forward UDP port 51820 to this machine"
    )
    table.tell(PortsMapped(("203.0.113.7:51820",)))
    assert (checked(table).suggestion, checked(table).ports_mapped) == (None, ("203.0.113.7:51820",))


def test_one_server_alone_tells_no_mapping_but_whether_there_is_a_nat() -> None:
    assert seen(started(), "203.0.113.7:4000").mapping is None
    assert seen(started(), "192.0.2.1:51820").mapping == "none"


def test_a_peer_is_a_second_witness() -> None:
    for observed, mapping in (
        ("203.0.113.7:4000", "endpoint_independent"),
        ("203.0.113.7:4001", "endpoint_dependent"),
    ):
        table = started()
        table.tell(PlaneAnswered({}, {}, (counters(observed),)))
        assert seen(table, "203.0.113.7:4000").mapping == mapping


def test_a_restarted_nat_is_not_taken_for_a_dependent_one() -> None:
    table = started()
    seen(table, "203.0.113.7:4000")
    table.now += 61.0
    table.tell(FactTold(9, Mapped(1, f"{SERVERS[1]}:3478", "203.0.113.7:5000")))
    found = checked(table)
    assert (found.mapping, found.public_v4) == (None, ("203.0.113.7:5000",))


def test_udp_is_blocked_when_nobody_who_is_asked_answers_in_time() -> None:
    table = started()
    assert checked(table).udp_blocked is None
    table.now += 5.0
    table.tell(Woke())
    assert checked(table).udp_blocked is True
    assert checked(table).suggestion is not None
    moved = msgspec.structs.replace(WIRED, addresses=("192.0.2.9",))
    table.tell(LinksChanged((moved,)))
    assert checked(table).udp_blocked is None
    table.tell(PlaneAnswered({}, {}, (counters("203.0.113.7:4000"),)))
    assert checked(table).udp_blocked is False


def counters(observed: str) -> PeerCounters:
    path = PathCounters(1, "direct", 1, "192.0.2.2:51820", True, "live", rtt_ms=9.0, observed=observed)
    return PeerCounters(
        PEER, path.remote, 1, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=(path,)
    )
