"""The server's process: listening sockets from its parent, one loop. SIGTERM ends it cleanly.

Nodes, and scripts elsewhere, come by the control socket, which the relay splices to; people and scripts of
this machine by the api socket.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from shore.coordination.found import database_of, read_founded, read_key
from shore.coordination.link import app
from shore.coordination.mesh import Mesh
from shore.coordination.repository import Repository
from shore.coordination.rest.application import application
from shore.coordination.rest.door import LocalProtocol
from shore.io.watchdog import Watchdog
from shore.wire.control import MOST_FROM_NODE


async def serve(state: Path, control: socket.socket, api: socket.socket | None, ready: int | None) -> None:
    """Until SIGTERM. Raises NotFounded, NoDatabase."""
    founded, key = read_founded(state), read_key(state / "server" / "netmap.key")
    repository = Repository(database_of(state))
    await repository.database.hold()
    await repository.database.migrate()
    mesh = Mesh(founded, key, repository)
    await mesh.load(time.time())
    rest = application(mesh)
    doors = [(_Door(_config(app(mesh, rest))), control)]
    if api is not None:
        doors.append((_Door(_config(rest, LocalProtocol)), api))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _close, [door for door, _ in doors])
    watchdog = Watchdog(_complain)
    mesh.notes = watchdog.notes
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(watchdog.keep("telling nodes", mesh.run))
        serving = [tasks.create_task(door.serve([listener])) for door, listener in doors]
        _say_ready(ready)
        await asyncio.wait(serving)
        telling.cancel()
    await repository.close()


class _Door(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """There are two of us, and one handler for both."""
        yield


def _close(doors: list[_Door]) -> None:
    for door in doors:
        door.should_exit = True


def _config(served: Starlette, http: type[asyncio.Protocol] | str = "h11") -> uvicorn.Config:
    return uvicorn.Config(
        served,
        http=http,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=MOST_FROM_NODE,
        ws_ping_interval=None,
        # Keys and signatures do not shrink, and each link would keep tables of its own.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        server_header=False,
        lifespan="off",
    )


def _complain(what: str, why: str) -> None:
    print(f"shore server: {what}: {why}", file=sys.stderr, flush=True)


def _say_ready(descriptor: int | None) -> None:
    print('{"is": "started"}', flush=True)
    if descriptor is not None:
        os.write(descriptor, b"\n")
        os.close(descriptor)
