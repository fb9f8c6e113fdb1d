"""Serve the local API (docs/protocol/api.md) on its two sockets."""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator

import msgspec

from shore.core import events
from shore.core.amend import PeerChange, amended
from shore.core.netcheck import netcheck
from shore.io.runtime import Runtime, bind_private, give_to_group
from shore.io.systemd import Unit
from shore.node.brain import Brain, NotConfigured
from shore.node.heartbeat import ask
from shore.node.poking import poke
from shore.wire import api

# Who may look at the status only has nothing longer to ask.
LONGEST_QUESTION = 4096


class Api:
    """The sockets of one brain; `down_asked` are answered by the program when nothing is left."""

    def __init__(self, runtime: Runtime, brain: Brain, unit: Unit) -> None:
        self._runtime = runtime
        self._brain = brain
        self._unit = unit
        self._leaving: list[asyncio.StreamWriter] = []
        self._reloading = asyncio.Lock()

    async def serve(self) -> None:
        """Listen on both sockets."""
        for path, serve, limit in (
            (self._runtime.brain_socket, self._serve_owner, api.LONGEST_LINE),
            (self._runtime.status_socket, self._serve_status, LONGEST_QUESTION),
        ):
            await asyncio.start_unix_server(serve, sock=bind_private(path), limit=limit)
        give_to_group(self._runtime.status_socket)

    async def say_down(self, reply: api.Reply) -> None:
        """Answer everybody who asked for it."""
        for writer in self._leaving:
            await _write(writer, reply)
            writer.close()

    async def _serve_owner(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _user(writer) not in (0, os.geteuid()):
            writer.close()
            return
        async for line in _lines(reader):
            try:
                request = api.request(line)
            except msgspec.DecodeError as error:
                await _write(writer, api.Failed(f"not understood: {error}"))
                continue
            if isinstance(request, api.AskDown):
                self._leaving.append(writer)
                self._brain.end("asked for")
                return
            await _write(writer, await self._answer(request))
        writer.close()

    async def _serve_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in _lines(reader):
            try:
                request = api.request(line)
            except msgspec.DecodeError:
                break
            if not isinstance(request, api.AskStatus):
                await _write(writer, api.Failed("this socket answers `status` only"))
                continue
            await _write(writer, await self._answer(request))
        writer.close()

    async def _answer(self, request: api.Request) -> api.Reply:
        match request:
            case api.AskStatus() | api.AskNetcheck():
                return await self._look(request)
            case api.AskReload():
                return await self._reload(request)
            case api.AskRenew():
                if request.public_key not in self._brain.node.peers:
                    return api.Failed("there is no such peer")
                self._brain.tell(events.RenewAsked(request.public_key))
            case api.AskPoke():
                return await poke(self._brain, request.public_key)
            case api.AskAmend():
                return await self._amend(request)
            case api.AskAccept():
                self._brain.accept(request.prefixes)
            case api.AskAdvertise():
                self._brain.advertise(request.prefixes)
            case api.AskConfirm():
                self._brain.confirm()
            case api.AskDown():
                raise AssertionError("answered when everything is gone")
        return api.Done()

    async def _look(self, request: api.AskStatus | api.AskNetcheck) -> api.Reply:
        """By fresh numbers of all peers."""
        await ask(self._brain, "all")
        status = self._brain.status()
        if status is None:
            return api.Failed("not configured yet")
        if isinstance(request, api.AskStatus):
            return api.StatusReply(status)
        return api.NetcheckReply(netcheck(self._brain.node, asyncio.get_running_loop().time()))

    async def _reload(self, request: api.AskReload) -> api.Reply:
        config = self._brain.node.config
        if config is not None and config.mesh is not None:
            return api.Failed(f"{config.name} is of the network {config.mesh}, which says who its peers are")
        if config is not None and config.host_managed != request.config.host_managed:
            return api.Failed(f"{config.name} is shore-wg's: change it with `wg setconf`")
        wanted = request.config
        if wanted.private_key is None and config is not None:
            # A hook sets the key of such a file, and hooks are not run again.
            wanted = msgspec.structs.replace(wanted, private_key=config.private_key)
        async with self._reloading:
            self._unit.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await self._brain.reload(wanted)
            except NotConfigured as error:
                return api.Failed(str(error))
            finally:
                self._unit.say("READY=1")
        return api.Done()

    async def _amend(self, request: api.AskAmend) -> api.Reply:
        key = request.public_key
        change = None if key is None else PeerChange(key, request.name, request.redundancy)
        async with self._reloading:
            config = self._brain.node.config
            if config is None:
                return api.Failed("not configured yet")
            if config.mesh is not None and request.name is not None:
                return api.Failed(
                    f"names are the network's: `shore nodes rename` on the server of {config.mesh}"
                )
            try:
                await self._brain.reload(amended(config, request.uplinks, change))
            except KeyError:
                return api.Failed("there is no such peer")
            except NotConfigured as error:
                return api.Failed(str(error))
        return api.Done()


async def _write(writer: asyncio.StreamWriter, reply: api.Reply) -> None:
    writer.write(api.line(reply))
    try:
        await writer.drain()
    except ConnectionError:
        return


def _user(writer: asyncio.StreamWriter) -> int:
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """What is asked; it ends at a line that is too long."""
    with contextlib.suppress(ValueError):
        async for line in reader:
            yield line
