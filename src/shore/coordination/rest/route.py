"""A route as a value, what it is asked, and how it refuses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from shore.coordination.mesh import Mesh
from shore.wire.policy import Complaint

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Right = Literal["read", "write"]


class Asked(msgspec.Struct, frozen=True):
    """One request: who asks, the body as the route's type, words of path and query, and when."""

    mesh: Mesh
    who: str
    body: Any
    path: Mapping[str, str]
    query: Mapping[str, str]
    now: float


class Route(msgspec.Struct, frozen=True):
    """`query` are switches, off by default."""

    method: Method
    path: str
    right: Right
    does: Callable[[Asked], Awaitable[msgspec.Struct]]
    gives: type[msgspec.Struct]
    takes: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()


class Wrong(Exception):
    """It cannot be done: the code of the answer, and why."""

    def __init__(self, status: int, complaint: Complaint) -> None:
        super().__init__(complaint.sentence)
        self.status = status
        self.complaint = complaint


def wrong(status: int, sentence: str) -> Wrong:
    """To raise."""
    return Wrong(status, Complaint(sentence))
