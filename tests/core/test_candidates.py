"""Which places of a Shore peer become paths."""

import pytest

from shore.core.candidates import is_sound, own_candidates, places
from shore.core.sockets import Sockets
from shore.model.desired import Candidate, Socket
from shore.model.links import Link

UNBOUND, ETH0, ETH1 = Socket(1, 4), Socket(2, 4, "eth0"), Socket(3, 4, "eth1")
REMOTE, LEARNED = "192.0.2.1:51820", "192.0.2.1:40000"


def test_one_uplink_is_the_unbound_socket_s() -> None:
    sockets = Sockets()
    sockets.unbound[4] = UNBOUND
    assert places(sockets, [(1, LEARNED)], [REMOTE], [], {1}) == ((1, LEARNED), (1, REMOTE))


def test_the_unbound_socket_is_no_path_beside_those_of_uplinks() -> None:
    sockets = Sockets()
    sockets.unbound[4] = UNBOUND
    sockets.uplinks = {("eth0", 2, 4): ETH0, ("eth1", 3, 4): ETH1}
    spoken = [(1, LEARNED), (3, REMOTE)]
    assert places(sockets, spoken, [REMOTE], [], {1, 2, 3}) == (
        (3, REMOTE),
        (2, LEARNED),
        (3, LEARNED),
        (2, REMOTE),
    )


def test_where_a_peer_was_is_tried_first_when_its_socket_is_gone() -> None:
    sockets = Sockets()
    sockets.unbound[4] = UNBOUND
    assert places(sockets, [(3, LEARNED)], [REMOTE], [], {1}) == ((1, LEARNED), (1, REMOTE))


def test_the_ports_of_a_symmetric_nat_leave_room_for_other_ways() -> None:
    sockets = Sockets()
    sockets.uplinks = {("eth0", 2, 4): ETH0, ("eth1", 3, 4): ETH1}
    spoken = [(2, f"198.51.100.1:{port}") for port in range(4, 0, -1)]
    told = [f"198.51.100.1:{port}" for port in range(5, 10)]
    found = places(sockets, spoken, [REMOTE], [*told, "203.0.113.1:1"], {2, 3})
    assert found == (
        (2, "198.51.100.1:4"),
        (2, "198.51.100.1:3"),
        (2, REMOTE),
        (3, REMOTE),
        (2, "198.51.100.1:5"),
        (3, "198.51.100.1:5"),
        (3, "198.51.100.1:6"),
        (2, "203.0.113.1:1"),
    )


def test_a_port_that_a_server_saw_is_tried_beside_those_that_were_heard() -> None:
    sockets = Sockets()
    sockets.unbound[4] = UNBOUND
    spoken = [(1, "198.51.100.1:2"), (1, "198.51.100.1:1")]
    told = ["198.51.100.1:3", "198.51.100.1:4"]
    assert places(sockets, spoken, [], told, {1}) == (*spoken, (1, "198.51.100.1:3"))


def test_every_port_that_the_file_names_is_a_path() -> None:
    sockets = Sockets()
    sockets.unbound[4] = UNBOUND
    named = [f"192.0.2.1:{port}" for port in (1, 2, 3)]
    assert places(sockets, [(1, LEARNED)], named, [], {1}) == ((1, LEARNED), *((1, name) for name in named))


def test_ports_that_gateways_granted_are_told_after_hosts_and_once() -> None:
    links = (Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,)),)
    mapped = ["203.0.113.7:40000", "203.0.113.7:51820"]
    granted = ["203.0.113.7:51820", "192.0.2.1:51820", "0.0.0.0:51820"]
    assert own_candidates(links, 51820, (), mapped, granted) == (
        Candidate("192.0.2.1:51820", "host"),
        Candidate("203.0.113.7:51820", "port_mapped"),
        Candidate("203.0.113.7:40000", "server_reflexive"),
    )


@pytest.mark.parametrize("endpoint", ["192.0.2.1:1", "10.0.0.1:65535", "[2001:db8::1]:51820"])
def test_an_endpoint_is_an_address_and_a_port(endpoint: str) -> None:
    assert is_sound(Candidate(endpoint, "host"))


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", ":", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:0000443", "192.0.2.1:\u0664"),
        *("127.0.0.1:1", "224.0.0.1:1", "0.0.0.0:1", "169.254.1.1:1", "[::1]:1", "[fe80::1]:1", "::1:1"),
        *("2001:db8::1:1", "[192.0.2.1]:1", "[2001:db8::1%eth0]:1", "example.org:1", "192.0.2.1\n:1"),
    ],
)
def test_what_nobody_probes_is_left_out(endpoint: str) -> None:
    assert not is_sound(Candidate(endpoint, "host"))
