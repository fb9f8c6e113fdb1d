"""How much a stream's socket holds that it has not sent, and when that is little again.

What stands in a socket can neither be dropped nor overtaken, so little shall. TCP_NOTSENT_LOWAT alone does
not see to that: the kernel goes on filling the segment that it has begun, up to 64 KiB. So a writer asks
first (SIOCOUTQNSD) and writes little at a time; and EPOLLOUT, which heeds TCP_NOTSENT_LOWAT to the byte, says
when to go on. A loop does not watch the descriptor of a transport twice, but a duplicate is another one.

How much is *little* follows the socket: what it sends in 5 ms, as measured while it was waited for; and twice
as much where it had run dry by then, as it does when the link is fast or the loop is late.
"""

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Callable

SIOCOUTQNSD = 0x894B
TCP_NOTSENT_LOWAT = 25
LEAST, MOST = 1 << 13, 1 << 17
HELD_S = 0.005


class Room:
    """Of one stream; `little` is how much may be held, in bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._loop = asyncio.get_running_loop()
        self._watched: int | None = None
        self._waiting = False
        self._full_since, self._held_then = 0.0, 0
        self.little = MOST
        transport.set_write_buffer_limits(high=0)
        self._let_hold(MOST)

    def held(self) -> int:
        """Bytes that were written and not sent."""
        unsent = fcntl.ioctl(self._socket.fileno(), SIOCOUTQNSD, bytes(4))
        return self._transport.get_write_buffer_size() + int(struct.unpack("i", unsent)[0])

    def full(self) -> int:
        """There is none; how much is held."""
        self._full_since, self._held_then = self._loop.time(), self.held()
        return self._held_then

    def free(self) -> None:
        """There is some again: how long it took says how much is little."""
        held = self.held()
        passed = max(self._loop.time() - self._full_since, 1e-4)
        target = (self._held_then - held) / passed * HELD_S if held else MOST
        if target > 1.5 * self.little:
            self._let_hold(min(self.little * 2, MOST))
        elif target < self.little / 1.5:
            self._let_hold(max(self.little // 2, LEAST))

    def wait(self, then: Callable[[], None]) -> None:
        """Call it once, when little is held."""
        if self._waiting:
            return
        if self._watched is None:
            self._watched = os.dup(self._socket.fileno())
        self._waiting = True
        self._loop.add_writer(self._watched, self._there_is, then)

    def close(self) -> None:
        """Wait for nothing any more; before the transport is closed."""
        if self._watched is not None:
            self._stop()
            os.close(self._watched)
            self._watched = None

    def _there_is(self, then: Callable[[], None]) -> None:
        self._stop()
        then()

    def _let_hold(self, little: int) -> None:
        self.little = little
        self._socket.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, little)

    def _stop(self) -> None:
        if self._waiting and self._watched is not None:
            self._waiting = False
            self._loop.remove_writer(self._watched)
