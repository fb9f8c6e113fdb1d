"""The coordination server, pinned to one core, with a thousand nodes that move: how soon their peers know.

The nodes are simulated on another core: each is a real WebSocket with real signatures, and believes what it
hears. They reach the server's unix socket, where a relay's TLS port leads: what is measured is the server,
and not the relay in front of it, which is a process of its own and only carries bytes. Who reaches whom is
what a new network begins with: everybody everybody, so that each move concerns 999.
"""

import asyncio
import base64
import contextlib
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figure import Figure, least, most, percentile_of
from bench.machine import cpu_seconds, pss_mb
from shore.coordination import names, schema
from shore.coordination.found import Founded, found, own_database
from shore.model.desired import Candidate
from shore.model.netmap import Head, Peer
from shore.wire import control, signing

NODES, CHURN_A_MINUTE, COMING = 1000, 0.1, 500
SERVER_CORE, LOAD_CORE = "0", 1
SETTLE_S, MINUTE_S, LAST_S = 5.0, 60.0, 2.0
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


class Crowd(msgspec.Struct):
    """All nodes, and what is measured of their moves: when each was told, and how long each peer waited."""

    founded: Founded
    moved_at: dict[str, float] = {}
    waits: list[float] = []


class Node(asyncio.Protocol):
    """One node; `ready` once it holds a netmap and admissions."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd, self.number = crowd, number
        self.key = Ed25519PrivateKey.generate()
        self.node_key = os.urandom(32)
        self.held = (0, 0)
        self.ready: asyncio.Future[float]
        self.broken: list[str] = []
        self._heard = bytearray()
        self._open = False
        self._nonce = b""
        self._transport: asyncio.Transport

    async def dial(self, path: Path) -> None:
        """Be ready; a listener whose queue is full is tried again."""
        loop = asyncio.get_running_loop()
        self.ready, self._open = loop.create_future(), False
        self._heard.clear()
        while True:
            with contextlib.suppress(BlockingIOError):
                await loop.create_unix_connection(lambda: self, str(path))
                break
            await asyncio.sleep(0.02)
        await self.ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET {control.PATH} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {control.SUBPROTOCOL}", "", "",
        )  # fmt: skip
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if not self._open:
            head, end, rest = self._heard.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), bytes(head)
            self._open, self._heard = True, bytearray(rest)
        while (frame := self._frame()) is not None:
            opcode, content = frame
            if opcode == 2:
                self._hear(control.from_server(content))

    def connection_lost(self, error: Exception | None) -> None:
        self.broken.append(str(error))

    def cut(self) -> None:
        """The link is gone, without a word."""
        self._transport.abort()

    def move(self, endpoint: str) -> None:
        """Tell the server where this node is."""
        self._say(control.Whereabouts((Candidate(endpoint, "host"),), ()))

    def _frame(self) -> tuple[int, bytes] | None:
        """The next frame (RFC 6455, §5.2), which a server never masks."""
        heard = self._heard
        if len(heard) < 2:
            return None
        length, at = heard[1] & 127, 2
        if length >= 126:
            at += 2 if length == 126 else 8
            if len(heard) < at:
                return None
            length = int.from_bytes(heard[2:at])
        if len(heard) < at + length:
            return None
        opcode, content = heard[0] & 15, bytes(heard[at : at + length])
        del heard[: at + length]
        return opcode, content

    def _say(self, message: control.FromNode) -> None:
        content = control.encode(message)
        length = len(content)
        size = bytes([128 | length]) if length < 126 else b"\xfe" + length.to_bytes(2)
        # A mask of zeros leaves the content as it is.
        self._transport.write(b"\x82" + size + bytes(4) + content)

    def _hear(self, message: control.FromServer | None) -> None:
        match message:
            case control.Challenge():
                self._nonce = message.nonce
                said = control.hello_content(self._nonce, self.crowd.founded.pin, "node", control.VERSION)
                signature = signing.sign(self.key, signing.HELLO, said)
                self._say(control.Hello(signing.public_of(self.key), signature))
            case control.StandingIs():
                parts = (self.node_key, b"a" * 32, *self.held)
                said = control.present_content(self._nonce, *parts)
                self._say(control.Present(*parts, signing.sign(self.key, signing.PRESENT, said)))
            case control.NetmapIs():
                self._took(message.head.content)
            case control.Delta():
                self._took(message.head.content)
                now = time.monotonic()
                for record in message.changed.values():
                    self._see(record, now)
            case control.Admissions() if not self.ready.done():
                self.ready.set_result(time.monotonic())
            case control.Ping():
                self._say(control.Pong(message.id))
            case control.Refused():
                self.broken.append(message.reason)
            case _:
                pass

    def _took(self, content: bytes) -> None:
        head = msgspec.msgpack.decode(content, type=Head)
        self.held = head.epoch, head.version

    def _see(self, record: bytes, now: float) -> None:
        with contextlib.suppress(msgspec.ValidationError):
            for candidate in msgspec.msgpack.decode(record, type=Peer).candidates:
                began = self.crowd.moved_at.get(candidate.endpoint)
                if began is not None:
                    self.crowd.waits.append(now - began)


async def _measure(state: Path, rounds: int) -> list[Figure]:
    crowd = Crowd(found(state, "bench", ("192.0.2.1",), 443, 3478))
    nodes = [Node(crowd, number) for number in range(NODES)]
    _enrol(state, nodes)
    with _serving(state) as pid:
        all_came = await _come(state, nodes)
        await asyncio.sleep(SETTLE_S)
        began, before = time.monotonic(), cpu_seconds([pid])
        moves = await _churn(nodes, rounds * MINUTE_S)
        share = (cpu_seconds([pid]) - before) / (time.monotonic() - began)
        await asyncio.sleep(LAST_S)
        waits = [wait * 1e3 for wait in crowd.waits]
        broken = sum(len(node.broken) for node in nodes)
        memory = pss_mb(pid)
        for node in nodes[:COMING]:
            node.cut()
        await asyncio.sleep(SETTLE_S)
        same = await _come(state, nodes[:COMING])
    await asyncio.sleep(SETTLE_S)
    with _serving(state):
        new = await _come(state, nodes[:COMING])
    told = len(waits) / (moves * (NODES - 1))
    row = f"{NODES} nodes"
    return [
        most(row, "a move to each peer, ms, p95", percentile_of(waits, 0.95), 300),
        Figure(row, "a move to each peer, ms, median", round(percentile_of(waits, 0.5), 1)),
        Figure(row, "a move to each peer, ms, the longest", round(max(waits), 1)),
        least(row, "share of the peers that were told", told, 1, moves=moves, links_that_broke=broken),
        most(row, "server, share of its core", share, 0.5),
        most(row, "server PSS, MB", memory, 500),
        Figure(row, "all came at once: all in after, s", round(all_came, 2)),
        most(row, f"{COMING} came back at once: all in after, s", same, 30),
        most(row, f"{COMING} came at once to a new server: all in after, s", new, 30),
    ]


def _enrol(state: Path, nodes: list[Node]) -> None:
    """Write them down as members: joining is not what is measured."""
    engine = sqlalchemy.create_engine(own_database(state))
    range_v6 = names.IPv6Network(nodes[0].crowd.founded.range_v6)
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
        node.move(endpoint)
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
