"""The control link as it is on the wire: a WebSocket over TLS, with a membership at its end.

The server's certificate is judged by nobody but the membership, which compares the pin of this very
connection with what the root key signed. A proxy is used where somebody chose one, or the environment names
one. Sockets carry the tunnel's mark, so that the way to the server never leads through the tunnel.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from shore.core import member_events as on
from shore.core.candidates import endpoint
from shore.core.membership import Membership
from shore.io import pinned
from shore.io.feed import Feed
from shore.io.sockets import set_mark
from shore.wire import control

CLOSE_WITHIN = 1.0

Outbox = asyncio.Queue[bytes | None]


class NotLinked(Exception):
    """Why there is no link, or no longer. One sentence."""


class ControlLink:
    """Feeds a membership and carries out what is about the link; `perform` gets every other action."""

    def __init__(
        self,
        membership: Membership,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        perform: Callable[[on.Action], None],
        mark: Callable[[], int] = lambda: 0,
        proxy: str | None = None,
    ) -> None:
        """`proxy` is a URL that somebody chose in place of the environment's."""
        self.membership = membership
        self._spawn = spawn
        self._perform = perform
        self._mark = mark
        self._proxy = proxy
        self._outbox: Outbox | None = None
        self._feed = Feed(membership, self._do, on.Woke)

    def tell(self, event: on.Event) -> None:
        """Take an event; carry out what follows from it before the next one."""
        self._feed.tell(event)

    def close(self) -> None:
        """End the link and dial no more."""
        self._feed.stop()
        self._unlink()

    def _do(self, action: on.Action) -> None:
        match action:
            case on.Dial():
                self._unlink()
                self._outbox = Outbox()
                self._spawn(self._converse(action.address, self._outbox))
            case on.Say():
                if self._outbox is not None:
                    self._outbox.put_nowait(action.content)
            case on.Unlink():
                self._unlink()
            case _:
                self._perform(action)

    def _unlink(self) -> None:
        if self._outbox is not None:
            self._outbox.put_nowait(None)
        self._outbox = None

    async def _converse(self, address: str, outbox: Outbox) -> None:
        def heard(event: on.Event) -> None:
            if outbox is self._outbox:
                self.tell(event)

        try:
            await converse(address, outbox, heard, mark=self._mark(), proxy=self._proxy)
        except NotLinked as error:
            heard(on.Unlinked(str(error)))


async def converse(
    address: str,
    outbox: Outbox,
    tell: Callable[[on.Linked | on.Heard], None],
    *,
    mark: int = 0,
    proxy: str | None = None,
) -> None:
    """Open a link, tell what comes, send what is in the box; None in it ends the link. Raises NotLinked."""
    connector = aiohttp.TCPConnector(ssl=pinned.tls(), socket_factory=lambda place: _socket(place, mark))
    async with aiohttp.ClientSession(connector=connector, trust_env=proxy is None) as session:
        try:
            stream = await session.ws_connect(
                f"https://{address}{control.PATH}",
                proxy=proxy,
                protocols=(control.SUBPROTOCOL,),
                max_msg_size=control.MOST_FROM_SERVER,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN),
            )
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise NotLinked(_why(error)) from None
        async with stream, asyncio.TaskGroup() as tasks:
            pin = pinned.pin_of(stream.get_extra_info("ssl_object"))
            host, port = stream.get_extra_info("sockname")[:2]
            tell(on.Linked(address, pin, endpoint(host, port)))
            sending = tasks.create_task(_send(stream, outbox))
            async for message in stream:
                if message.type is aiohttp.WSMsgType.BINARY:
                    tell(on.Heard(message.data))
            sending.cancel()
        raise NotLinked(f"the server closed the link ({stream.close_code})")


async def _send(stream: aiohttp.ClientWebSocketResponse, outbox: Outbox) -> None:
    try:
        while (content := await outbox.get()) is not None:
            await stream.send_bytes(content)
    except (aiohttp.ClientError, ConnectionError):
        pass
    await stream.close()


def _socket(place: Any, mark: int) -> socket.socket:
    family, kind, protocol = place[:3]
    opened = socket.socket(family, kind, protocol)
    if mark:
        set_mark(opened, mark)
    return opened


def _why(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).lower()
