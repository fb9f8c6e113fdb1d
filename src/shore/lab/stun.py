"""A STUN server in a host of the lab: binding requests (RFC 8489), answered with what it sees.

It keeps what it told, so that a test can ask whether that was believed.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from shore.lab.inside import datagram_socket
from shore.lab.net import Host
from shore.wire import stun

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
            if stun.is_request(request):
                self.told.append(f"{source[0]}:{source[1]}")
                self._socket.sendto(stun.response(request, *source), source)
