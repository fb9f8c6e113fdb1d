"""Ask a brain: the client's end of the local API."""

import socket

from shore.io.runtime import Runtime
from shore.wire import api


class NotRunning(Exception):
    """No brain answers for this tunnel."""


def ask(runtime: Runtime, request: api.Request, *, within: float = 10.0) -> api.Reply:
    """One request and its reply; `status` is also asked at the status socket.

    Raises NotRunning, TimeoutError.
    """
    places = [runtime.brain_socket]
    if isinstance(request, api.AskStatus):
        places.append(runtime.status_socket)
    for place in places:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(within)
            try:
                stream.connect(str(place))
                stream.sendall(api.line(request))
                answer = _line(stream)
            except TimeoutError:
                raise TimeoutError(f"{runtime.name} did not answer within {within:.0f} s") from None
            except OSError:
                continue
            if answer:
                return api.reply(answer)
    raise NotRunning(f"{runtime.name} is not running")


def _line(stream: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = stream.recv(1 << 16)
        if not part:
            return b""
        received += part
    return bytes(received)
