"""What `shore why` says of a peer."""

import msgspec

from shore.model.history import Change
from shore.model.status import PathStatus


class OtherPath(msgspec.Struct, frozen=True):
    """A path that is not the primary one, and why not."""

    path: PathStatus
    why: str


class Explanation(msgspec.Struct, frozen=True):
    """`now` and `suggestion` are sentences; `path` is the primary one, None to plain WireGuard."""

    tunnel: str
    public_key: str
    name: str | None
    connected: bool
    now: str
    since_s: float | None
    path: PathStatus | None
    others: tuple[OtherPath, ...]
    changes: tuple[Change, ...]
    suggestion: str | None
