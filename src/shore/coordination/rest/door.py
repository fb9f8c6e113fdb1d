"""Who asks, and whether he may.

Over TLS it takes a key (`Authorization: Bearer shorekey_…`). On the api socket the kernel says which user is
at the other end (SO_PEERCRED): root and the user that the server runs as may do anything, as they can read
its files anyway. Of what comes over TLS the peer is the relay, whoever asks, so the stamp is set by the api
socket's own protocol and by nothing that is sent.
"""

import asyncio
import os
import socket
import struct

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from shore.coordination.allowance import Allowance
from shore.coordination.keyring import Keyring
from shore.coordination.rest.route import Right, Wrong, wrong
from shore.wire.policy import Complaint

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


class Door:
    """Lets in who may. Who comes with a wrong key shares one allowance with all others who do, so that
    guessing is slow and disturbs nobody who has a right one."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._allowance = Allowance()

    async def who_asks(self, request: Request, right: Right, now: float) -> str:
        """A word for the audit log. Raises Wrong."""
        uid = request.scope.get(UID)
        if uid is not None and uid in (0, os.geteuid()):
            return "root" if uid == 0 else f"user {uid}"
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        known = await self._keyring.of(key) if scheme.lower() == "bearer" else None
        who = "nobody" if known is None else f"key {known[0]}"
        again_in = self._allowance.take(who, now)
        if again_in:
            raise Wrong(429, Complaint("that is too often: ask again a little later"), again_in)
        if right == "root":
            raise wrong(403, "this is asked on the server's own machine, by root")
        if known is None and uid is not None:
            raise wrong(403, "only root may ask the server without a key: run as root")
        if known is None:
            raise wrong(401, f"this needs a key with the right to {right}: `shore server keys create`")
        if right == "write" and known[1] != "write":
            raise wrong(403, "this key may read only")
        return who


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
