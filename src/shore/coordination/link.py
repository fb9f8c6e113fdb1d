"""One node's WebSocket: what it proves, what it says, and what it is sent (docs/protocol/control.md).

Two loops, one for each direction; the first to end ends both. Nothing heard for 10 s is asked after, nothing
for 20 s ends the link. Who has not said who it is after 5 s may not stay. Nonsense ends it too; a step that
is refused is answered and counts for nothing.
"""

import asyncio
import os
import time

from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from shore.coordination import names
from shore.coordination.database import NoDatabase
from shore.coordination.limits import TooOften
from shore.coordination.mesh import Mesh, node_of
from shore.coordination.outbox import Outbox
from shore.coordination.proofs import NotProven, Proofs
from shore.coordination.repository import NotEnrolled
from shore.coordination.roll import NotChanged, standing
from shore.wire import control

MOST_REFUSALS = 5
HELLO_WITHIN_S = 5.0


def app(mesh: Mesh, rest: ASGIApp) -> Starlette:
    """What is served behind the relay's TLS port: links, and the REST API beside them."""

    async def link(socket: WebSocket) -> None:
        if control.SUBPROTOCOL not in socket.scope["subprotocols"]:
            await socket.close(1002)
            return
        await socket.accept(control.SUBPROTOCOL)
        await Link(socket, mesh).live()

    return Starlette(routes=[WebSocketRoute(control.PATH, link), Mount("/", rest)])


class Link:
    """From accept to close."""

    def __init__(self, socket: WebSocket, mesh: Mesh) -> None:
        self._socket = socket
        self._mesh = mesh
        self._roll = mesh.repository.roll
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
                async with asyncio.timeout(HELLO_WITHIN_S):
                    while self._outbox is None:
                        await self._hear_one(tasks)
                while True:
                    await self._hear_one(tasks)
        except* (WebSocketDisconnect, control.BrokenMessage, TimeoutError, RuntimeError, KeyError):
            pass
        finally:
            if self._outbox is not None:
                self._mesh.gone(self._outbox)

    async def _hear_one(self, tasks: asyncio.TaskGroup) -> None:
        message = control.from_node(await self._next())
        try:
            if self._outbox is not None:
                await self._hear(message, self._outbox)
            elif isinstance(message, control.Hello):
                await self._hello(message, tasks)
            else:
                await self._stranger(message)
        except NotEnrolled as error:
            await self._refuse("token", str(error))
        except NotChanged as error:
            await self._refuse("key", str(error))
        except TooOften as error:
            await self._refuse("rate", str(error))
        except NotProven as error:
            await self._refuse(error.code, str(error))
        except NoDatabase:
            await self._refuse("closing", "the server cannot reach its database: try again later")

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(control.QUIET_S):
                return await self._socket.receive_bytes()
        except TimeoutError:
            await self._say(control.Ping(0))
        async with asyncio.timeout(control.DEAD_S - control.QUIET_S):
            return await self._socket.receive_bytes()

    async def _stranger(self, message: control.FromNode | None) -> None:
        match message:
            case control.Ping():
                await self._say(control.Pong(message.id))
            case control.Enrol() | control.Present() | control.Leave():
                raise NotProven("signature", "say who you are first: hello")
            case _:
                pass

    async def _hello(self, said: control.Hello, tasks: asyncio.TaskGroup) -> None:
        self._proofs.hello(said)
        outbox = self._outbox = Outbox(said.machine_key)
        tasks.create_task(self._send_all(outbox))
        self._mesh.greeted(outbox)
        row, now = await self._roll.of_machine(said.machine_key), time.time()
        if row is not None and row.role != said.role:
            raise NotProven("role", f"this machine is a {row.role} here")
        how = standing(row, now)
        await self._say(self._mesh.stands(how, now))
        if row is not None and row.role == "relay" and how == "member":
            await self._mesh.admit(outbox, row.id, now)

    async def _hear(self, message: control.FromNode | None, outbox: Outbox) -> None:
        match message:
            case control.Hello():
                self._proofs.hello(message)
            case control.Enrol():
                self._proofs.enrol(message)
                await self._enrol(message, outbox)
            case control.Present():
                self._proofs.present(message)
                await self._present(message, outbox)
            case control.Whereabouts() if outbox.said is not None:
                self._mesh.moved(outbox, message)
                await self._mesh.advertised(outbox, message.prefixes)
            case control.Signal() if outbox.said is not None:
                await self._signal(message, outbox)
            case control.Offering() if self._proofs.role == "relay":
                await self._mesh.offered(outbox, message)
            case control.Leave():
                self._proofs.leave(message)
                await self._leave(outbox)
            case control.Ping():
                await self._say(control.Pong(message.id))
            case _:
                pass

    async def _enrol(self, said: control.Enrol, outbox: Outbox) -> None:
        now, repository = time.time(), self._mesh.repository
        self._mesh.limits.enrolment(await repository.prefix_of(said.secret), now)
        if self._proofs.role == "relay":
            row = await repository.enrol_relay(outbox.machine_key, said.secret, said.name, now)
        else:
            avoid = names.within_range((*self._mesh.founded.avoid, *said.avoid))
            row = await repository.enrol(
                outbox.machine_key, said.node_key, said.secret, said.name, now, avoid=avoid
            )
        how = standing(row, now)
        await self._say(self._mesh.stands(how, now))
        if row.role == "relay" and how == "member":
            await self._mesh.admit(outbox, row.id, now)

    async def _present(self, said: control.Present, outbox: Outbox) -> None:
        row, now = await self._roll.of_machine(outbox.machine_key), time.time()
        how = standing(row, now)
        if row is None or how not in ("member", "expired"):
            raise NotProven("role", f"this machine is {how} here")
        if self._proofs.role != row.role:
            raise NotProven("role", f"this machine is a {row.role} here")
        if row.role == "relay":
            await self._mesh.admit(outbox, row.id, now)
            return
        if row.node_key != said.node_key:
            row = await self._roll.rekey(row.id, said.node_key, now)
            self._mesh.rekeyed()
        elif how == "expired":
            raise NotProven("key", "this node key has expired: draw another")
        self._mesh.came(outbox, node_of(row), said)

    async def _signal(self, said: control.Signal, outbox: Outbox) -> None:
        try:
            if self._mesh.limits.signal(outbox.number, time.time()):
                self._mesh.pass_on(outbox.number, said)
        except TooOften as error:
            await self._say(control.Refused("rate", str(error)))

    async def _leave(self, outbox: Outbox) -> None:
        row = await self._roll.of_machine(outbox.machine_key)
        if row is not None and row.revoked_at is None:
            await self._roll.leave(row.id, time.time())
            self._mesh.left(row.id)
        await self._say(self._mesh.stands("unknown", time.time()))
        raise WebSocketDisconnect

    async def _send_all(self, outbox: Outbox) -> None:
        while (message := await outbox.waiting.get()) is not None:
            async with asyncio.timeout(control.DEAD_S):
                await self._socket.send_bytes(message)
        await self._socket.close()

    async def _refuse(self, code: control.RefusalCode, reason: str) -> None:
        self._refusals += 1
        await self._say(control.Refused(code, reason))
        if code in ("closing", "version") or self._refusals >= MOST_REFUSALS:
            raise WebSocketDisconnect

    async def _say(self, message: control.FromServer) -> None:
        await self._socket.send_bytes(control.encode(message))
