"""Resolve the names of endpoints.

Usually the host's own resolver is asked. Under a full tunnel that would ask through the tunnel for the way to
its own peer; then the resolvers from before `up` are asked directly, by sockets with the tunnel's mark.
"""

import asyncio
import socket

from shore.io.later import imported


class NotResolved(Exception):
    """What the resolver said."""


async def resolve(host: str) -> tuple[str, ...]:
    """Addresses in the order of the host's resolver. Raises NotResolved."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise NotResolved(str(getattr(error, "strerror", None) or error).lower()) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


async def resolve_marked(host: str, servers: tuple[str, ...], mark: int) -> tuple[str, ...]:
    """Ask name servers directly, in turn, past the tunnel. Raises NotResolved."""
    reason = "no name server is known"
    questions = await imported("shore.io.questions")
    for server in servers:
        try:
            found: tuple[str, ...] = await asyncio.to_thread(questions.ask, host, server, mark)
        except NotResolved as error:
            reason = f"{server}: {error}"
        else:
            return found
    raise NotResolved(reason)
