"""A server as it runs: a process of its own, on the sockets that its parent gives it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.coordination import forked


@contextmanager
def serving(state: Path) -> Iterator[None]:
    """The server of the network in STATE, with STATE/run/server/control.sock and api.sock."""
    (state / "run" / "server").mkdir(parents=True)
    listeners = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for listener, name in zip(listeners, ("control", "api"), strict=True):
        listener.bind(str(state / "run" / "server" / f"{name}.sock"))
        listener.listen(64)
    control, api = (listener.fileno() for listener in listeners)
    ready, said = os.pipe()
    process = forked.start(state, control, api, said)
    os.close(said)
    assert os.read(ready, 1) == b"\n"
    os.close(ready)
    yield
    process.terminate()
    process.join(5)
    assert process.exitcode == 0
    for listener in listeners:
        listener.close()
