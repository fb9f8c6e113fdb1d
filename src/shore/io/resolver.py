"""Resolve the names of endpoints, off the event loop."""

import asyncio
import socket


class NotResolved(Exception):
    """What the resolver said."""


async def resolve(host: str) -> tuple[str, ...]:
    """Addresses in the resolver's order. Raises NotResolved."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise NotResolved(str(getattr(error, "strerror", None) or error).lower()) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
