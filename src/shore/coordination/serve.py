"""The server's process: one listening socket from its parent, one loop. SIGTERM ends it cleanly."""

import asyncio
import socket
import time
from pathlib import Path

import uvicorn

from shore.coordination.found import read_founded, read_key
from shore.coordination.link import app
from shore.coordination.mesh import Mesh
from shore.coordination.repository import Repository
from shore.wire.control import MOST_FROM_NODE


async def serve(state: Path, control: socket.socket) -> None:
    """Until SIGTERM. Raises NotFounded."""
    server = state / "server"
    repository = Repository(f"sqlite+aiosqlite:///{server / 'server.db'}")
    mesh = Mesh(read_founded(state), read_key(server / "netmap.key"), repository)
    await mesh.load(time.time())
    config = uvicorn.Config(
        app(mesh),
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=MOST_FROM_NODE,
        ws_ping_interval=None,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(mesh.run())
        print('{"is": "started"}', flush=True)
        await uvicorn.Server(config).serve([control])
        telling.cancel()
    await repository.close()
