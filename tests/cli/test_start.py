"""What the processes of a tunnel are given by whoever starts them."""

import os
from pathlib import Path

import pytest

from shore.cli import start
from shore.io.runtime import Running, Runtime
from shore.model.config import TunnelConfig


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the keeper of a tunnel that was left without a brain."""
    taken: dict[str, str] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORE_RUNTIME_DIR", "run")
    monkeypatch.setenv("SHORE_STATE_DIR", "state")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/somebody")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setattr(start, "start_keeper", lambda name, environment, *_: taken.update(environment))
    monkeypatch.setattr(start, "KEPT_WITHIN", 0.0)
    runtime = Runtime("wg0")
    runtime.make()
    runtime.write_running(Running(TunnelConfig("wg0", None)))
    start.give_brain(runtime)
    return taken


def test_directories_are_found_again_from_wherever_it_runs(given: dict[str, str], tmp_path: Path) -> None:
    assert given["SHORE_RUNTIME_DIR"] == str(tmp_path / "run")
    assert given["SHORE_STATE_DIR"] == str(tmp_path / "state")
    assert "SHORE_UAPI_DIR" not in given or os.path.isabs(given["SHORE_UAPI_DIR"])


def test_a_keeper_is_nobodys_unit(given: dict[str, str]) -> None:
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & given.keys()


def test_a_tunnel_that_was_never_up_is_given_no_brain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(start, "start_keeper", lambda *_: pytest.fail("nobody asked for it"))
    start.give_brain(Runtime("wg0"))
