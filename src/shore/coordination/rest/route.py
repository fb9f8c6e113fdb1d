"""A route as a value, what it is asked, and how it refuses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from shore.coordination.mesh import Mesh
from shore.wire.policy import Complaint

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Right = Literal["read", "write", "root"]


class Asked(msgspec.Struct, frozen=True):
    """One request: who asks, the body as the route's type, words of path and query, and when."""

    mesh: Mesh
    who: str
    body: Any
    path: Mapping[str, str]
    query: Mapping[str, str]
    now: float


class Route(msgspec.Struct, frozen=True):
    """`right` `root` is had on the local socket alone; `query` are switches, off by default."""

    method: Method
    path: str
    right: Right
    does: Callable[[Asked], Awaitable[msgspec.Struct]]
    gives: type[msgspec.Struct]
    takes: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()


class Wrong(Exception):
    """It cannot be done: the code of the answer, why, and in how many seconds it may."""

    def __init__(self, status: int, complaint: Complaint, again_in: float | None = None) -> None:
        super().__init__(complaint.sentence)
        self.status = status
        self.again_in = again_in
        self.complaint = complaint


def wrong(status: int, sentence: str) -> Wrong:
    """To raise."""
    return Wrong(status, Complaint(sentence))
