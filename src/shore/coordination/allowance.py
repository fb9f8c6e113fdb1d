"""How often one may ask: so many at once, and so many a second after that (a token bucket)."""

from typing import Final

BURST: Final = 60.0
A_SECOND: Final = 20.0
MOST_KNOWN = 1024


class Allowance:
    """Of everybody who asks, by a word for him; who has not asked for a while is forgotten."""

    def __init__(self, burst: float = BURST, a_second: float = A_SECOND) -> None:
        self._burst = burst
        self._a_second = a_second
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, who: str, now: float) -> float:
        """0 if it may be done now, else in how many seconds. Steps of the clock make nobody wait longer."""
        left, at = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + max(now - at, 0.0) * self._a_second)
        may = left >= 1.0
        self._left[who] = (left - 1.0 if may else left, now)
        if len(self._left) > MOST_KNOWN:
            del self._left[next(iter(self._left))]
        return 0.0 if may else (1.0 - left) / self._a_second
