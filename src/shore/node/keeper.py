"""`python -m shore.node.keeper NAME`: restarts the brain of one tunnel, and nothing else.

The brain writes a byte a second into a pipe. When it exits, or is silent for ten seconds, and the
mirrored configuration says that the tunnel shall run, it is killed and a new one is started: at once, and
ever later if they die young. The brain in turn restarts the keeper, which then adopts it by its pidfd.

A brain that was not heard yet has a minute. It has its modules to read before it can say anything, and where
a hundred tunnels start at once that takes longer than ten seconds; to kill it then is only to begin anew.

This process lives as long as the tunnel, so it imports next to nothing.
"""

import fcntl
import os
import select
import signal
import sys
import time

SILENT_FOR = 10.0
HEARD_WITHIN = 60.0
YOUNG = 5.0
BACKOFF = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)


def main() -> int:
    """Watch brains until the tunnel shall not run any more."""
    name = sys.argv[1]
    directory = os.path.join(os.environ.get("SHORE_RUNTIME_DIR", "/run/shore"), name)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(directory, "keeper.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    pidfd, watch = _adopted() or _start(name, _inherited())
    young = 0
    while True:
        born = time.monotonic()
        _watch(pidfd, watch)
        if not _shall_run(directory, lock):
            return 0
        young = young + 1 if time.monotonic() - born < YOUNG else 0
        time.sleep(BACKOFF[min(young, len(BACKOFF) - 1)])
        pidfd, watch = _start(name, [])


def _shall_run(directory: str, lock: int) -> bool:
    """Not after a clean `down`, even if another `up` has come since: that one has its own keeper."""
    try:
        ours = os.stat(os.path.join(directory, "keeper.lock")).st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False
    return ours and os.path.exists(os.path.join(directory, "running.json"))


def _watch(pidfd: int, watch: int) -> None:
    """Return when the brain has ended; one that is silent is ended."""
    reader: int | None = watch
    patience = HEARD_WITHIN
    while True:
        waiting = [pidfd] if reader is None else [pidfd, reader]
        ready, _, _ = select.select(waiting, [], [], patience)
        if not ready:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if reader in ready and reader is not None:
            patience = SILENT_FOR
            reader = reader if os.read(reader, 4096) else None
        if pidfd in ready:
            break
    os.close(pidfd)
    os.close(watch)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _start(name: str, inherited: list[int]) -> tuple[int, int]:
    reader, writer = os.pipe()
    environment = {**os.environ, "SHORE_WATCH_FD": str(writer), "SHORE_KEEPER_PID": str(os.getpid())}
    os.set_inheritable(writer, True)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-S", "-m", "shore.node", name],
        environment,
        setpgroup=0,
    )
    for descriptor in (writer, *inherited):
        os.close(descriptor)
    for variable in ("SHORE_START_FD", "SHORE_ANSWER_FD"):
        os.environ.pop(variable, None)
    return os.pidfd_open(pid), reader


def _inherited() -> list[int]:
    """What `up` gives to the first brain; we pass it on and keep nothing."""
    names = ("SHORE_START_FD", "SHORE_ANSWER_FD")
    return [int(os.environ[name]) for name in names if name in os.environ]


def _adopted() -> tuple[int, int] | None:
    """The brain that started us, if one did."""
    brain = os.environ.pop("SHORE_BRAIN_PID", None)
    watch = os.environ.pop("SHORE_WATCH_FD", None)
    if brain is None or watch is None:
        return None
    return os.pidfd_open(int(brain)), int(watch)


if __name__ == "__main__":
    sys.exit(main())
