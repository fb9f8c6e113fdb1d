"""One node's WebSocket: what it proves, what it says, and what it is sent (docs/protocol/control.md).

Two loops, one for each direction; the first to end ends both. Nothing heard for 10 s is asked after, nothing
for 20 s ends the link. Nonsense ends it too; a step that is refused is answered and counts for nothing.
"""

import asyncio
import os
import time
from typing import Any

from sqlalchemy import Row, select
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from shore.coordination.mesh import Mesh, Outbox, node_of
from shore.coordination.proofs import NotProven, Proofs
from shore.coordination.repository import NotEnrolled
from shore.coordination.schema import nodes, revoked_keys
from shore.model.netmap import Standing
from shore.wire import control

MOST_REFUSALS = 5


def app(mesh: Mesh) -> Starlette:
    """What is served behind the relay's TLS port."""

    async def link(socket: WebSocket) -> None:
        if control.SUBPROTOCOL not in socket.scope["subprotocols"]:
            await socket.close(1002)
            return
        await socket.accept(control.SUBPROTOCOL)
        await Link(socket, mesh).live()

    return Starlette(routes=[WebSocketRoute(control.PATH, link)])


class Link:
    """From accept to close."""

    def __init__(self, socket: WebSocket, mesh: Mesh) -> None:
        self._socket = socket
        self._mesh = mesh
        self._nonce = os.urandom(32)
        self._proofs = Proofs(self._nonce, mesh.founded.pin)
        self._outbox: Outbox | None = None
        self._refusals = 0

    async def live(self) -> None:
        """Until either side ends it."""
        founded = self._mesh.founded
        try:
            await self._say(
                control.Challenge((control.VERSION,), self._nonce, founded.root, founded.statements)
            )
            async with asyncio.TaskGroup() as tasks:
                await self._hear_all(tasks)
        except* (WebSocketDisconnect, control.BrokenMessage, TimeoutError, RuntimeError, KeyError):
            pass
        finally:
            if self._outbox is not None:
                self._mesh.gone(self._outbox)

    async def _hear_all(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = control.from_node(await self._next())
            try:
                await self._hear(message, tasks)
            except NotEnrolled as error:
                await self._refuse("token", str(error))
            except NotProven as error:
                await self._refuse(error.code, str(error))

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(control.QUIET_S):
                return await self._socket.receive_bytes()
        except TimeoutError:
            await self._say(control.Ping(0))
        async with asyncio.timeout(control.DEAD_S - control.QUIET_S):
            return await self._socket.receive_bytes()

    async def _hear(self, message: control.FromNode | None, tasks: asyncio.TaskGroup) -> None:
        match message:
            case control.Hello():
                self._proofs.hello(message)
                await self._say_standing()
            case control.Enrol():
                self._proofs.enrol(message)
                await self._enrol(message)
            case control.Present():
                self._proofs.present(message)
                await self._present(message, tasks)
            case control.Whereabouts() if self._outbox is not None:
                self._mesh.moved(self._outbox.number, message)
            case control.Signal() if self._outbox is not None:
                self._mesh.pass_on(self._outbox.number, message)
            case control.Ping():
                await self._say(control.Pong(message.id))
            case _:
                pass

    async def _enrol(self, said: control.Enrol) -> None:
        machine_key = self._proofs.machine_key
        assert machine_key is not None
        repository = self._mesh.repository
        await repository.enrol(machine_key, said.node_key, said.secret, said.name, time.time())
        await self._say_standing()

    async def _present(self, said: control.Present, tasks: asyncio.TaskGroup) -> None:
        row = await self._row()
        standing = _standing(row, time.time())
        if row is None or standing != "member":
            raise NotProven("role", f"this machine is {standing} here")
        if self._proofs.role == "relay" or row.role == "relay":
            if self._proofs.role != row.role:
                raise NotProven("role", f"this machine is a {row.role} here")
            await self._admit()
            return
        if row.node_key != said.node_key:
            raise NotProven("key", "that is not the node key that this machine enrolled with")
        if self._outbox is not None:
            self._mesh.again(self._outbox, said)
            return
        self._outbox = self._mesh.came(node_of(row), said)
        tasks.create_task(self._send_all(self._outbox))

    async def _admit(self) -> None:
        founded = self._mesh.founded
        async with self._mesh.repository.engine.connect() as connection:
            revoked = tuple((await connection.scalars(select(revoked_keys.c.node_key))).all())
        await self._say(control.Admitting(founded.root, founded.network, founded.statements, revoked))

    async def _send_all(self, outbox: Outbox) -> None:
        while (message := await outbox.waiting.get()) is not None:
            async with asyncio.timeout(control.DEAD_S):
                await self._socket.send_bytes(message)
        if outbox is self._outbox:
            await self._socket.close()

    async def _say_standing(self) -> None:
        now = time.time()
        standing = _standing(await self._row(), now)
        await self._say(control.StandingIs(self._mesh.founded.network, standing, now))

    async def _row(self) -> Row[Any] | None:
        async with self._mesh.repository.engine.connect() as connection:
            this = select(nodes).where(nodes.c.machine_key == self._proofs.machine_key)
            return (await connection.execute(this)).one_or_none()

    async def _refuse(self, code: control.RefusalCode, reason: str) -> None:
        self._refusals += 1
        await self._say(control.Refused(code, reason))
        if code in ("closing", "version") or self._refusals >= MOST_REFUSALS:
            raise WebSocketDisconnect

    async def _say(self, message: control.FromServer) -> None:
        await self._socket.send_bytes(control.encode(message))


def _standing(row: Row[Any] | None, now: float) -> Standing:
    if row is None:
        return "unknown"
    if row.revoked_at is not None:
        return "revoked"
    if row.approved_at is None:
        return "pending"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "member"
