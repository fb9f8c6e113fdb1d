"""Who asks, and whether he may.

On the api socket the kernel says which user is at the other end (SO_PEERCRED): root and the user that the
server runs as may do anything, as they can read its files anyway. Of what comes any other way the peer is the
relay, whoever asks, so the stamp is set by the api socket's own protocol and by nothing that is sent.
"""

import asyncio
import os
import socket
import struct

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from shore.coordination.rest.route import Right, wrong

UID = "shore.uid"
MOST = 1 << 20


class LocalProtocol(H11Protocol):
    """HTTP on the api socket: every request bears the user who asks."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel, once."""
        super().connection_made(transport)
        inner, uid = self.app, _peer(self.transport.get_extra_info("socket"))

        async def stamped(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, UID: uid}, receive, send)

        self.app = stamped


def who_asks(request: Request, right: Right) -> str:
    """A word for the audit log. Raises Wrong."""
    uid = request.scope.get(UID)
    if uid is None:
        raise wrong(401, f"this needs a key with the right to {right}: `shore server keys create`")
    if uid not in (0, os.geteuid()):
        raise wrong(403, "only root may ask the server: run as root")
    return "root" if uid == 0 else f"user {uid}"


async def body_of(request: Request) -> bytes:
    """At most 1 MiB. Raises Wrong."""
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > MOST:
            raise wrong(413, f"a request has at most {MOST} bytes")
    return bytes(read)


def _peer(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("iII", credentials)
    return int(uid)
