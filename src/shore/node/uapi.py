"""Serve `wg show`, `wg set` and `wg syncconf` on the UAPI socket of userspace WireGuard."""

import asyncio
import errno
import os
import socket
import time
from pathlib import Path

import msgspec

from shore import _native
from shore.core.reconcile import fwmark_of
from shore.core.relays import is_place
from shore.io.runtime import bind_private
from shore.model.facts import PeerCounters
from shore.node.brain import Brain, NotConfigured
from shore.node.heartbeat import ask
from shore.wire import uapi

LONGEST_LINE = 4096


def directory() -> Path:
    """Where `wg` looks; `SHORE_UAPI_DIR` moves it."""
    return Path(os.environ.get("SHORE_UAPI_DIR", "/var/run/wireguard"))


class Uapi:
    """The UAPI socket of one tunnel."""

    def __init__(self, brain: Brain, name: str) -> None:
        self.path = directory() / f"{name}.sock"
        self._brain = brain
        self._inode: int | None = None
        self._changing = asyncio.Lock()

    async def serve(self) -> None:
        """Listen. Raises OSError; EADDRINUSE where another tunnel of this name listens."""
        if _is_served(self.path):
            raise OSError(errno.EADDRINUSE, "another process serves it")
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        await asyncio.start_unix_server(self._converse, sock=bind_private(self.path), limit=LONGEST_LINE)
        self._inode = self.path.stat().st_ino

    @property
    def is_deleted(self) -> bool:
        """Whether somebody removed our socket: with userspace WireGuard that means `down`."""
        return self._inode is not None and not self._is_ours()

    def remove(self) -> None:
        """Remove the socket if it is still ours."""
        if self._inode is not None and self._is_ours():
            self.path.unlink(missing_ok=True)
        self._inode = None

    def _is_ours(self) -> bool:
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while first := await reader.readline():
                lines = []
                while (line := await reader.readline()) not in (b"\n", b""):
                    lines.append(line.decode())
                writer.write((await self._answer(first.decode().strip(), "".join(lines))).encode())
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, operation: str, body: str) -> str:
        if self._brain.node.config is None:
            return uapi.answer_set(errno.EAGAIN)
        if operation == "get=1":
            return await self._get()
        if operation == "set=1":
            async with self._changing:
                return await self._set(body)
        return uapi.answer_set(errno.EPROTO)

    async def _get(self) -> str:
        await ask(self._brain, "all")
        node = self._brain.node
        assert node.config is not None
        peers = [
            (record.config, record.keepalive()[0], _without_place(node.counters.get(key)))
            for key, record in node.peers.items()
        ]
        return uapi.answer_get(node.config, node.listen_port, fwmark_of(node.config), peers, time.time())

    async def _set(self, body: str) -> str:
        config = self._brain.node.config
        assert config is not None
        if config.mesh is not None:
            # Its peers are the network's to say.
            return uapi.answer_set(errno.EPERM)
        try:
            changed = uapi.apply_set(config, body)
            if changed.private_key is not None:
                changed = uapi.without(changed, _native.public_key(changed.private_key))
            await self._brain.reload(changed)
        except uapi.Refused as error:
            return uapi.answer_set(error.number)
        except NotConfigured as error:
            return uapi.answer_set(errno.EADDRINUSE if "in use" in str(error) else errno.EINVAL)
        return uapi.answer_set(0)


def _without_place(counters: PeerCounters | None) -> PeerCounters | None:
    """`wg` prints any endpoint, and a place at a relay is none."""
    by_relay = counters is not None and counters.endpoint is not None and is_place(counters.endpoint)
    return msgspec.structs.replace(counters, endpoint=None) if counters and by_relay else counters


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
