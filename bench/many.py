"""A node with a hundred idle Shore peers, three paths to each: what that costs it."""

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.figure import Figure, long_time, most
from bench.machine import cpu_seconds, pss_mb
from shore import _native
from shore.lab.ends import ShoreEnd, Side
from shore.lab.laboratory import Laboratory
from shore.lab.net import until
from shore.model.keys import key_text

PEERS = 100
PATHS = 3
FIRST_PORT = 20000
SETTLE_S = 60


def many_peers(rounds: int, _seconds: int) -> list[Figure]:
    """CPU of both processes while all are idle: the mean of ten minutes, or of two for a single round."""
    with crowd() as (node, connected):
        time.sleep(SETTLE_S)
        pids = node.pids()
        began, before = time.monotonic(), cpu_seconds(pids)
        time.sleep(long_time(rounds))
        share = (cpu_seconds(pids) - before) / (time.monotonic() - began)
        peers = node.status().peers
        live = sum(len([path for path in peer.paths if path.state == "live"]) >= PATHS for peer in peers)
        brain, plane = pss_mb(node.brain_pid()), pss_mb(node.plane_pid())
    return [
        Figure("100 idle peers", "peers that were reached", connected),
        Figure("100 idle peers", "peers with three live paths", live),
        most("100 idle peers", "share of a core", round(share, 4), 0.01),
        Figure("100 idle peers", "brain PSS, MB", round(brain, 1)),
        Figure("100 idle peers", "data plane PSS, MB", round(plane, 1)),
    ]


@contextlib.contextmanager
def crowd() -> Iterator[tuple[ShoreEnd, int]]:
    """A node in one host and its peers in another, all up; and how many are connected."""
    with Laboratory("many") as lab:
        lab.host("a"), lab.host("b")
        for number in range(PATHS):
            lab.path(f"p{number}", "a", "b", cable=True)
        own = os.urandom(32)
        keys = [os.urandom(32) for _ in range(PEERS)]
        node = ShoreEnd(lab["a"], _node(own, keys))
        peers = [
            # They share a host, and all of them have a route to the node.
            ShoreEnd(lab["b"], _peer(number, key, own), extra="Table = off\n", name=f"p{number}")
            for number, key in enumerate(keys)
        ]
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(ShoreEnd.up, peers))
            node.up()
            with contextlib.suppress(AssertionError):
                until(lambda: _connected(node) == PEERS, 60)
            yield node, _connected(node)
        finally:
            node.down()
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(ShoreEnd.down, peers))


def _connected(node: ShoreEnd) -> int:
    return sum(peer.connected and peer.probed for peer in node.status().peers)


def _node(own: bytes, keys: list[bytes]) -> Side:
    first, *others = (_places(number) for number in range(len(keys)))
    more = [
        f"[Peer]\nPublicKey = {key_text(_native.public_key(key))}\nAllowedIPs = {_inner(number)}\n"
        + "".join(f"Endpoint = {place}\n" for place in places)
        for number, (key, places) in enumerate(zip(keys[1:], others, strict=True), 1)
    ]
    peer = _native.public_key(keys[0])
    return Side(own, "10.8.0.1", peer, _inner(0), first[0], others=tuple(first[1:]), own="".join(more))


def _places(number: int) -> list[str]:
    return [f"10.99.{path + 1}.2:{FIRST_PORT + number}" for path in range(PATHS)]


def _peer(number: int, key: bytes, own: bytes) -> Side:
    address = _inner(number)
    return Side(key, address, _native.public_key(own), "10.8.0.1", listen_port=FIRST_PORT + number)


def _inner(number: int) -> str:
    return f"10.{100 + number}.0.1"
