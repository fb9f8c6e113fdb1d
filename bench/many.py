"""A node with a hundred idle Shore peers, three paths to each: what that costs it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import IO

import msgspec

from bench.crowd import Crowd, Member
from bench.figure import Figure, long_time, most
from bench.machine import cpu_seconds, pss_mb
from shore import _native
from shore.lab.ends import PORT, ShoreEnd, Side
from shore.lab.laboratory import Laboratory
from shore.lab.net import Host, LabFailed, until
from shore.model.keys import key_text

PEERS = 100
PATHS = 3
FIRST_PORT = 20000
# The searches for path MTUs are over, and what was learnt first is forgotten.
SETTLE_S = 60
ROW = "100 idle peers"
NODE = "10.8.0.1"


def many_peers(rounds: int, _seconds: int) -> list[Figure]:
    """CPU of all its processes while all are idle: the mean of ten minutes, or of two for a single round."""
    with crowd() as node:
        brain, plane, keeper = node.brain_pid(), node.plane_pid(), node.keeper_pid()
        time.sleep(SETTLE_S)
        pids = {"brain": brain, "data plane": plane, "keeper": keeper}
        shares = shares_of(pids, long_time(rounds))
        sizes = {name: pss_mb(pid) for name, pid in pids.items()}
        peers = node.status().peers
        survived = [node.brain_pid(), node.plane_pid()] == [brain, plane]
    live = sum(len([path for path in peer.paths if path.state == "live"]) >= PATHS for peer in peers)
    return [
        Figure(ROW, "connected Shore peers at the end", sum(p.connected and p.probed for p in peers)),
        Figure(ROW, "peers with three live paths", live),
        Figure(ROW, "brain and data plane lived through it", survived),
        most(ROW, "share of a core", sum(shares.values()), 0.01, **shares),
        most(ROW, "brain PSS, MB", sizes["brain"], 80),
        most(ROW, "data plane PSS, MB", sizes["data plane"], 40),
    ]


@contextlib.contextmanager
def crowd(count: int = PEERS) -> Iterator[ShoreEnd]:
    """A node in one host, up, and its peers in another (`bench.crowd`), all connected."""
    with Laboratory("many") as lab:
        lab.host("a"), lab.host("b")
        for number in range(PATHS):
            lab.path(f"p{number}", "a", "b", cable=True)
        own = os.urandom(32)
        members = tuple(
            Member(os.urandom(32), f"10.{100 + n // 200}.{n % 200}.1", FIRST_PORT + n) for n in range(count)
        )
        endpoints = tuple(f"10.99.{path + 1}.1:{PORT}" for path in range(PATHS))
        node = ShoreEnd(lab["a"], _node(own, members))
        with running(lab["b"], Crowd(members, _native.public_key(own), NODE, endpoints)):
            try:
                node.up()
                until(
                    lambda: sum(peer.connected and peer.probed for peer in node.status().peers) == count, 60
                )
                yield node
            finally:
                node.down()


def shares_of(pids: Mapping[str, int], seconds: float) -> dict[str, float]:
    """The share of a core that each process takes from now on, for so long."""
    began, before = time.monotonic(), {name: cpu_seconds([pid]) for name, pid in pids.items()}
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: round((cpu_seconds([pid]) - before[name]) / took, 5) for name, pid in pids.items()}


@contextlib.contextmanager
def running(host: Host, crowd: Crowd) -> Iterator[IO[bytes]]:
    """The crowd in a host, all of it up; what is written there are its moves. Raises LabFailed."""
    process = subprocess.Popen(
        host.inside(sys.executable, "-m", "bench.crowd"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise LabFailed("the crowd has no pipes")
        process.stdin.write(msgspec.json.encode(crowd) + b"\n")
        process.stdin.flush()
        if process.stdout.readline() != b"all carry\n":
            raise LabFailed("the crowd did not come up")
        # It ends its planes when its input is closed.
        yield process.stdin


def _node(own: bytes, members: tuple[Member, ...]) -> Side:
    first, *others = ([f"10.99.{path + 1}.2:{member.port}" for path in range(PATHS)] for member in members)
    more = [
        f"[Peer]\nPublicKey = {key_text(_native.public_key(member.private_key))}\n"
        f"AllowedIPs = {member.address}/32\n" + "".join(f"Endpoint = {place}\n" for place in places)
        for member, places in zip(members[1:], others, strict=True)
    ]
    peer = _native.public_key(members[0].private_key)
    return Side(
        own, NODE, peer, f"{members[0].address}/32", first[0], others=tuple(first[1:]), own="".join(more)
    )
