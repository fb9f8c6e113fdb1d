"""The row of floods: what 30,000 datagrams a second from a stranger cost a tunnel."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from bench.figure import Figure, least, median, most
from bench.pair import A, B, tcp
from shore import _native
from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import RoutedNet, until
from shore.lab.pinger import Pinger
from shore.model.keys import key_text

RATE = 30_000
# An initiation with its UDP and IP headers.
DATAGRAM = 148 + 28
KINDS = ("garbage", "handshakes")
COUNTERS = """
table ip flood {
    chain forward {
        type filter hook forward priority 0;
        iifname "to-c" counter comment "asked"
        oifname "to-c" counter comment "answered"
    }
}
"""


def floods(rounds: int, seconds: int) -> list[Figure]:
    """Garbage, and initiations with a valid MAC1: pings, TCP, a newcomer, a renewal, and the replies."""
    return [figure for kind in KINDS for figure in _flood(kind, rounds, seconds)]


def _flood(kind: str, rounds: int, seconds: int) -> list[Figure]:
    shares, joins, rates, lost, ratio, renewed = [], [], [], 0, 0.0, True
    for _ in range(rounds):
        with RoutedNet() as net:
            ours, theirs = sides(f"{net.address_of_b}:{PORT}")
            shore, stock = ShoreEnd(net.a, ours), StockEnd(net.b, theirs, "wireguard")
            newcomer, entry = _newcomer(net, shore)
            try:
                stock.up()
                shore.conf.write_text(shore.conf.read_text() + entry)
                shore.up()
                until(lambda: net.a.reaches(B, within_s=1), 30)
                quiet = tcp(net, seconds).bps
                net.router.run("nft", "-f", "-", stdin=COUNTERS)
                flooded = time.monotonic()
                with _running(net, kind, key_text(_native.public_key(ours.private_key))):
                    time.sleep(1)
                    pinger = Pinger(net.a, B)
                    began = time.monotonic()
                    newcomer.up()
                    joins.append(until(lambda: net.router.reaches(A, within_s=1), 30) - began)
                    before = time.time()
                    shore.shore("rekey", key_text(ours.peer_key))
                    time.sleep(2)
                    renewed &= stock.latest_handshake() >= before - 1
                    lost += pinger.stop().lost()
                    shares.append(tcp(net, seconds).bps / quiet)
                flooded = time.monotonic() - flooded
                asked, answered = _counted(net)
                ratio = max(ratio, answered / asked)
                rates.append(asked / DATAGRAM / flooded)
            finally:
                newcomer.down()
                shore.down()
                stock.down()
    row = f"flood: {kind}"
    return [
        Figure(row, "datagrams offered a second", round(median(rates))),
        most(row, "pings lost", lost, 0),
        least(row, "TCP, share of its undisturbed rate", median(shares), 0.5, each=shares),
        most(row, "a new peer joins after, s", median(joins), 6, each=joins),
        least(row, "a renewal completed (1: always)", float(renewed), 1),
        most(row, "bytes answered per byte asked", ratio, 1, exactly=ratio),
    ]


def _newcomer(net: RoutedNet, shore: ShoreEnd) -> tuple[StockEnd, str]:
    """A second peer of a, on the router, and its section in a's file."""
    _, side = sides(None, back=f"192.0.2.1:{PORT}")
    us = _native.public_key(shore.side.private_key)
    side = msgspec.structs.replace(side, address="10.8.0.3", peer_key=us)
    public = key_text(_native.public_key(side.private_key))
    return StockEnd(net.router, side, "wireguard"), f"[Peer]\nPublicKey = {public}\nAllowedIPs = 10.8.0.3\n"


@contextlib.contextmanager
def _running(net: RoutedNet, kind: str, key: str) -> Iterator[None]:
    words = (sys.executable, "-m", "bench.flood", kind, "192.0.2.1", str(PORT), str(RATE), key)
    flood = subprocess.Popen(net.c.inside(*words))
    try:
        yield
    finally:
        flood.kill()
        flood.wait()


def _counted(net: RoutedNet) -> tuple[int, int]:
    words = net.router.run("nft", "list", "chain", "ip", "flood", "forward").split()
    counts = [int(words[at + 1]) for at, word in enumerate(words) if word == "bytes"]
    return counts[0], counts[1]
