"""Shore with every other implementation, in both roles; and what a peer may do to a live tunnel."""

import os
from collections.abc import Iterator

import msgspec
import pytest

from shore import _native
from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides, tunnel
from shore.lab.net import LabFailed, Net
from shore.model.keys import key_text

pytestmark = [pytest.mark.lab]

PEERS = [
    "wireguard-go",
    pytest.param("wireguard", marks=pytest.mark.slow),
    pytest.param("boringtun-cli", marks=pytest.mark.slow),
    pytest.param("gotatun", marks=pytest.mark.slow),
]


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def pair(net: Net) -> Iterator[tuple[ShoreEnd, StockEnd]]:
    with tunnel(net, ShoreEnd, "wireguard-go") as ends:
        yield ends


@pytest.mark.parametrize("psk", [None, b"\7" * 32], ids=["no PSK", "PSK"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_session_with(net: Net, peer: str, role: str, outer: int, psk: bytes | None) -> None:
    a, b = ("192.0.2.1", "192.0.2.2") if outer == 4 else ("[2001:db8::1]", "[2001:db8::2]")
    forward, back = (f"{b}:{PORT}", None) if role == "initiator" else (None, f"{a}:{PORT}")
    ours, theirs = (msgspec.structs.replace(side, preshared_key=psk) for side in sides(forward, back=back))
    shore, stock = ShoreEnd(net.a, ours), StockEnd(net.b, theirs, peer)
    try:
        try:
            stock.up()
        except LabFailed as error:
            if "scripts/peers" in str(error):
                pytest.skip(str(error))
            raise
        shore.up()
        first, address = (net.a, "10.8.0.2") if role == "initiator" else (net.b, "10.8.0.1")
        assert first.reaches(address, pings=5)
        assert net.a.reaches("10.8.0.2", pings=5)
        assert net.b.reaches("10.8.0.1", pings=5)
    finally:
        shore.down()
        stock.down()


def test_a_source_that_its_peer_may_not_have_is_dropped(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = pair
    assert net.a.reaches("10.8.0.2", pings=5)
    net.b.ip(f"address add 10.8.0.99/32 dev {stock.device}")
    assert not net.b.reaches("10.8.0.1", pings=5, source="10.8.0.99")
    assert sum(shore.status().peers[0].drops.values()) >= 5
    assert net.b.reaches("10.8.0.1", pings=5)


def test_nested_prefixes_go_to_the_longest(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, _ = pair
    other = key_text(_native.public_key(os.urandom(32)))
    conf = shore.conf.read_text()
    shore.conf.write_text(conf + f"[Peer]\nPublicKey = {other}\nAllowedIPs = 10.8.0.0/16\n")
    shore.shore("reload", str(shore.conf))
    assert net.a.reaches("10.8.0.2", pings=5)
    assert not net.a.reaches("10.8.7.7", pings=5)


def test_a_peer_roams_by_port_and_address_and_family(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = pair
    assert net.a.reaches("10.8.0.2", pings=5)
    stock.host.run("wg", "set", stock.device, "listen-port", "40000")
    assert net.b.reaches("10.8.0.1", pings=5)
    assert shore.status().peers[0].endpoint == "192.0.2.2:40000"
    us = key_text(_native.public_key(shore.side.private_key))
    for place, seen in (("[2001:db8::1]", "[2001:db8::2]"), ("192.0.2.1", "192.0.2.2")):
        stock.host.run("wg", "set", stock.device, "peer", us, "endpoint", f"{place}:{PORT}")
        assert net.b.reaches("10.8.0.1", pings=5)
        assert shore.status().peers[0].endpoint == f"{seen}:40000"
        assert net.a.reaches("10.8.0.2", pings=5)
    net.b.ip("address del 192.0.2.2/24 dev eth0")
    net.b.ip("address add 192.0.2.88/24 dev eth0")
    # wireguard-go goes on with the source it knows, until it is told the endpoint again.
    stock.host.run("wg", "set", stock.device, "peer", us, "endpoint", f"192.0.2.1:{PORT}")
    assert net.b.reaches("10.8.0.1", pings=5)
    assert shore.status().peers[0].endpoint == "192.0.2.88:40000"
    assert net.a.reaches("10.8.0.2", pings=5)


def test_a_peer_is_answered_from_the_address_it_speaks_to(net: Net) -> None:
    ours, theirs = sides(None, back="192.0.2.1:51820")
    here, there = ShoreEnd(net.a, ours), ShoreEnd(net.b, theirs)
    net.a.ip("address add 192.0.2.3/24 dev eth0")
    net.a.ip("address add 2001:db8::3/64 dev eth0 nodad")
    conf = there.conf.read_text()
    try:
        here.up()
        there.up()
        for place in ("192.0.2.3:51820", "[2001:db8::1]:51820", "192.0.2.1:51820", "[2001:db8::3]:51820"):
            there.conf.write_text(conf.replace("192.0.2.1:51820", place))
            there.shore("reload", str(there.conf))
            # One packet must do: later ones would mend what the handshake got wrong.
            assert net.b.reaches("10.8.0.1")
            assert there.status().peers[0].endpoint == place
    finally:
        here.down()
        there.down()


def test_keys_change_under_a_live_tunnel(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = pair
    assert net.a.reaches("10.8.0.2", pings=5)
    plane, fresh = shore.plane_pid(), os.urandom(32)
    stock.host.run("wg", "set", stock.device, "private-key", "/dev/stdin", stdin=key_text(fresh))
    conf = shore.conf.read_text()
    renamed = conf.replace(key_text(shore.side.peer_key), key_text(_native.public_key(fresh)))
    shore.conf.write_text(renamed)
    shore.shore("reload", str(shore.conf))
    assert net.a.reaches("10.8.0.2", pings=5)
    shared = key_text(os.urandom(32))
    us = key_text(_native.public_key(shore.side.private_key))
    stock.host.run("wg", "set", stock.device, "peer", us, "preshared-key", "/dev/stdin", stdin=shared)
    shore.conf.write_text(renamed + f"PresharedKey = {shared}\n")
    shore.shore("reload", str(shore.conf))
    assert net.a.reaches("10.8.0.2", pings=5)
    assert shore.plane_pid() == plane
