"""Ask the coordination server of this machine: its REST API over the unix socket, where root needs no key."""

import http.client
import socket
from pathlib import Path

import msgspec

from shore.io.runtime import root
from shore.wire.policy import Complaint, Refusal

DEADLINE_S = 30.0


class NoServer(Exception):
    """No coordination server answers on this machine, or not us."""


class Refused(Exception):
    """It answered that it cannot be done."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.sentence)
        self.complaint = complaint


def place() -> Path:
    """The socket."""
    return root() / "server" / "api.sock"


def ask(method: str, route: str, body: msgspec.Struct | None = None) -> bytes:
    """One request; the body of its answer. Raises NoServer, Refused, TimeoutError."""
    link = _Link("localhost", timeout=DEADLINE_S)
    sent = b"" if body is None else msgspec.json.encode(body)
    try:
        link.request(method, route, sent, {"Content-Type": "application/json"} if sent else {})
        response = link.getresponse()
        answer = response.read()
    except TimeoutError:
        raise TimeoutError(f"the server did not answer within {DEADLINE_S:.0f} s") from None
    except PermissionError:
        raise NoServer("only root may ask the server: run as root") from None
    except (OSError, http.client.HTTPException):
        raise NoServer("no coordination server runs on this machine") from None
    finally:
        link.close()
    if response.status >= 400:
        raise Refused(_complaint(response.status, answer))
    return answer


def _complaint(status: int, answer: bytes) -> Complaint:
    try:
        detail = msgspec.json.decode(answer, type=Refusal).detail
    except msgspec.DecodeError:
        return Complaint(f"the server answered with code {status}")
    return Complaint(detail) if isinstance(detail, str) else detail


class _Link(http.client.HTTPConnection):
    def connect(self) -> None:
        """To the socket, whatever the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(place()))
