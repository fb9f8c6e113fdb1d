"""Shore with every other implementation, in both roles; and what a peer may do to a live tunnel."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from shore import _native
from shore.lab.ends import PORT, ShoreEnd, StockEnd, program, sides, tunnel
from shore.lab.net import Host, LabFailed, Net, until
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


def need(peer: str) -> None:
    try:
        program(peer)
    except LabFailed as error:
        pytest.skip(f"LAB SKIPPED: {error}")


@pytest.fixture(params=PEERS)
def pair(net: Net, request: pytest.FixtureRequest) -> Iterator[tuple[ShoreEnd, StockEnd]]:
    need(request.param)
    with tunnel(net, ShoreEnd, request.param) as ends:
        yield ends


@pytest.fixture
def changeable(pair: tuple[ShoreEnd, StockEnd]) -> tuple[ShoreEnd, StockEnd]:
    """A pair whose peer takes `wg set`."""
    if pair[1].name == "boringtun-cli":
        pytest.skip("boringtun-cli answers a `wg set` of a peer with a protocol error, and is dead")
    return pair


@pytest.mark.parametrize("psk", [None, b"\7" * 32], ids=["no PSK", "PSK"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_session_with(net: Net, peer: str, role: str, outer: int, psk: bytes | None) -> None:
    need(peer)
    a, b = ("192.0.2.1", "192.0.2.2") if outer == 4 else ("[2001:db8::1]", "[2001:db8::2]")
    forward, back = (f"{b}:{PORT}", None) if role == "initiator" else (None, f"{a}:{PORT}")
    ours, theirs = (msgspec.structs.replace(side, preshared_key=psk) for side in sides(forward, back=back))
    shore, stock = ShoreEnd(net.a, ours), StockEnd(net.b, theirs, peer)
    try:
        stock.up()
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


def test_a_peer_roams_by_port_and_address_and_family(net: Net, changeable: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = changeable
    assert net.a.reaches("10.8.0.2", pings=5)
    stock.host.run("wg", "set", stock.device, "listen-port", "40000")
    assert net.b.reaches("10.8.0.1", pings=5)
    assert shore.status().peers[0].endpoint == "192.0.2.2:40000"
    us = key_text(_native.public_key(shore.side.private_key))
    for place, seen in (("[2001:db8::1]", "[2001:db8::2]"), ("192.0.2.1", "192.0.2.2")):
        stock.host.run("wg", "set", stock.device, "peer", us, "endpoint", f"{place}:{PORT}")
        settle(net.b, "10.8.0.1")
        assert shore.status().peers[0].endpoint == f"{seen}:40000"
        settle(net.a, "10.8.0.2")
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


def test_keys_change_under_a_live_tunnel(net: Net, changeable: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = changeable
    assert net.a.reaches("10.8.0.2", pings=5)
    plane, fresh = shore.plane_pid(), os.urandom(32)
    try:
        stock.host.run("wg", "set", stock.device, "private-key", "/dev/stdin", stdin=key_text(fresh))
    except LabFailed as error:
        if stock.name != "gotatun":
            raise
        pytest.skip(f"gotatun does not take another private key: {error}")
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


def test_our_key_changes_under_a_live_tunnel(net: Net, changeable: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = changeable
    assert net.a.reaches("10.8.0.2", pings=5)
    plane, fresh = shore.plane_pid(), os.urandom(32)
    before, after = (key_text(_native.public_key(key)) for key in (shore.side.private_key, fresh))
    stock.host.run("wg", "set", stock.device, "peer", before, "remove")
    stock.host.run("wg", "set", stock.device, "peer", after, "allowed-ips", "10.8.0.1/32")
    conf = shore.conf.read_text()
    shore.conf.write_text(conf.replace(key_text(shore.side.private_key), key_text(fresh)))
    shore.shore("reload", str(shore.conf))
    assert net.a.reaches("10.8.0.2", pings=5)
    assert net.b.reaches("10.8.0.1", pings=5)
    assert shore.plane_pid() == plane


def test_we_roam_by_port_family_and_address(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, stock = pair
    assert net.a.reaches("10.8.0.2", pings=5)
    conf = shore.conf.read_text()
    moved = conf.replace(f"ListenPort = {PORT}", "ListenPort = 40001")
    for text, seen in (
        (moved, "192.0.2.1:40001"),
        (moved.replace("192.0.2.2:", "[2001:db8::2]:"), "[2001:db8::1]:40001"),
        (moved, "192.0.2.1:40001"),
    ):
        shore.conf.write_text(text)
        shore.shore("reload", str(shore.conf))
        settle(net.a, "10.8.0.2")
        assert endpoint_at(stock) == seen
        settle(net.b, "10.8.0.1")
    net.move_a()
    until(lambda: endpoint_at(stock) == "192.0.2.77:40001", 2)
    assert net.a.reaches("10.8.0.2", pings=5)
    assert net.b.reaches("10.8.0.1", pings=5)


def test_a_peer_that_a_nat_moves_is_followed(net: Net, pair: tuple[ShoreEnd, StockEnd]) -> None:
    shore, _ = pair
    assert net.a.reaches("10.8.0.2", pings=5)
    net.b.ip("address add 192.0.2.88/24 dev eth0")
    for place in ("192.0.2.2:41000", "192.0.2.88:41000", "192.0.2.88:42000"):
        net.b.run("nft", "-f", "-", stdin=SNAT.format(place))
        net.b.run("conntrack", "-F")
        assert net.b.reaches("10.8.0.1", pings=5)
        assert shore.status().peers[0].endpoint == place
        assert net.a.reaches("10.8.0.2", pings=5)


SNAT = """
table ip nat
delete table ip nat
table ip nat {{
    chain post {{
        type nat hook postrouting priority 100;
        udp sport 51820 snat to {}
    }}
}}
"""
# Every frame that carries UDP from port 51820 out of eth0, until told to stop; then each again, as it was
# and with a bit of its payload turned. A UDP checksum of zero is none: here they may not be filled in yet.
PARROT = r"""
import json, socket, sys, threading
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))
wire.settimeout(0.2)
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
stop = threading.Event()
heard = []
print("ready", flush=True)
while not stop.is_set():
    try:
        frame, place = wire.recvfrom(65535)
    except TimeoutError:
        continue
    out = place[2] == socket.PACKET_OUTGOING
    if out and frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:36] == (51820).to_bytes(2, "big"):
        heard.append(frame[:40] + bytes(2) + frame[42:])
for frame in heard:
    for at in (None, 50, len(frame) - 1):
        copy = bytearray(frame)
        if at is not None:
            copy[at] ^= 0x10
        wire.send(copy)
print(json.dumps([frame[42] for frame in heard]))
"""


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("peer", PEERS)
def test_what_is_said_again_or_changed_is_not_taken(net: Net, peer: str, role: str) -> None:
    need(peer)
    forward, back = (f"192.0.2.2:{PORT}", None) if role == "initiator" else (None, f"192.0.2.1:{PORT}")
    ours, theirs = sides(forward, back=back)
    shore, stock = ShoreEnd(net.a, ours), StockEnd(net.b, theirs, peer)
    parrot = subprocess.Popen(
        net.b.inside(sys.executable, "-c", PARROT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parrot.stdout is not None
        parrot.stdout.readline()
        stock.up()
        shore.up()
        first, address = (net.a, "10.8.0.2") if role == "initiator" else (net.b, "10.8.0.1")
        assert first.reaches(address, pings=5)
        plane, endpoint, arrived = shore.plane_pid(), shore.status().peers[0].endpoint, packets_in(net)
        dropped, session = drops(shore), shore.status().peers[0].session_age_s or 0
        said, _ = parrot.communicate("stop\n", timeout=10)
        kinds = json.loads(said)
        assert {4, 2 if role == "initiator" else 1} <= set(kinds)
        # An initiation that comes again at once is answered again, as one whose answer was lost.
        refused = 3 * len(kinds) - kinds.count(1)
        until(lambda: drops(shore) - dropped >= refused, 3)
        assert packets_in(net) == arrived
        status = shore.status()
        assert (status.dataplane_pid, status.peers[0].endpoint) == (plane, endpoint)
        assert (status.peers[0].session_age_s or 0) >= session
        assert first.reaches(address, pings=5)
    finally:
        parrot.kill()
        parrot.wait()
        shore.down()
        stock.down()


def settle(host: Host, address: str) -> None:
    """Wait for five answers in a row: current wireguard-go sends some to half an address for a while."""
    until(lambda: host.reaches(address, pings=5, within_s=1), 10)


def packets_in(net: Net) -> int:
    """How many packets came out of the tunnel at a."""
    return int(net.a.run("cat", "/sys/class/net/wg0/statistics/rx_packets"))


def drops(shore: ShoreEnd) -> int:
    """Everything that went no further, the peer's and nobody's."""
    status = shore.status()
    return sum(status.drops.values()) + sum(status.peers[0].drops.values())


def endpoint_at(stock: StockEnd) -> str:
    """Where the peer thinks we are."""
    return stock.host.run("wg", "show", stock.device, "endpoints").split()[1]
