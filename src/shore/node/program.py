"""`python -m shore.node.program DIRECTORY WORD...`: keeps one program running, a network's server or relay.

The program's sockets were opened by who started this, as root; they are held here as well, so a client
that comes while the program is being replaced waits and is not refused. It shall run for as long as
DIRECTORY/wanted is there, and DIRECTORY/program says which process it is.

There are two of us, one forked from the other. The elder acts; the younger does nothing but wait for the
elder's end, and then acts in its place and forks one more. A SIGKILL of either, or of the program, costs
nothing; what both know is in memory that both share.

These processes live as long as the network, so they import next to nothing. SHORE_ANSWER_FD gets one line
once the program serves, and is closed without one if the first never does. Under systemd this is the main
process of the program's unit, which is active once the program serves; its status says what became of it.
"""

import contextlib
import fcntl
import json
import mmap
import os
import select
import struct
import sys
import time
from collections.abc import Callable

Say = Callable[..., None]
YOUNG = 5.0
BACKOFF = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)
# The program's process id and its start in clock ticks since boot; whether it ever served.
SHARED = struct.Struct("QQ?")


def main() -> int:
    """Keep the program until it is not wanted any more; 1 if it never served."""
    directory, words = sys.argv[1], sys.argv[2:]
    lock = os.open(os.path.join(directory, "program.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 1
    answer = os.environ.pop("SHORE_ANSWER_FD", None)
    kept = Kept(directory, words, None if answer is None else int(answer), _unit())
    kept.start()
    while True:
        spare = _fork()
        if spare is not None and (code := kept.watch(spare)) is not None:
            return code
        if spare is None and not kept.adopt():
            return 0


class Kept:
    """One program, as whoever of the two acts knows it."""

    def __init__(self, directory: str, words: list[str], answer: int | None, say: Say) -> None:
        self._directory = directory
        self._words = words
        self._answer = answer
        self._say = say
        if answer is not None:
            os.set_inheritable(answer, False)
        self._shared = mmap.mmap(-1, SHARED.size)
        self._pidfd: int | None = None
        self._ready: int | None = None
        self._born = time.monotonic()
        self._young = 0

    def watch(self, spare: int) -> int | None:
        """Act as the elder: an exit code once the program is not wanted, None if the younger died."""
        while True:
            waiting = [fd for fd in (self._pidfd, self._ready, spare) if fd is not None]
            ready, _, _ = select.select(waiting, [], [])
            if self._ready in ready:
                self._hear()
            elif self._pidfd in ready:
                _reap()
                if not self._has_served():
                    os.unlink(os.path.join(self._directory, "wanted"))
                    return 1
                if not self._again():
                    return 0
            elif spare in ready:
                _reap()
                os.close(spare)
                return None

    def start(self) -> None:
        """Start the program, with a pipe by which it says that it serves."""
        self._born = time.monotonic()
        self._ready, writer = os.pipe()
        os.set_inheritable(writer, True)
        words = [sys.executable, "-m", "shore.node.unprivileged", *self._words, "--ready-fd", str(writer)]
        pid = os.posix_spawn(sys.executable, words, os.environ)
        os.close(writer)
        self._pidfd = os.pidfd_open(pid)
        started = _started(pid)
        SHARED.pack_into(self._shared, 0, pid, started, self._has_served())
        new = os.path.join(self._directory, "program.new")
        with open(new, "w", encoding="utf-8") as file:
            json.dump({"pid": pid, "started": started}, file)
        os.replace(new, os.path.join(self._directory, "program"))

    def adopt(self) -> bool:
        """Go on with the program of the elder that died; False if it is not wanted any more."""
        for descriptor in (self._pidfd, self._ready, self._answer):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._ready = self._answer = None
        pid, started, _ = SHARED.unpack_from(self._shared)
        # Nobody asks any more whether the first one serves.
        SHARED.pack_into(self._shared, 0, pid, started, True)
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
        if self._pidfd is not None and _started(pid) == started:
            return self._wanted()
        return self._again()

    def _again(self) -> bool:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self._young = self._young + 1 if time.monotonic() - self._born < YOUNG else 0
        time.sleep(BACKOFF[min(self._young, len(BACKOFF) - 1)])
        if self._wanted():
            again = f" {self._young} times in a row" if self._young > 1 else ""
            self._say(f"STATUS=it ended{again} and is begun again")
            self.start()
            return True
        return False

    def _hear(self) -> None:
        """The program serves; or it died before it did, which its pidfd tells."""
        assert self._ready is not None
        serves = bool(os.read(self._ready, 1))
        os.close(self._ready)
        self._ready = None
        if not serves:
            return
        pid, started, _ = SHARED.unpack_from(self._shared)
        SHARED.pack_into(self._shared, 0, pid, started, True)
        self._say("READY=1", "STATUS=it serves")
        if self._answer is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._answer, b"serves\n")
            os.close(self._answer)
            self._answer = None

    def _wanted(self) -> bool:
        return os.path.exists(os.path.join(self._directory, "wanted"))

    def _has_served(self) -> bool:
        return bool(SHARED.unpack_from(self._shared)[2])


def _unit() -> Say:
    """How to tell the unit, where there is one; our program is no unit of anybody's."""
    if "NOTIFY_SOCKET" not in os.environ:
        return lambda *_: None
    from shore.io.notify import Unit  # noqa: PLC0415 (only here it is worth its memory)

    return Unit(os.environ).say


def _fork() -> int | None:
    """A pidfd of the younger, to the elder; None to the younger, once the elder has ended."""
    elder = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(elder)
        return os.pidfd_open(pid)
    select.select([elder], [], [])
    os.close(elder)
    return None


def _started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main())
