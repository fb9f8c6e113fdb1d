"""systemd as the first process of a small machine, in the network of a lab's host.

The machine has process, mount and control-group namespaces of its own. It sees the files of ours, read-only;
/run, /tmp and /var/lib are empty, /etc is a copy, and the only units are those that are written into it
(a disk of its own keeps /var/lib and /etc over a reboot, with what was installed and enabled):
nothing that systemd does at boot reaches us. Needs root and cgroup2.
"""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from shore.lab.ends import ShoreEnd, Side
from shore.lab.net import Host, LabFailed, run, until

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = "/etc/systemd/lab"
OWN_UNITS = "/etc/systemd/system"
SHORE = str(Path(sys.executable).with_name("shore"))
BOOTED_WITHIN = 10.0
UNITS_STARTED_WITHIN = 40.0

_numbers = itertools.count(1)

# What every unit's default dependencies name.
TARGETS = ("default", "sysinit", "basic", "shutdown", "multi-user", "network", "nss-lookup")


class Systemd:
    """One such machine, as a context manager."""

    def __init__(self, host: Host, disk: Path | None = None) -> None:
        """`disk` is a directory of ours that holds what outlives a reboot: /var/lib and /etc."""
        self.host = host
        self._disk = disk
        self._group = _own_group() / f"shore-lab-{os.getpid()}-{next(_numbers)}"
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed when the machine ends)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Boot. Raises LabFailed where this machine does not let us, with what was said."""
        if not SYSTEMD.exists():
            raise LabFailed(f"{SYSTEMD} is missing: apt install systemd")
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def inside(self, *words: str) -> list[str]:
        """The command line that runs a command in this machine."""
        return ["nsenter", "--target", str(self._first()), "--mount", "--pid", "--cgroup", "--net", *words]

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Any command in this machine."""
        return run(*self.inside(*words), check=check, stdin=stdin)

    def write(self, path: str, text: str) -> None:
        """Write a file for root's eyes."""
        place = shlex.quote(path)
        self.run("bash", "-c", f"mkdir -p $(dirname {place}) && umask 077 && cat > {place}", stdin=text)

    def ask(self, unit: str, field: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", field, unit).strip()

    def scopes(self) -> list[str]:
        """The scopes of data planes, running ones."""
        words = ("systemctl", "list-units", "--plain", "--no-legend", "--state=running", "shore-dataplane-*")
        return [line.split()[0] for line in self.run(*words).splitlines()]

    def _boot(self) -> None:
        self._group.mkdir()
        enter = f'echo $$ > {self._group}/cgroup.procs && exec "$@"'
        apart = ("--cgroup", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts")
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                enter,
                "bash",
                *self.host.inside("unshare", *apart, "bash", "-c", _boot_script(self._disk)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        try:
            until(self._is_booted, BOOTED_WITHIN if self._disk is None else UNITS_STARTED_WITHIN)
        except AssertionError:
            self._output.seek(0)
            raise LabFailed(f"systemd did not boot: {self._output.read().strip()[-500:]}") from None

    def _is_booted(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError
        return bool(self._first()) and "running" in self.run("systemctl", "is-system-running", check=False)

    def _first(self) -> int:
        """Process 1 of the machine as we see it, 0 before there is one."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        groups = sorted((path for path in self._group.rglob("*") if path.is_dir()), reverse=True)
        until(lambda: not (self._group / "cgroup.procs").exists() or _remove([*groups, self._group]), 10)
        self._output.close()


class UnitEnd(ShoreEnd):
    """Shore as a unit of a machine's systemd."""

    def __init__(self, machine: Systemd, side: Side, *, extra: str = "") -> None:
        super().__init__(machine.host, side, extra=extra)
        self.machine = machine
        self.unit = f"shore@{self.name}.service"
        machine.write(f"/etc/wireguard/{self.name}.conf", self.conf.read_text())
        machine.write(f"{UNITS}/shore@.service", self.shore("unit"))

    def up(self) -> None:
        self.machine.run("systemctl", "start", self.unit)

    def down(self) -> None:
        self.shore("down", self.name, check=False)
        shutil.rmtree(self.conf.parent, ignore_errors=True)

    def start(self, *words: str, under: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """The `shore` command in this machine, not waited for; `under` is a command that runs commands."""
        return subprocess.Popen(
            self.machine.inside(*under, SHORE, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal(self, name: str, pid: int) -> None:
        """Send a signal to a process of this machine, by its number there."""
        self.machine.run("kill", f"-{name}", str(pid))


def _boot_script(disk: Path | None) -> str:
    empty = ["/tmp", "/usr/lib/systemd/system-generators"]  # noqa: S108 (where to mount)
    etc, lib = f"{disk or '/run'}/etc", f"{disk or '/run'}/lib"
    target = "multi-user.target" if disk else "default.target"
    units = f"{UNITS}:{OWN_UNITS}" if disk else UNITS
    targets = " ".join(TARGETS)
    return f"""
        set -e
        mount --make-rprivate /
        mount -t tmpfs -o mode=755 tmpfs /run
        if [ ! -d {etc} ]; then
            cp -a /etc {etc}
            find {etc}/systemd/system -mindepth 1 -delete
        fi
        mkdir -p {lib}
        mount --bind {etc} /etc
        mount --bind {lib} /var/lib
        mkdir -p /run/lock {UNITS}
        for target in {targets}; do printf '[Unit]\\nDescription=lab\\n' > {UNITS}/$target.target; done
        mount -o remount,bind,ro /
        mount -o remount,bind,ro /dev 2>/dev/null || true
        for place in {" ".join(empty)}; do [ ! -d $place ] || mount -t tmpfs tmpfs $place; done
        mount -t proc proc /proc
        for place in /proc/sys /proc/sys/net; do mount --bind $place $place; done
        mount -o remount,bind,ro /proc/sys
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec env -i container=lab PATH={shlex.quote(os.environ["PATH"])} SYSTEMD_UNIT_PATH={units} \\
            SYSTEMD_LOG_TARGET=console {SYSTEMD} --system --unit={target}
    """


def _own_group() -> Path:
    """Our own control group in cgroup2. Raises LabFailed."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [words[1] for words in mounts if words[2] == "cgroup2"]
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not roots or not own:
        raise LabFailed("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    return Path(roots[0]) / own[0].lstrip("/")


def _remove(groups: list[Path]) -> bool:
    """Remove control groups whose processes are on their way out; whether all are gone."""
    for group in groups:
        try:
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
