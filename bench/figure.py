"""A figure, its target, and how figures are made of many runs."""

import statistics
from typing import Any

import msgspec

from shore.lab.pinger import Pings


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
