"""A STUN server in a host of the lab: binding requests (RFC 8489), answered with what it sees.

It keeps what it told, so that a test can ask whether that was believed.
"""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from shore.lab.inside import datagram_socket
from shore.lab.net import Host

COOKIE = 0x2112A442
REQUEST, SUCCESS, XOR_MAPPED_ADDRESS = 0x0001, 0x0101, 0x0020
HEADER = struct.Struct("!HHI12s")
PORT = 3478


class StunServer:
    """Answers while the block runs; `told` is whom it saw, one entry a request."""

    def __init__(self, host: Host, address: str) -> None:
        self.told: list[str] = []
        self._socket = datagram_socket(host, address, PORT)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Wakes the thread, which an end by `close` alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                request, source = self._socket.recvfrom(2048)
            except OSError:
                return
            if not request:
                return
            answer = _answer(request, source)
            if answer is not None:
                self.told.append(f"{source[0]}:{source[1]}")
                self._socket.sendto(answer, source)


def _answer(request: bytes, source: tuple[str, int]) -> bytes | None:
    """For IPv4; None for what is no binding request."""
    if len(request) < HEADER.size:
        return None
    kind, length, cookie, transaction = HEADER.unpack_from(request)
    if (kind, length, cookie) != (REQUEST, len(request) - HEADER.size, COOKIE):
        return None
    (address,) = struct.unpack("!I", socket.inet_aton(source[0]))
    value = struct.pack("!BBHI", 0, 1, source[1] ^ COOKIE >> 16, address ^ COOKIE)
    attribute = struct.pack("!HH", XOR_MAPPED_ADDRESS, len(value)) + value
    return HEADER.pack(SUCCESS, len(attribute), COOKIE, transaction) + attribute
