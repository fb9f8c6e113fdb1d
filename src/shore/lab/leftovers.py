"""What laboratories left behind whose process is gone: after a `kill -9` the next one removes it.

The name of a namespace says which process made it: shore-PID-NUMBER-NAME; so does that of the directory of a
Shore end, shore-lab-PID-RANDOM, and of a node of a mesh, shore-PID-RANDOM. Wires end by themselves when their
maker does; the ends of tunnels do not, and are found by their namespace.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from shore.io.process import identify
from shore.lab.net import run

NAMESPACES = Path("/run/netns")
UAPI = Path("/var/run/wireguard")
# Where `member` keeps them: paths of unix sockets are short.
MEMBERS = Path("/tmp")  # noqa: S108
PREFIX = "shore"


def sweep() -> list[str]:
    """Remove namespaces without an owner, with the processes in them; their names."""
    gone = [name for name in _namespaces() if _is_orphan(name)]
    for name in gone:
        _end_processes(name)
        run("ip", "netns", "delete", name, check=False)
        shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        _, process, number, host = name.split("-")
        device = f"wg{process}{number}{host}"[:15]
        (UAPI / f"{device}.sock").unlink(missing_ok=True)
    places = [*Path(tempfile.gettempdir()).glob("shore-lab-*-*"), *MEMBERS.glob("shore-*-*")]
    for directory in places:
        if _is_ours_and_left(directory):
            shutil.rmtree(directory, ignore_errors=True)
    return gone


def _is_ours_and_left(directory: Path) -> bool:
    maker = directory.name.removeprefix("shore-").removeprefix("lab-").partition("-")[0]
    if not maker.isdecimal() or identify(int(maker)) is not None:
        return False
    # Another laboratory may remove it at the same time.
    with contextlib.suppress(FileNotFoundError):
        return directory.stat().st_uid == os.geteuid()
    return False


def _namespaces() -> list[str]:
    try:
        return sorted(entry.name for entry in NAMESPACES.iterdir())
    except FileNotFoundError:
        return []


def _is_orphan(name: str) -> bool:
    parts = name.split("-")
    if len(parts) != 4 or parts[0] != PREFIX or not parts[1].isdecimal():
        return False
    return identify(int(parts[1])) is None


def _end_processes(name: str) -> None:
    """Ended twice over: a keeper may start one more before it is met."""
    for _ in range(3):
        pids = run("ip", "netns", "pids", name, check=False).split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)
