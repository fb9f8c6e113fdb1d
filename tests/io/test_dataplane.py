"""The brain's end of the control socket, where a plane does not read, or is gone."""

import socket
from collections.abc import Iterator

import msgspec
import pytest

from shore.io.dataplane import DataPlane
from shore.model.desired import Measurement


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield near, far


def question(token: int) -> tuple[Measurement, ...]:
    return (Measurement(bytes(32), 1, "192.0.2.1:51820", 1400, token),)


def plane(near: socket.socket) -> DataPlane:
    return DataPlane(near, on_fact=lambda _serial, _fact: None, on_lost=lambda _reason: None)


async def test_a_plane_that_does_not_read_is_asked_about_every_size_once_it_does(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    asking = plane(near)
    for token in range(1000):
        asking.measure(question(token))
    far.setblocking(False)
    heard = b""
    for _ in range(10_000):
        try:
            heard += far.recv(1 << 16)
        except BlockingIOError:
            if heard.count(b"token") == 1000:
                break
            asking._resume()
    asking.close()
    tokens = [one["token"] for body in bodies(heard) for one in body["questions"]]
    assert tokens == list(range(1000))


async def test_a_plane_that_is_gone_is_asked_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    asking = plane(near)
    far.close()
    asking.measure(question(1))
    asking.close()


def bodies(heard: bytes) -> list[dict]:
    found = []
    while heard:
        size = int.from_bytes(heard[:4], "big")
        found.append(msgspec.msgpack.decode(heard[4 : 4 + size]))
        heard = heard[4 + size :]
    return found
