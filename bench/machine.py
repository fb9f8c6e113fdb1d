"""The machine while it is measured: one measurement at a time, CPU seconds, memory, limits."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = Path("/var/lock/shore-bench")
QUIET = 0.35
CGROUP = Path("/sys/fs/cgroup/cpu")
TICK = os.sysconf("SC_CLK_TCK")


class Loaded(Exception):
    """Somebody else uses the machine."""


@contextlib.contextmanager
def alone(*, beside_others: bool = False) -> Iterator[float]:
    """Hold the machine-wide lock, and give the share of the machine that others use. Raises Loaded if much.

    `beside_others` measures all the same: it can only make a gap longer than it is.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = busy_share(2.0)
        if busy > QUIET and not beside_others:
            raise Loaded(f"the machine is {busy:.0%} busy: measure when it is idle")
        yield busy


def busy_share(seconds: float) -> float:
    """The share of all CPU time that is used, over so long."""
    before = _cpu_times()
    time.sleep(seconds)
    after = _cpu_times()
    passed = [late - early for early, late in zip(before, after, strict=True)]
    return 1 - (passed[3] + passed[4]) / max(sum(passed), 1)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def pss_mb(pid: int) -> float:
    """Proportional set size in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("smaps_rollup has Pss")


@contextlib.contextmanager
def limited(pids: list[int], share: float) -> Iterator[None]:
    """Let the processes together have no more than a share of one CPU, in periods of 100 ms (cgroup v1)."""
    group = CGROUP / f"shore-bench-{os.getpid()}-{pids[0]}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(int(share * 100000)))
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(OSError):
                (CGROUP / "cgroup.procs").write_text(str(pid))
        group.rmdir()


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """So many processes that compute for nothing."""
    running = [subprocess.Popen(["python3", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _cpu_times() -> list[int]:
    return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
