"""Whose turn it is to be told: not before a burst is over, not again at once, who waits longest first.

A change may concern every node, and to tell one of them costs the same whether one thing is another for it or
ten. So who is concerned waits `COALESCE_S` for the rest of the burst, and is told then whatever has gathered.
Who was told a moment ago waits longer, so that all telling together takes half of the time: with few links
that is no wait at all, in a storm of many it is up to `GAP_S`.

Each node waits for itself. A change that comes while an earlier one is on its way goes along to all whose
turn is yet to come, and nobody waits for the end of what others are told.

Pure: seconds of any one clock are the caller's.
"""

import heapq
from collections.abc import Iterable

COALESCE_S = 0.05
GAP_S = 0.2
# How much of the newest is in what one telling is taken to cost.
NEWEST = 0.1


class Turns:
    """Nodes, by their numbers."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []
        self._told_at: dict[int, float] = {}
        self._cost_s = 0.0

    def wait(self, numbers: Iterable[int], links: int, now: float) -> None:
        """These are concerned, of so many links; who waits already goes on waiting."""
        gap = min(2 * self._cost_s * links, GAP_S)
        for number in numbers:
            if number not in self._due:
                due = max(now + COALESCE_S, self._told_at.get(number, now - gap) + gap)
                self._due[number] = due
                heapq.heappush(self._order, (due, number))

    def take(self, most: int, now: float) -> tuple[int, ...]:
        """Whose time has come, longest first and at most so many: they are told now."""
        taken: list[int] = []
        while self._order and self._order[0][0] <= now and len(taken) < most:
            due, number = heapq.heappop(self._order)
            if self._due.get(number) == due:
                del self._due[number]
                self._told_at[number] = now
                taken.append(number)
        return tuple(taken)

    def next(self) -> float | None:
        """When somebody's time comes."""
        return self._order[0][0] if self._order else None

    def took(self, seconds: float, count: int) -> None:
        """What it cost to tell so many."""
        self._cost_s += NEWEST * (seconds / count - self._cost_s)

    def forget(self, number: int) -> None:
        """Nobody waits for it any more."""
        self._due.pop(number, None)
        self._told_at.pop(number, None)
