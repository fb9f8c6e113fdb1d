"""Ask a brain: the client's end of the local API."""

import socket
import time

from shore.io.runtime import Runtime
from shore.wire import api

RETRY = 0.05


class NotRunning(Exception):
    """No brain answers for this tunnel."""


class NotAllowed(Exception):
    """There is something of this tunnel, and it is not ours to ask."""


def ask(runtime: Runtime, request: api.Request, *, within: float = 10.0) -> api.Reply:
    """One request and its reply; `status` is also asked at the status socket.

    Raises NotRunning, NotAllowed, TimeoutError.
    """
    deadline = time.monotonic() + within
    while True:
        answer = _ask_once(runtime, request, within)
        if answer is not None:
            return answer
        # A keeper without a brain is about to have one.
        if not runtime.is_held("keeper") or time.monotonic() > deadline:
            raise NotRunning(_why_not(runtime))
        time.sleep(RETRY)


def _why_not(runtime: Runtime) -> str:
    name = runtime.name
    if not runtime.is_left:
        return f"{name} is not running"
    return (
        f"{name} has no brain: `systemctl start shore@{name}` gives it one, `shore down {name}` takes it down"
    )


def _ask_once(runtime: Runtime, request: api.Request, within: float) -> api.Reply | None:
    places, allowed = [runtime.brain_socket], True
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
            except PermissionError:
                allowed = False
                continue
            except OSError:
                continue
            if answer:
                return api.reply(answer)
    if not allowed:
        raise NotAllowed(f"no right to ask {runtime.name}: run as root")
    return None


def _line(stream: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = stream.recv(1 << 16)
        if not part:
            return b""
        received += part
    return bytes(received)
