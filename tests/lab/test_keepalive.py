"""Behind a NAT of unknown memory, with no keepalive configured: always reachable, at little cost."""

import os
import signal
import time

import pytest

from shore.lab.home import Home, home
from shore.lab.net import until

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(400)]
MOST_BYTES_PER_S = 60


def idle(home: Home, seconds: float) -> float:
    """Leave it alone; how many bytes a second `a` sent meanwhile."""
    before, began = home.sent(), time.monotonic()
    time.sleep(seconds)
    return (home.sent() - before) / (time.monotonic() - began)


def first_ping_from_outside(home: Home) -> tuple[float, float]:
    """The round trips in ms of the first ping and of the usual one; all must be answered."""
    pinger = home.pinger(from_outside=True)
    time.sleep(2)
    pings = pinger.stop()
    assert pings.lost() == 0, home.node.log()
    return (pings.sent[0][1] or 1e9) * 1e3, pings.usual_rtt() * 1e3


def test_a_nat_of_20_seconds_is_learnt_and_outlived() -> None:
    with home(20) as pair:
        assert pair.keepalive()[0] == 15
        assert idle(pair, 75) <= MOST_BYTES_PER_S
        first, usual = first_ping_from_outside(pair)
        assert first <= usual + 20
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 20)
        assert pair.keepalive()[0] == 15


def test_a_nat_of_10_seconds_is_found_out() -> None:
    with home(10) as pair:
        until(lambda: pair.keepalive()[0] <= 8, 150)
        time.sleep(15)
        assert idle(pair, 40) <= MOST_BYTES_PER_S
        first, usual = first_ping_from_outside(pair)
        assert first <= usual + 20


@pytest.mark.timeout(1200)
def test_ten_idle_minutes_behind_a_nat_of_20_seconds() -> None:
    with home(20) as pair:
        until(pair.has_learnt, 300)
        assert pair.keepalive()[0] < 20
        assert idle(pair, 600) <= MOST_BYTES_PER_S
        first, usual = first_ping_from_outside(pair)
        assert first <= usual + 20


def test_what_was_learnt_survives_the_brain_and_the_tunnel() -> None:
    with home(45) as pair:
        until(lambda: pair.keepalive()[0] >= 21, 150)
        pair.node.shore("down", pair.a.name)
        pair.a.up()
        began = time.monotonic()
        until(lambda: pair.keepalive()[0] >= 21, 60)
        # One trial of what is remembered, in place of the climb from 19 s.
        assert time.monotonic() - began < 45


def test_trials_go_on_after_the_brain_or_the_data_plane_was_killed() -> None:
    with home(60) as pair:
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 90)
        os.kill(pair.node.brain_pid(), signal.SIGKILL)
        until(lambda: "a first guess" in pair.keepalive()[1], 30)
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 90)
        pair.a.kill()
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 27 s"), 200)
        assert "refused" not in pair.node.log()
