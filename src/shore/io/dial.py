"""Connect to a relay: its addresses in turn, each a moment after the last; who answers first wins (RFC 8305).

The socket carries the tunnel's mark, so that a full tunnel does not swallow the packets of its own link.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from shore.core.names import is_literal
from shore.io.resolver import NotResolved
from shore.io.sockets import set_mark

STAGGER = 0.25
CONNECT_WITHIN = 5.0

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]


class NotDialled(Exception):
    """Why no address could be connected to. One sentence."""


async def dial(addresses: tuple[str, ...], mark: int, resolve: Resolve) -> tuple[socket.socket, str]:
    """A connected socket, and the host of the address that answered. Raises NotDialled."""
    targets = []
    reason = "it has no address"
    for address in addresses:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            targets += [(host, found, int(port)) for found in await _found(host, resolve)]
        except (NotResolved, ValueError) as error:
            reason = f"{address}: {error}"
    attempts = [
        asyncio.create_task(_connect((host, found, port), mark, number * STAGGER))  # noqa: TID251 (ended below)
        for number, (host, found, port) in enumerate(targets)
    ]
    winner: socket.socket | None = None
    try:
        for done in asyncio.as_completed(attempts, timeout=CONNECT_WITHIN + len(targets) * STAGGER):
            try:
                winner, host = await done
            except (OSError, TimeoutError) as error:
                reason = str(getattr(error, "strerror", None) or error or "no answer")
                continue
            return winner, host
    finally:
        for attempt in attempts:
            attempt.cancel()
        for attempt in attempts:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                late, _ = await attempt
                if late is not winner:
                    late.close()
    raise NotDialled(reason)


async def _found(host: str, resolve: Resolve) -> tuple[str, ...]:
    return (host,) if is_literal(host) else await resolve(host)


async def _connect(target: tuple[str, str, int], mark: int, after: float) -> tuple[socket.socket, str]:
    host, address, port = target
    await asyncio.sleep(after)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if mark:
            set_mark(opened, mark)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(opened, (address, port)), CONNECT_WITHIN)
    except BaseException:
        opened.close()
        raise
    return opened, host
