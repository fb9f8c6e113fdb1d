"""Debian's PostgreSQL, for the tests alone: a cluster in a directory of its own, on a unix socket, as a user
without rights, gone with the tests."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

USER = "nobody" if os.geteuid() == 0 else None
QUICK = ("fsync=off", "shared_buffers=16MB", "max_connections=200", "listen_addresses=")


class Cluster:
    """One that runs. `database` makes an empty one, and gives its URL."""

    def __init__(self, place: Path, tools: Path) -> None:
        self.place = place
        self._tools = tools
        self._numbers = count(1)

    def database(self) -> str:
        """The URL of a new one."""
        name = f"shore_{next(self._numbers)}"
        self.run("createdb", "-h", str(self.place), "-U", "shore", name)
        return f"postgresql://shore@/{name}?host={self.place}"

    def start(self) -> None:
        """Serve."""
        settings = " ".join(f"-c {each}" for each in (*QUICK, f"unix_socket_directories={self.place}"))
        self.run(
            "pg_ctl", "-D", f"{self.place}/data", "-w", "-l", f"{self.place}/log", "-o", settings, "start"
        )

    def stop(self) -> None:
        """Be away, at once."""
        self.run("pg_ctl", "-D", f"{self.place}/data", "-w", "-m", "immediate", "stop")

    def run(self, tool: str, *words: str) -> None:
        """One of PostgreSQL's own commands."""
        command = [str(self._tools / tool), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=100, user=USER, cwd=self.place
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one, or skip."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        reason = "PostgreSQL is missing: apt install postgresql"
        if os.environ.get("SHORE_LAB") == "required":
            pytest.fail(reason)
        pytest.skip(f"POSTGRESQL SKIPPED: {reason}")
    place = Path(tempfile.mkdtemp(prefix="shore-pg-"))
    if USER is not None:
        shutil.chown(place, USER)
    made = Cluster(place, found[-1].parent)
    try:
        made.run("initdb", "-D", str(place / "data"), "-U", "shore", "-A", "trust", "-E", "UTF8", "--no-sync")
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(place)
