"""Who watches the brain, and whom the brain watches in turn.

The brain writes a byte a second to its keeper. It watches the keeper's pidfd, and starts another one when
the first is gone; that one adopts this brain. A brain without a keeper (under systemd, in a test) watches
nobody.
"""

import asyncio
import contextlib
import os
import subprocess

from shore.io.process import start_keeper
from shore.io.runtime import Runtime

ALIVE_EVERY = 1.0


class Supervision:
    """The brain's tie to its keeper."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._watch = _number("SHORE_WATCH_FD")
        self._keeper = _number("SHORE_KEEPER_PID")
        self._child: subprocess.Popen[bytes] | None = None

    async def say_alive(self) -> None:
        """A byte a second, until cancelled."""
        while self._watch is not None:
            with contextlib.suppress(OSError):
                os.write(self._watch, b".")
            await asyncio.sleep(ALIVE_EVERY)

    async def keep_keeper(self) -> None:
        """Start a new keeper whenever there is none, until cancelled."""
        while self._keeper is not None:
            await _ended(self._keeper)
            if self._child is not None:
                self._child.wait()
            await asyncio.sleep(ALIVE_EVERY)
            self._start_keeper()

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
