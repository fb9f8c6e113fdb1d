"""What became of probes that a person asked for."""

import msgspec

from shore.model.desired import PathKind


class PathPing(msgspec.Struct, frozen=True):
    """One probe of one path: `sent` is False where none could leave, `rtt_ms` None where no answer came."""

    id: int | None
    uplink: str | None
    remote: str
    primary: bool
    sent: bool
    rtt_ms: float | None
    kind: PathKind = "direct"
