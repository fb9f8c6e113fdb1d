"""The rows of a network: its server is gone, its nodes move, and all processes of one are killed."""

import time
from collections.abc import Callable

from bench.figure import NEVER, Figure, gap, median, most, percentile_of
from shore.lab.meeting import Meeting, Way, links_up, meeting, restart
from shore.lab.net import until
from shore.lab.pinger import Pinger

WAYS: tuple[Way, Way] = ("direct", "relay")
# Where p95 is asked for.
MOST_RUNS = 20
WATCHED_S = 8.0
NOTICED_WITHIN_S = 30.0
# What is measured is how the direct path fails, and a busy machine is late to take it back.
BACK_WITHIN_S = 180.0


def server_down(rounds: int, seconds: int) -> list[Figure]:
    """The server falls silent or is killed; a node reboots meanwhile; the direct path is swallowed."""
    lost, silent, rebooted, swallowed = 0, [], [], []
    for _ in range(rounds):
        with meeting() as net:
            net.settle("direct")
            silent.append(_noticed(net))
            until(lambda net=net: "server" in links_up(net.a), 2 * NOTICED_WITHIN_S)
            pinger = Pinger(net.a.host, net.inner)
            net.kill_server()
            time.sleep(max(seconds, WATCHED_S))
            lost += pinger.stop().lost()
            rebooted.append(_reboot(net))
            swallowed += [_swallow(net) for _ in range(max(MOST_RUNS // rounds, 1))]
    row = "server down"
    return [
        most(row, "pings lost of running nodes", lost, 0),
        most(row, "silent stream noticed, s", max(silent), 20, each=silent),
        most(row, "rebooted node answers after its `up`, s", median(rebooted), 5, each=rebooted),
        most(row, "direct path swallowed: gap p95, s", percentile_of(swallowed, 0.95), 1.0, each=swallowed),
    ]


def moves(rounds: int, _seconds: int) -> list[Figure]:
    """Both nodes get other addresses at once while the server is down."""
    gaps = []
    for _ in range(rounds):
        with meeting() as net:
            net.settle("direct")
            net.kill_server()
            until(lambda net=net: "server" not in links_up(net.a), NOTICED_WITHIN_S)
            gaps.append(_gap(net, net.move_both))
    return [most("both move, server down", "gap, s", median(gaps), 5.0, each=gaps)]


def restarts(rounds: int, _seconds: int) -> list[Figure]:
    """All processes of a node are killed and its keeper is started again."""
    figures = []
    for way in WAYS:
        gaps = []
        for _ in range(rounds):
            with meeting() as net:
                if way == "relay":
                    net.block()
                net.settle(way)
                gaps.append(_gap(net, lambda net=net: restart(net.b)))
        name = f"{way}: from the kill to the first answer, s"
        figures.append(most("all processes killed", name, median(gaps), 2.0, each=gaps))
    return figures


def _gap(net: Meeting, act: Callable[[], float | None]) -> float:
    pinger = Pinger(net.a.host, net.inner)
    time.sleep(1)
    at = time.monotonic()
    began = act()
    time.sleep(WATCHED_S)
    return gap(pinger.stop(), at if began is None else began)


def _noticed(net: Meeting) -> float:
    at = time.monotonic()
    net.silence_server()
    try:
        return round(until(lambda: "server" not in links_up(net.a), NOTICED_WITHIN_S) - at, 3)
    finally:
        net.wake_server()


def _reboot(net: Meeting) -> float:
    """What is in its runtime directory does not outlive a reboot; keys and the netmap do."""
    inner = net.inner
    net.b.shore("down")
    pinger = Pinger(net.a.host, inner)
    at = time.monotonic()
    net.b.shore("up")
    time.sleep(WATCHED_S)
    answered = pinger.stop().first_reply(at)
    return NEVER if answered is None else round(answered, 3)


def _swallow(net: Meeting) -> float:
    until(lambda: net.way() == "direct", BACK_WITHIN_S)
    seconds = _gap(net, net.block)
    net.unblock()
    return seconds
