"""A figure, its target, and how figures are made of many runs."""

import statistics
from typing import Any

import msgspec

from shore.lab.pinger import Pings

# Where no reply came while we looked, this stands for the gap in seconds.
NEVER = 99.0


class Figure(msgspec.Struct, frozen=True):
    """One figure: what was measured, its target in words, and whether it was met (None: no target)."""

    row: str
    name: str
    value: float
    target: str = ""
    met: bool | None = None
    detail: dict[str, Any] = {}


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def long_time(rounds: int) -> float:
    """Seconds of what takes long: ten minutes, or two for a single round, which only tries the row."""
    return 600.0 if rounds > 1 else 120.0


def gap(pings: Pings, since: float) -> float:
    """Seconds from an instant until replies came again, NEVER if none came."""
    seconds = pings.gap(since)
    return NEVER if seconds is None else round(seconds, 3)


def percentile(pings: Pings, share: float) -> float:
    """Milliseconds within which that share of the answered pings came back."""
    rtts = sorted(rtt for _, rtt in pings.sent if rtt is not None)
    return rtts[min(int(len(rtts) * share), len(rtts) - 1)] * 1e3 if rtts else float("nan")


def percentile_of(values: list[float], share: float) -> float:
    """The value that that share of them do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def least(row: str, name: str, value: float, target: float, **detail: Any) -> Figure:
    return Figure(row, name, round(value, 3), f">= {target:g}", value >= target, detail)


def most(row: str, name: str, value: float, target: float, **detail: Any) -> Figure:
    return Figure(row, name, round(value, 3), f"<= {target:g}", value <= target, detail)
