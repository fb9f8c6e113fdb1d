"""A node that restarts or moves is found again at once, with the server or without."""

import time
from collections.abc import Iterator

import pytest

from shore.lab.meeting import Meeting, Way, links_up, meeting, restart
from shore.lab.net import until
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
BACK_WITHIN_S = 2.0
MOVED_WITHIN_S = 5.0
SILENT_WITHIN_S = 20.0


@pytest.fixture
def net() -> Iterator[Meeting]:
    with meeting() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct", "relay"])
def test_a_node_of_which_every_process_was_killed_answers_its_peer_within_two_seconds(
    net: Meeting, way: Way
) -> None:
    if way == "relay":
        net.block()
    net.settle(way)
    pinger = Pinger(net.a.host, net.inner)
    time.sleep(1)
    at = restart(net.b)
    time.sleep(6)
    gap = pinger.stop().gap(at)
    assert gap is not None
    assert gap <= BACK_WITHIN_S, net.b.log()


def test_without_the_server_nothing_is_lost_and_both_may_move_at_once(net: Meeting) -> None:
    net.settle("direct")
    pinger = Pinger(net.a.host, net.inner)
    time.sleep(1)
    net.kill_server()
    until(lambda: "server" not in links_up(net.a), SILENT_WITHIN_S)
    time.sleep(2)
    at = time.monotonic()
    net.move_both()
    time.sleep(6)
    pings = pinger.stop()
    before = [rtt for sent, rtt in pings.sent if sent < at - 0.2]
    assert None not in before
    gap = pings.gap(at)
    assert gap is not None
    assert gap <= MOVED_WITHIN_S, net.a.log()
    until(lambda: net.way() == "direct", 20)


@pytest.mark.slow
def test_a_server_that_falls_silent_is_noticed_and_nothing_is_lost(net: Meeting) -> None:
    net.settle("direct")
    pinger = Pinger(net.a.host, net.inner)
    try:
        net.silence_server()
        until(lambda: "server" not in links_up(net.a), SILENT_WITHIN_S + 1)
    finally:
        net.wake_server()
    until(lambda: "server" in links_up(net.a), 35)
    assert pinger.stop().lost() == 0
