"""Talk to the kernel about links, addresses, routes and rules; the library for it comes when it is needed."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from shore.io.later import imported


class Refused(Exception):
    """What the kernel said; `code` is its errno."""

    def __init__(self, code: int, said: object) -> None:
        super().__init__(str(said))
        self.code = code


@contextlib.asynccontextmanager
async def netlink() -> AsyncIterator[Any]:
    """An open socket of pyroute2's, for as long as it takes."""
    library = await imported("pyroute2")
    async with library.AsyncIPRoute() as opened:
        yield opened


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What the kernel does not do within, raises Refused."""
    # It is there by now, as there is a socket of it.
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as error:
        raise Refused(error.code, error.args[-1]) from None
