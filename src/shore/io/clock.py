"""Notice that the machine slept, or that its clock was set.

Boottime goes on in sleep, monotonic time does not; neither moves when somebody sets the wall clock.
"""

import time
from collections.abc import Callable

LEAST_SLEEP = 1.0
LEAST_STEP = 1.0
READ_EVERY = 60.0


def boottime() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SleepWatch:
    """Asked now and then how long the machine slept since the last question."""

    def __init__(
        self, boot: Callable[[], float] = boottime, awake: Callable[[], float] = time.monotonic
    ) -> None:
        self._boot = boot
        self._awake = awake
        self._apart = boot() - awake()

    def slept_s(self) -> float:
        """Seconds of sleep, 0.0 if it was none worth the name."""
        apart = self._boot() - self._awake()
        slept, self._apart = apart - self._apart, apart
        return slept if slept >= LEAST_SLEEP else 0.0


class WallWatch:
    """Asked now and then whether the wall clock should be read: each minute, and when it was set."""

    def __init__(
        self, wall: Callable[[], float] = time.time, awake: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._awake = awake
        self._apart = wall() - awake()
        self._read_at = awake()

    def is_due(self) -> bool:
        """Whether to read it now."""
        wall, awake = self._wall(), self._awake()
        if abs(wall - awake - self._apart) < LEAST_STEP and awake - self._read_at < READ_EVERY:
            return False
        self._apart, self._read_at = wall - awake, awake
        return True
