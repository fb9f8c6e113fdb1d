"""A clock that went back over a reboot, and what a real peer makes of it.

The machine's wall clock is moved for its processes alone, by a library that they preload: the clock of the
kernel is everybody's.
"""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shore.lab.ends import PORT, StockEnd, sides
from shore.lab.net import LabFailed, Net, until
from shore.lab.systemd import Systemd, UnitEnd

pytestmark = [pytest.mark.lab]

SOURCE = Path(__file__).with_name("wallclock.c")
DAY = 86400


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if shutil.which("cc") is None:
        pytest.skip("LAB SKIPPED: no C compiler: apt install gcc")
    built = tmp_path_factory.mktemp("clock") / "wallclock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", built, SOURCE], check=True)
    return built.read_bytes()


@pytest.fixture
def machine(library: bytes) -> Iterator[tuple[Net, Systemd]]:
    with Net() as net, ExitStack() as stack:
        try:
            booted = stack.enter_context(Systemd(net.a))
        except (LabFailed, OSError) as error:
            pytest.skip(f"LAB SKIPPED: no machine of our own can run here: {error}")
        encoded = base64.b64encode(library).decode()
        booted.run("bash", "-c", "base64 -d > /run/wallclock.so", stdin=encoded)
        booted.write("/etc/ld.so.preload", "/run/wallclock.so\n")
        # The data plane reads both under a user of its own.
        booted.run("chmod", "644", "/etc/ld.so.preload")
        yield net, booted


def set_clock(machine: Systemd, ahead_s: int) -> None:
    machine.run("bash", "-c", f"echo {ahead_s} > /run/clock-ahead && chmod 644 /run/clock-ahead")


def test_a_clock_that_went_back_is_named_and_healed_once_it_is_set_right(
    machine: tuple[Net, Systemd],
) -> None:
    net, inside = machine
    ours, theirs = sides(f"192.0.2.2:{PORT}")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    end = UnitEnd(inside, ours)
    try:
        peer.up()
        set_clock(inside, DAY)
        end.up()
        assert net.a.reaches("10.8.0.2", pings=3)
        assert end.status().clock_behind_s is None
        end.shore("down", "wg0")

        set_clock(inside, 0)
        end.up()
        assert end.status().clock_behind_s == pytest.approx(DAY, abs=60)
        assert "the clock is 23 hours, 59 minutes" in end.shore("status")
        assert "clock behind" in end.log()
        assert not net.a.reaches("10.8.0.2", pings=5, within_s=3), (
            "wireguard-go takes our handshakes for replays"
        )
        assert end.status().peers[0].session_age_s is None
        # It greets us by itself, once its own session is 15 s without an answer.
        until(lambda: net.b.reaches("10.8.0.1", within_s=1), 40)
        assert net.a.reaches("10.8.0.2", pings=3), "its session serves both"

        set_clock(inside, DAY + 60)
        until(lambda: "clock right again" in end.log(), 10)
        assert net.a.reaches("10.8.0.2", pings=5)
        assert end.status().clock_behind_s is None
    finally:
        end.down()
        peer.down()
