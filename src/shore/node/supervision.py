"""Who watches the brain, and whom the brain watches in turn.

By hand that is a keeper: the brain writes a byte a second to it, watches its pidfd, and starts another one
when it is gone, which adopts this brain. Under systemd it is the unit, and the brain watches nobody. Either
hears nothing while the brain's loop is late: a brain that has no time to decide is to be replaced too.
"""

import asyncio
import contextlib
import os
import subprocess

from shore.io.notify import Unit
from shore.io.process import start_keeper
from shore.io.runtime import Runtime

ALIVE_EVERY = 1.0
MOST_LATE = 1.0
# One that was late is looked at again soon: a single pause must not count for more than it was.
AGAIN = 0.1
# A watchdog of a few seconds hears of us so often in its time.
SIGNS_IN_TIME = 3


class Supervision:
    """The brain's tie to its keeper, or to its unit."""

    def __init__(self, runtime: Runtime, unit: Unit) -> None:
        self._runtime = runtime
        self._unit = unit
        self._watch = _number("SHORE_WATCH_FD")
        self._keeper = _number("SHORE_KEEPER_PID")
        self._child: subprocess.Popen[bytes] | None = None

    async def say_alive(self) -> None:
        """A sign a second, until cancelled."""
        loop = asyncio.get_running_loop()
        every = min(ALIVE_EVERY, self._unit.watchdog_s / SIGNS_IN_TIME or ALIVE_EVERY)
        late = 0.0
        while self._watch is not None or self._unit.watchdog_s:
            wait = AGAIN
            if late < MOST_LATE:
                self._sign()
                wait = every
            due = loop.time() + wait
            await asyncio.sleep(wait)
            late = loop.time() - due

    async def keep_keeper(self) -> None:
        """Start a new keeper whenever there is none, until cancelled."""
        while self._keeper is not None:
            await _ended(self._keeper)
            if self._child is not None:
                self._child.wait()
            await asyncio.sleep(ALIVE_EVERY)
            self._start_keeper()

    def _sign(self) -> None:
        if self._unit.watchdog_s:
            self._unit.say("WATCHDOG=1")
        if self._watch is not None:
            with contextlib.suppress(OSError):
                os.write(self._watch, b".")

    def _start_keeper(self) -> None:
        reader, writer = os.pipe()
        if self._watch is not None:
            os.close(self._watch)
        self._watch = writer
        environment = {**os.environ, "SHORE_WATCH_FD": str(reader), "SHORE_BRAIN_PID": str(os.getpid())}
        self._child = start_keeper(self._runtime.name, environment, (reader,))
        self._keeper = self._child.pid
        os.close(reader)


async def _ended(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _number(variable: str) -> int | None:
    text = os.environ.pop(variable, None)
    return None if text is None else int(text)
