"""Processes that outlive whoever started them, named so that a recycled id is never mistaken for them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from shore.io.notify import Unit

DIRECTORIES = ("SHORE_RUNTIME_DIR", "SHORE_STATE_DIR", "SHORE_UAPI_DIR")


class Process(msgspec.Struct, frozen=True):
    """A process id, and when it started in clock ticks since boot."""

    pid: int
    started: int


def environment(**more: str) -> dict[str, str]:
    """Ours, as processes need it that run elsewhere."""
    moved = {name: os.path.abspath(os.environ[name]) for name in DIRECTORIES if name in os.environ}
    path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, **moved, "PYTHONPATH": path, **more}


def keepers_environment(**more: str) -> dict[str, str]:
    """Without what systemd left for us: a keeper and what it keeps are no unit of anybody's."""
    ours = environment(**more)
    Unit(ours)
    return ours


def start_keeper(
    name: str, environment: dict[str, str], descriptors: Iterable[int], errors: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a tunnel's keeper, to survive us. What it prints goes to `errors`, else where ours goes."""
    return subprocess.Popen(
        [sys.executable, "-S", "-m", "shore.node.keeper", name],
        env=environment,
        pass_fds=tuple(descriptors),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        start_new_session=True,
    )


def identify(pid: int) -> Process | None:
    """None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else Process(pid, int(fields[19]))


def is_alive(process: Process) -> bool:
    """Whether that very process runs."""
    return identify(process.pid) == process


def kill(process: Process) -> None:
    """SIGKILL that very process, if it still runs."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_alive(process):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
