"""The files of a running tunnel."""

import os
from pathlib import Path

import pytest

from shore.io import runtime as place
from shore.io.process import Process, identify
from shore.io.runtime import Running, Runtime
from shore.model.config import TunnelConfig


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    made = Runtime("wg0")
    made.make()
    return made


def test_directories_and_secrets_are_for_their_owner(runtime: Runtime) -> None:
    runtime.write_running(Running(TunnelConfig("wg0", b"\1" * 32)))
    assert runtime.directory.parent.stat().st_mode & 0o777 == 0o711
    assert runtime.directory.stat().st_mode & 0o777 == 0o700
    assert (runtime.directory / "running.json").stat().st_mode & 0o777 == 0o600


def test_the_status_sockets_of_a_careful_root_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "careful"))
    old = os.umask(0o077)
    try:
        Runtime("wg0").make()
    finally:
        os.umask(old)
    assert place.root().stat().st_mode & 0o777 == 0o711


def test_what_is_written_is_read_again(runtime: Runtime) -> None:
    assert runtime.read_running() is None
    running = Running(TunnelConfig("wg0", b"\1" * 32), 4000, 12.5, Process(7, 9))
    runtime.write_running(running)
    assert runtime.read_running() == running


def test_a_lock_lives_as_long_as_its_descriptor(runtime: Runtime) -> None:
    held = runtime.hold("brain")
    assert held is not None
    assert runtime.is_held("brain")
    assert runtime.hold("brain") is None
    os.close(held)
    assert not runtime.is_held("brain")


def test_removed_means_gone(runtime: Runtime) -> None:
    runtime.write_running(Running(TunnelConfig("wg0", None)))
    assert place.tunnels() == ["wg0"]
    runtime.remove()
    assert place.tunnels() == []
    runtime.remove()


def test_a_process_is_named_by_more_than_its_number() -> None:
    mine = identify(os.getpid())
    assert mine is not None
    assert mine.pid == os.getpid()
    assert identify(2**22 + 1) is None
