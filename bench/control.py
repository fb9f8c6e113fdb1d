"""The coordination server, pinned to one core, with a thousand nodes that move: how soon their peers know.

The nodes are simulated on another core (`bench.simulated`), and what they hear is stamped as it comes. They
reach the server's unix socket, where a relay's TLS port leads: what is measured is the server, and not the
relay in front of it, which is a process of its own and only carries bytes. Who reaches whom is what a new
network begins with: everybody everybody, so that each move concerns 999.
"""

import asyncio
import contextlib
import gc
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import sqlalchemy

from bench.figure import Figure, least, most, percentile_of
from bench.machine import cpu_seconds, pss_mb
from bench.simulated import Crowd, Node
from shore.coordination import names, schema
from shore.coordination.found import Founded, found, own_database
from shore.wire import signing

NODES, CHURN_A_MINUTE, COMING = 1000, 0.1, 500
SERVER_CORE, LOAD_CORE = "0", 1
SETTLE_S, MINUTE_S, LAST_S = 5.0, 60.0, 2.0
LOOK_S = 0.02
BACKLOG = 512
FIRST_PORT = 1024


def control_scale(rounds: int, _seconds: int) -> list[Figure]:
    """Moves for so many minutes; then half of the nodes come at once, to the same server and to a new one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        with tempfile.TemporaryDirectory() as name:
            return asyncio.run(_measure(Path(name), rounds))
    finally:
        os.sched_setaffinity(0, before)


async def _measure(state: Path, rounds: int) -> list[Figure]:
    founded = found(state, "bench", ("192.0.2.1",), 443, 3478)
    crowd = Crowd()
    nodes = [Node(crowd, number, os.urandom(32)) for number in range(NODES)]
    _enrol(state, founded, nodes)
    with _serving(state) as pid:
        all_came = await _come(state, nodes)
        await asyncio.sleep(SETTLE_S)
        churned = await _watched(crowd, nodes, pid, rounds * MINUTE_S)
        broken, memory = sum(len(node.broken) for node in nodes), pss_mb(pid)
        for node in nodes[:COMING]:
            node.cut()
        await asyncio.sleep(SETTLE_S)
        same = await _come(state, nodes[:COMING])
    await asyncio.sleep(SETTLE_S)
    with _serving(state):
        new = await _come(state, nodes[:COMING])
    waits = churned.waits
    told, row = len(waits) / (churned.moves * (NODES - 1)), f"{NODES} nodes"
    return [
        most(row, "a move to each peer, ms, p95", percentile_of(waits, 0.95), 300),
        Figure(row, "a move to each peer, ms, median", round(percentile_of(waits, 0.5), 1)),
        Figure(row, "a move to each peer, ms, the longest", round(max(waits), 1)),
        least(
            row, "share of the peers that were told", told, 1, moves=churned.moves, links_that_broke=broken
        ),
        most(row, "server, share of its core", churned.server, 0.5),
        Figure(row, "the simulated nodes, share of theirs", round(churned.load, 3)),
        Figure(row, "the same: how late they look, ms, p95", round(percentile_of(churned.late, 0.95), 1)),
        most(row, "server PSS, MB", memory, 500),
        Figure(row, "all came at once: all in after, s", round(all_came, 2)),
        most(row, f"{COMING} came back at once: all in after, s", same, 30),
        most(row, f"{COMING} came at once to a new server: all in after, s", new, 30),
    ]


class Churned(msgspec.Struct, frozen=True):
    """Of the minutes of moves: how many there were, by how many milliseconds each peer heard of each, what
    both sides took of their cores, and how late each look of the simulated nodes at their links was."""

    moves: int
    waits: list[float]
    server: float
    load: float
    late: list[float]


async def _watched(crowd: Crowd, nodes: list[Node], pid: int, seconds: float) -> Churned:
    late: list[float] = []
    # What came before is of no interest, and a collection of it would hold up what comes.
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(crowd.read()), tasks.create_task(_look(late))]
        pids = [pid, os.getpid()]
        began, before = time.monotonic(), [cpu_seconds([each]) for each in pids]
        moves = await _churn(nodes, seconds)
        passed = time.monotonic() - began
        server, load = ((cpu_seconds([each]) - b) / passed for each, b in zip(pids, before, strict=True))
        await asyncio.sleep(LAST_S)
        for task in beside:
            task.cancel()
    return Churned(moves, [wait * 1e3 for wait in crowd.waits], server, load, late)


async def _look(late: list[float]) -> None:
    while True:
        at = time.monotonic()
        await asyncio.sleep(LOOK_S)
        late.append((time.monotonic() - at - LOOK_S) * 1e3)


def _enrol(state: Path, founded: Founded, nodes: list[Node]) -> None:
    """Write them down as members: joining is not what is measured."""
    engine = sqlalchemy.create_engine(own_database(state))
    range_v6 = names.IPv6Network(founded.range_v6)
    rows = []
    for node in nodes:
        v4 = IPv4Address("100.64.1.1") + node.number * 2
        rows.append(
            {
                "machine_key": signing.public_of(node.key),
                "node_key": node.node_key,
                "role": "node",
                "name": f"node-{node.number}",
                "v4": str(v4),
                "v6": str(names.v6_of(v4, range_v6)),
                "user": "owner",
                "tags": [],
                "prefixes": [],
                "ephemeral": False,
                "enrolled_at": 0.0,
                "approved_at": 0.0,
            }
        )
    with engine.begin() as connection:
        connection.execute(schema.nodes.insert(), rows)
    engine.dispose()


async def _come(state: Path, nodes: list[Node]) -> float:
    """All dial at once; seconds until the last holds its netmap."""
    began = time.monotonic()
    await asyncio.gather(*(node.dial(state / "control.sock") for node in nodes))
    return max(node.ready.result() for node in nodes) - began


async def _churn(nodes: list[Node], seconds: float) -> int:
    """Now one node moves and now another, each at any time; how many did."""
    chance, count = random.Random(1), int(len(nodes) * CHURN_A_MINUTE * seconds / MINUTE_S)
    instants = sorted(chance.uniform(0, seconds) for _ in range(count))
    began = time.monotonic()
    for number, instant in enumerate(instants):
        await asyncio.sleep(max(0.0, began + instant - time.monotonic()))
        endpoint = f"192.0.2.1:{FIRST_PORT + number}"
        node = chance.choice(nodes)
        node.crowd.moved_at[endpoint] = time.monotonic()
        node.tell(endpoint)
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return count


@contextlib.contextmanager
def _serving(state: Path) -> Iterator[int]:
    path = state / "control.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        ready, said = os.pipe()
        words = ("serve", "--state", state, "--control-fd", listener.fileno(), "--ready-fd", said)
        running = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "shore.coordination", *map(str, words)],
            pass_fds=(listener.fileno(), said), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(said)
        try:
            assert os.read(ready, 1) == b"\n"
            yield running.pid
        finally:
            os.close(ready)
            running.kill()
            running.wait()
