"""The signs of life that systemd's watchdog gets: each in time, and none from a loop that is late."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.io.notify import Unit
from shore.io.runtime import Runtime
from shore.node.supervision import Supervision


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


def heard(listener: socket.socket) -> list[bytes]:
    signs = []
    with contextlib.suppress(BlockingIOError):
        while True:
            signs.append(listener.recv(100))
    return signs


async def test_a_late_loop_gives_no_sign_until_it_is_on_time_again(
    listener: socket.socket, tmp_path: Path
) -> None:
    unit = Unit({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"})
    signing = asyncio.get_running_loop().create_task(Supervision(Runtime("wg0"), unit).say_alive())
    await asyncio.sleep(0.8)
    assert set(heard(listener)) == {b"WATCHDOG=1"}
    time.sleep(1.8)  # noqa: ASYNC251 (a loop that is blocked)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard(listener) == []
    await asyncio.sleep(0.7)
    assert set(heard(listener)) == {b"WATCHDOG=1"}
    signing.cancel()


async def test_without_keeper_and_watchdog_nobody_is_told(tmp_path: Path) -> None:
    await asyncio.wait_for(Supervision(Runtime("wg0"), Unit({})).say_alive(), 1)
