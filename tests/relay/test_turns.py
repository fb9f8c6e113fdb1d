"""A stream that sends without end is one of many: what others sent waits for one turn of it at most."""

import asyncio
import contextlib
import socket
from pathlib import Path

import uvloop  # noqa: TID251  (it decides how much is read at once)
from tests.relay.network import Network

from shore._native import TlsIdentity
from shore.relay.counts import Counts
from shore.relay.door import Connection, Door

ROUNDS = 20
# uvloop reads up to 256,000 bytes at once.
MOST_BEFORE = 512_000


class Recording:
    """Streams that note whom they heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, int]] = []
        self.other = asyncio.Event()

    def received(self, stream: object, ciphertext: bytes) -> None:
        self.heard.append((stream, len(ciphertext)))
        if stream == "other":
            self.other.set()

    def end(self, stream: object, reason: str) -> None:
        pass


def test_a_stream_that_floods_waits_for_the_others_after_each_turn(tmp_path: Path) -> None:
    network = Network(tmp_path)
    network.write(network.config())
    identity = TlsIdentity((tmp_path / "tls.crt").read_bytes(), (tmp_path / "tls.key").read_bytes())
    streams, made = Recording(), []

    async def run() -> None:
        both = asyncio.Event()
        door = Door(identity, streams, Counts(), None)  # type: ignore[arg-type]

        def connection() -> asyncio.Protocol:
            made.append(Connection(door))
            if len(made) == 2:
                both.set()
            return made[-1]

        listening = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.get_running_loop().create_server(connection, sock=listening)
        flooder, other = (socket.create_connection(listening.getsockname()) for _ in range(2))
        await both.wait()
        # Each is told of its connection a turn after it was made.
        await asyncio.sleep(0.05)
        made[0]._stream, made[1]._stream = "flooder", "other"  # type: ignore[assignment]
        flooder.setblocking(False)
        for _ in range(ROUNDS):
            with contextlib.suppress(BlockingIOError):
                while True:
                    flooder.send(bytes(1 << 20))
            other.send(b"ping")
            await streams.other.wait()
            streams.other.clear()
        server.close()

    uvloop.run(run())
    waited = [0]
    for who, length in streams.heard:
        if who == "other":
            waited.append(0)
        else:
            waited[-1] += length
    # Of the last there is only what came after it.
    assert len(waited) == ROUNDS + 1
    assert max(waited[:-1]) <= MOST_BEFORE
    assert sum(waited) > ROUNDS * MOST_BEFORE / 4
