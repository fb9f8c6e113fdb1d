"""Which laboratories of this user run now, so that a shell can be opened in one of their hosts."""

import os
from pathlib import Path

import msgspec

from shore.io.process import Process, identify
from shore.lab.net import LabFailed


class RunningLab(msgspec.Struct, frozen=True):
    """A laboratory, its process, and the namespaces of its hosts."""

    name: str
    process: Process
    hosts: dict[str, str]


def root() -> Path:
    """Where records of laboratories are kept: SHORE_LAB_DIR, else in the user's cache."""
    return Path(os.environ.get("SHORE_LAB_DIR", Path.home() / ".cache/shore/lab"))


def announce(name: str, hosts: dict[str, str]) -> Path:
    """Write that this process runs a laboratory; the file to remove afterwards."""
    process = identify(os.getpid())
    assert process is not None
    file = root() / "running" / f"{process.pid}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(RunningLab(name, process, hosts)))
    return file


def all_running() -> list[RunningLab]:
    """Those whose process lives; the files of the others are removed."""
    found = []
    directory = root() / "running"
    for file in sorted(directory.glob("*.json")):
        try:
            lab = msgspec.json.decode(file.read_bytes(), type=RunningLab)
        except (OSError, msgspec.DecodeError):
            continue
        if identify(lab.process.pid) == lab.process:
            found.append(lab)
        else:
            file.unlink(missing_ok=True)
    return found


def shell_in(host: str) -> list[str]:
    """The command line of a shell in a host of a running laboratory. Raises LabFailed."""
    labs = all_running()
    if not labs:
        raise LabFailed("no laboratory runs: `shore lab run FILE --stay` keeps one open")
    homes = [lab for lab in labs if host in lab.hosts]
    if not homes:
        there_are = ", ".join(sorted({name for lab in labs for name in lab.hosts}))
        raise LabFailed(f"no running laboratory has the host `{host}`; there are {there_are}")
    if len(homes) > 1:
        raise LabFailed(f"{len(homes)} running laboratories have a host `{host}`: end all but one")
    pid = homes[0].process.pid
    words = ["nsenter", "-t", str(pid), "-m"]
    if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
        words += ["--user", "--preserve-credentials"]
    namespace = homes[0].hosts[host]
    return [*words, "ip", "netns", "exec", namespace, os.environ.get("SHELL", "/bin/sh")]
