"""Notice that the machine slept: boottime goes on meanwhile, monotonic time does not."""

import time
from collections.abc import Callable

LEAST_SLEEP = 1.0


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
