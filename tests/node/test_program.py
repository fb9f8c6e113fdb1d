"""The keeper of a program: what it starts serves, whoever of the three processes is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.io.process import identify
from shore.lab.net import until

ROOT = Path(__file__).parents[2]


class Keeping:
    """A keeper, its program, and the door that they hold."""

    def __init__(self, directory: Path, *words: str, notify: Path | None = None) -> None:
        self.directory = directory
        self.door = socket.create_server(("127.0.0.1", 0))
        (directory / "wanted").touch()
        reader, writer = os.pipe()
        keeper = [sys.executable, "-S", "-m", "shore.node.program", str(directory)]
        user = f"{os.getuid()}:{os.getgid()}"
        number = str(self.door.fileno())
        around = {**os.environ, "SHORE_ANSWER_FD": str(writer)}
        if notify is not None:
            around["NOTIFY_SOCKET"] = str(notify)
        around["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self.process = subprocess.Popen(
            [*keeper, user, "tests.node.greeter,encodings.idna", *words, "--door-fd", number],
            pass_fds=(self.door.fileno(), writer),
            env=around,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            self.answer = answers.readline()

    def greeting(self) -> int:
        """Who answers: the program's process id. It may take as long as a start of Python."""
        with socket.create_connection(self.door.getsockname(), timeout=20) as link:
            return int(link.recv(100).split()[0])

    def keepers(self) -> list[int]:
        """The elder and the younger, the elder first."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (place / "cmdline").read_bytes().split(b"\0")
                if b"shore.node.program" in words and str(self.directory).encode() in words:
                    found.append(int(place.name))
        return sorted(found)

    def end(self) -> None:
        """All of it."""
        (self.directory / "wanted").unlink(missing_ok=True)
        keepers = self.keepers()
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)
        # Without keepers it has gone as well, and nobody would answer.
        if keepers:
            with contextlib.suppress(OSError):
                os.kill(self.greeting(), signal.SIGKILL)
        self.process.wait()
        self.door.close()


def kill(pid: int) -> None:
    """SIGKILL, and wait: a dying process may still take a connection."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: identify(pid) is None, within_s=5)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    kept = Keeping(tmp_path)
    try:
        yield kept
    finally:
        kept.end()


def test_a_program_that_is_killed_is_replaced_and_who_connects_meanwhile_is_served(keeping: Keeping) -> None:
    assert keeping.answer == b"serves\n"
    for _ in range(3):
        first = keeping.greeting()
        kill(first)
        assert keeping.greeting() != first


@pytest.mark.parametrize("victim", [0, 1], ids=["elder", "younger"])
def test_a_keeper_that_is_killed_is_replaced_and_the_program_does_not_notice(
    keeping: Keeping, victim: int
) -> None:
    program, before = keeping.greeting(), keeping.keepers()
    os.kill(before[victim], signal.SIGKILL)
    until(lambda: len(set(keeping.keepers()) - {before[victim]}) == 2, within_s=5)
    assert keeping.greeting() == program
    # Whoever acts now restarts it all the same.
    kill(program)
    assert keeping.greeting() != program


def test_a_program_that_is_not_wanted_ends_with_its_keepers(keeping: Keeping) -> None:
    program = keeping.greeting()
    (keeping.directory / "wanted").unlink()
    os.kill(program, signal.SIGTERM)
    assert keeping.process.wait(timeout=5) == 0
    until(lambda: keeping.keepers() == [], within_s=5)


def test_a_program_that_never_served_is_given_up_and_who_waits_hears_of_it(tmp_path: Path) -> None:
    kept = Keeping(tmp_path, "--fail")
    kept.door.close()
    assert kept.answer == b""
    assert kept.process.wait(timeout=5) == 1
    assert not (tmp_path / "wanted").exists()
    time.sleep(0.2)
    assert kept.keepers() == []


def test_the_unit_is_active_once_the_program_serves_and_hears_what_becomes_of_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unit:
        unit.bind(str(tmp_path / "notify"))
        unit.settimeout(20)
        kept = Keeping(tmp_path, notify=tmp_path / "notify")
        try:
            assert unit.recv(100) == b"READY=1\nSTATUS=it serves"
            kill(kept.greeting())
            assert unit.recv(100) == b"STATUS=it ended and is begun again"
            assert unit.recv(100) == b"READY=1\nSTATUS=it serves"
        finally:
            kept.end()


def test_the_unit_of_a_program_that_never_serves_is_never_active(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unit:
        unit.bind(str(tmp_path / "notify"))
        unit.setblocking(False)
        kept = Keeping(tmp_path, "--fail", notify=tmp_path / "notify")
        kept.door.close()
        assert kept.process.wait(timeout=20) == 1
        with pytest.raises(BlockingIOError):
            unit.recv(100)
