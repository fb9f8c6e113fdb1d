"""A relay, whole: its ports arrive as descriptors, it has no rights, and it lets go gently.

On SIGTERM it takes nothing new, says `goaway`, goes on for that long, and closes.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shore._native import TlsIdentity
from shore.io.watchdog import Watchdog
from shore.model.relay import RelayConfig
from shore.relay.counts import Counts
from shore.relay.door import Door
from shore.relay.link import ServerLink
from shore.relay.streams import GOAWAY_MS, SWEEP_S, Streams
from shore.relay.udp import UdpRelay

BACKLOG = 512


class BadConfig(Exception):
    """One sentence."""


@dataclass(frozen=True)
class Descriptors:
    """What was opened for us. `metrics` is a listening unix socket; `ready` gets one byte."""

    tls: tuple[int, ...]
    udp: tuple[int, ...]
    metrics: int | None = None
    ready: int | None = None


def load(path: Path) -> RelayConfig:
    """Raises BadConfig."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RelayConfig)
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise BadConfig(f"{path} is not a relay's configuration: {error}") from None


def save(path: Path, config: RelayConfig) -> None:
    """Replace it in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(config)))
    fresh.chmod(0o600)
    fresh.replace(path)


class Relay:
    """All parts of one relay in one loop."""

    def __init__(self, path: Path, config: RelayConfig, identity: TlsIdentity) -> None:
        self._path = path
        self.counts = Counts()
        self.streams = Streams(config, self.counts)
        self.udp = UdpRelay(self.streams, self.counts)
        self.door = Door(identity, self.streams, self.counts, config.server_socket)

    async def run(self, descriptors: Descriptors) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
            self.door.tasks = tasks
            servers = await self._listen(descriptors, stack)
            link = ServerLink(self._path.parent, self.streams.gate.config, self._learn)
            watchdog = Watchdog(self._complain)
            kept = (("sweep", self._sweep), ("link to the server", link.run))
            running = [tasks.create_task(watchdog.keep(name, work)) for name, work in kept]
            _say_started(descriptors.ready)
            await stop.wait()
            self.door.closing = True
            for server in servers:
                server.close()
            self.streams.goaway()
            await asyncio.sleep(GOAWAY_MS / 1000)
            self.streams.close()
            self.udp.close()
            for task in running:
                task.cancel()
            await asyncio.sleep(0.05)

    async def _listen(
        self, descriptors: Descriptors, stack: contextlib.AsyncExitStack
    ) -> list[asyncio.Server]:
        loop = asyncio.get_running_loop()
        servers = []
        for fd in descriptors.tls:
            sock = socket.socket(fileno=fd)
            servers.append(await loop.create_server(self.door.connection, sock=sock, backlog=BACKLOG))
        for fd in descriptors.udp:
            self.udp.listen(socket.socket(fileno=fd))
        if descriptors.metrics is not None:
            sock = socket.socket(fileno=descriptors.metrics)
            metrics = await asyncio.start_unix_server(self._show, sock=sock)
            stack.callback(metrics.close)
        return servers

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.streams.sweep()
            self.udp.sweep()

    def _complain(self, what: str, why: str) -> None:
        self.counts.count("failures_total", part=what.removesuffix(" failed"))
        print(f"shore relay: {what}: {why}", file=sys.stderr, flush=True)

    def _learn(self, config: RelayConfig) -> None:
        self.streams.learn(config)
        save(self._path, config)

    async def _show(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Prometheus' text for whoever asks, after a request head of HTTP."""
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
            body = self.metrics().encode()
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    def metrics(self) -> str:
        """All that is counted."""
        measured = self.streams.measured()
        measured["bound_addresses", ()] = self.udp.bound()
        for stage, count in self.door.stages.items():
            measured["connections", (("stage", stage.value),)] = count
        return self.counts.text(measured)


def _say_started(ready: int | None) -> None:
    if ready is None:
        print('{"is": "started"}', flush=True)
        return
    os.write(ready, b"\n")
    os.close(ready)
