"""A server as it runs: a process of its own, on the sockets that its parent gives it; and databases."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordination.postgresql import Cluster, cluster

from shore.coordination.found import found


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """PostgreSQL as it runs."""
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    made: Cluster = request.getfixturevalue("postgresql")
    return made.database()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """STATE of a network whose server runs; RUNTIME is STATE/run."""
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    (tmp_path / "run" / "server").mkdir(parents=True)
    listeners = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for listener, name in zip(listeners, ("control", "api"), strict=True):
        listener.bind(str(tmp_path / "run" / "server" / f"{name}.sock"))
        listener.listen(64)
    control, api = (listener.fileno() for listener in listeners)
    ready, said = os.pipe()
    words = ("serve", "--state", tmp_path, "--control-fd", control, "--api-fd", api, "--ready-fd", said)
    process = subprocess.Popen(
        [sys.executable, "-m", "shore.coordination", *map(str, words)], pass_fds=(control, api, said)
    )
    os.close(said)
    assert os.read(ready, 1) == b"\n"
    os.close(ready)
    yield tmp_path
    process.terminate()
    assert process.wait(timeout=5) == 0
    for listener in listeners:
        listener.close()
