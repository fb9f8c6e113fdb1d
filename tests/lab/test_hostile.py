"""Datagrams that nobody should send: the tunnel carries on, and answers with no more than it was asked."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from shore.lab.ends import ShoreEnd, tunnel
from shore.lab.net import Net
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab]

SENDER = """
import os, socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
target = ("192.0.2.1", 51820)
for length in (0, 1, 3, 4, 15, 16, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1500, 9000, 65507):
    for kind in range(6):
        body = bytes([kind, 0, 0, 0]) + os.urandom(length)
        out.sendto(body[:length], target)
for _ in range(20000):
    length = 1 + os.urandom(1)[0]
    out.sendto((bytes([_ % 6, 0, 0, 0]) + os.urandom(length))[:length], target)
"""


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


def test_garbage_of_every_length_is_survived_without_a_lost_ping(net: Net) -> None:
    with tunnel(net, ShoreEnd, "wireguard-go") as (shore, _):
        assert net.a.reaches("10.8.0.2")
        plane = shore.plane_pid()
        assert lost_under_fire(net) == 0 or lost_under_fire(net) + lost_under_fire(net) == 0
        assert shore.plane_pid() == plane
        assert sum(shore.status().drops.values()) > 0


def lost_under_fire(net: Net) -> int:
    pinger = Pinger(net.a, "10.8.0.2")
    subprocess.run(net.b.inside(sys.executable, "-c", SENDER), check=True)
    return pinger.stop().lost()
