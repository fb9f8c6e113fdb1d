"""Connect to a relay: its addresses in turn, each a moment after the last; who answers first wins (RFC 8305).

The socket carries the tunnel's mark, so that a full tunnel does not swallow the packets of its own link.
Where the environment names a proxy (`proxy`), that is what is connected to, and it leads on.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from shore.core.names import is_literal
from shore.io.proxy import Proxy, Refused, pass_through, proxy_for
from shore.io.resolver import NotResolved
from shore.io.sockets import set_mark

STAGGER = 0.25
CONNECT_WITHIN = 5.0

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]


class NotDialled(Exception):
    """Why no address could be connected to. One sentence."""


class _Target(NamedTuple):
    """A relay's address and its host, and what is connected to for it."""

    relay: str
    host: str
    address: str
    port: int
    proxy: Proxy | None


async def dial(
    addresses: tuple[str, ...], mark: int, resolve: Resolve, environment: Mapping[str, str] = os.environ
) -> tuple[socket.socket, str]:
    """A connected socket, and the host of the address that answered. Raises NotDialled."""
    targets: list[_Target] = []
    reason = "it has no address"
    for address in addresses:
        try:
            targets += await _targets(address, resolve, environment)
        except (NotResolved, ValueError) as error:
            reason = f"{address}: {error}"
    attempts = [
        asyncio.create_task(_connect(target, mark, number * STAGGER))  # noqa: TID251 (ended below)
        for number, target in enumerate(targets)
    ]
    winner: socket.socket | None = None
    try:
        for done in asyncio.as_completed(attempts, timeout=CONNECT_WITHIN + len(targets) * STAGGER):
            try:
                winner, host = await done
            except (OSError, TimeoutError, Refused) as error:
                reason = str(getattr(error, "strerror", None) or error or "no answer")
                continue
            return winner, host
    finally:
        for attempt in attempts:
            attempt.cancel()
        for attempt in attempts:
            with contextlib.suppress(OSError, TimeoutError, Refused, asyncio.CancelledError):
                late, _ = await attempt
                if late is not winner:
                    late.close()
    raise NotDialled(reason)


async def _targets(address: str, resolve: Resolve, environment: Mapping[str, str]) -> list[_Target]:
    """Raises NotResolved, ValueError."""
    name, _, port = address.rpartition(":")
    host = name.strip("[]")
    if not (port.isdecimal() and port.isascii() and 0 < int(port[:6]) < 1 << 16):
        raise ValueError("there is no port of that number")
    proxy = proxy_for(host, environment)
    first, its_port = (host, int(port)) if proxy is None else (proxy.host, proxy.port)
    return [_Target(address, host, found, its_port, proxy) for found in await _found(first, resolve)]


async def _found(host: str, resolve: Resolve) -> tuple[str, ...]:
    return (host,) if is_literal(host) else await resolve(host)


async def _connect(target: _Target, mark: int, after: float) -> tuple[socket.socket, str]:
    await asyncio.sleep(after)
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if mark:
            set_mark(opened, mark)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(opened, (target.address, target.port)), CONNECT_WITHIN)
        if target.proxy is not None:
            await asyncio.wait_for(pass_through(opened, target.relay, target.proxy), CONNECT_WITHIN)
    except BaseException:
        opened.close()
        raise
    return opened, target.host
