"""Work that an accident must not end: it is begun again, ever later, and people are told why.

What decides about packets has no second life in its process: that ends, and the next one goes on from what
the data plane holds. But what only brings news (a link to the server, names, ports at gateways) may have a
defect, or meet what nobody thought of, and must not take the rest along. Each such work has a name. When it
fails, its cause is told in one sentence, the traceback goes to stderr, and it is begun anew after a wait that
doubles as long as it fails young. Until it has lasted, `notes` say so to whoever asks how things are.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

LEAST_WAIT = 0.5
MOST_WAIT = 60.0
MOST_DOUBLINGS = 8
# Who has lasted for so long has recovered.
LASTED = 60.0

Tell = Callable[[str, str], None]


class Failing:
    """A work that failed: the last cause, how often in a row, and since when it was begun anew."""

    def __init__(self, cause: str, times: int) -> None:
        self.cause = cause
        self.times = times
        self.begun: float | None = None


class Watchdog:
    """All such works of one process; `tell` gets what failed, and why."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._failing: dict[str, Failing] = {}

    async def keep(self, name: str, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have it done until it ends by itself, or until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if (failing := self._failing.get(name)) is not None:
                failing.begun = began
            try:
                await begin()
            except Exception as error:
                wait = self._failed(name, error, loop.time() - began)
            else:
                self._failing.pop(name, None)
                return
            await asyncio.sleep(wait)

    def notes(self) -> tuple[str, ...]:
        """A sentence for each work that has not recovered."""
        now = asyncio.get_running_loop().time()
        return tuple(
            f"{name} failed{f' {failing.times} times' if failing.times > 1 else ''}: {failing.cause}"
            for name, failing in self._failing.items()
            if failing.begun is None or now - failing.begun < LASTED
        )

    def _failed(self, name: str, error: Exception, lasted: float) -> float:
        """Returns how long to wait."""
        before = self._failing.get(name)
        times = 1 if before is None or lasted >= LASTED else before.times + 1
        wait: float = min(LEAST_WAIT * 2.0 ** min(times - 1, MOST_DOUBLINGS), MOST_WAIT)
        cause = report(error)
        self._failing[name] = Failing(cause, times)
        self._tell(f"{name} failed", f"{cause}; begun again in {wait:g} s")
        return wait


def report(error: BaseException) -> str:
    """Print where it came from to stderr; what it was, in one sentence."""
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    return cause_of(error)


def cause_of(error: BaseException) -> str:
    """What it was and where it was raised; of several, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    said = " ".join("".join(each if each.isprintable() else " " for each in str(error)).split())
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"
