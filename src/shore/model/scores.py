"""What a path costs, and why another one should be taken."""

from typing import Literal

import msgspec


class PathScore(msgspec.Struct, frozen=True):
    """One path's cost in milliseconds, and the share of our packets that it loses (a lower bound).

    `avoided_until`: it was left for its loss, and keeps the cost it had until then. `usual_ms` is the round
    trip it had before it became slow, if it did.
    """

    socket: int
    remote: str
    primary: bool
    usable: bool
    cost_ms: float
    loss: float
    avoided_until: float | None = None
    usual_ms: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """Leave `current` for `best`."""

    best: PathScore
    current: PathScore
    why: Literal["loss", "delay", "better"]
