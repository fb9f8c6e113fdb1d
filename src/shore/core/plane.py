"""The watch over the data plane: is it there, does it answer, how often was it replaced.

A stall is two questions in a row unanswered for a second each while our own loop was on time; a brain
that was itself stopped judges nothing, so that it never kills a healthy plane when it wakes. A plane that
dies is started again at once; one that dies again and again is started ever later, and for ever.
"""

from shore.core import timers


class PlaneWatch:
    """What the heart knows of the data plane."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.restarts = 0
        self._unanswered = 0
        self._deaths: list[float] = []
        self._start_at: float | None = None
        self._starting = False

    def started(self, pid: int) -> None:
        """A plane runs."""
        self.pid = pid
        self._unanswered = 0
        self._starting = False
        self._start_at = None

    def answered(self) -> None:
        """The data thread lives."""
        self._unanswered = 0

    def unanswered(self, lag_s: float) -> bool:
        """Returns whether the plane is to be called stalled."""
        if lag_s >= timers.OWN_LAG or self.pid is None:
            self._unanswered = 0
            return False
        self._unanswered += 1
        return self._unanswered == timers.STALL_QUESTIONS

    def lost(self, now: float) -> None:
        """The plane is gone: a new one is due, sooner or later."""
        self.pid = None
        self._starting = False
        self.restarts += 1
        self._deaths = [at for at in self._deaths if now - at < timers.RESTART_WINDOW] + [now]
        excess = len(self._deaths) - timers.FREE_RESTARTS
        waits = timers.RESTART_BACKOFF
        self._start_at = now if excess <= 0 else now + waits[min(excess, len(waits)) - 1]

    def due(self, now: float) -> bool:
        """Whether to start a plane now; says so once."""
        if self._start_at is None or self._start_at > now or self._starting:
            return False
        self._start_at = None
        self._starting = True
        return True

    def want(self, now: float) -> None:
        """There is none yet, and there should be."""
        if self.pid is None and not self._starting and self._start_at is None:
            self._start_at = now

    def deadline(self) -> float | None:
        """When a start is due."""
        return self._start_at
