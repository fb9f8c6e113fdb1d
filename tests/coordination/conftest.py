"""A server as it runs: a process of its own, on the sockets that its parent gives it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordination import forked

from shore.coordination.found import found


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
    process = forked.start(tmp_path, control, api, said)
    os.close(said)
    assert os.read(ready, 1) == b"\n"
    os.close(ready)
    yield tmp_path
    process.terminate()
    process.join(5)
    assert process.exitcode == 0
    for listener in listeners:
        listener.close()
