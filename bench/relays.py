"""The row of relays: seconds until pings are answered again after a relay went, at 20 Hz; medians of runs.

Each run has a mesh of its own (`shore.lab.relays`): two nodes that no UDP joins.
"""

import time
from collections.abc import Callable

from bench.figure import Figure, gap, median, most
from shore.lab.net import RoutedNet, until
from shore.lab.relays import FIRST, SECOND, TwoRelays

ROW = "mesh relays"
WATCHED_S = 12.0
READY_WITHIN_S = 40.0


def mesh_relays(rounds: int, _seconds: int) -> list[Figure]:
    """A relay killed and a link swallowed with a second relay there, and an only relay killed."""
    killed = [_gap(lambda lab, relay: lab.kill(lab.owner(relay))) for _ in range(rounds)]
    swallowed = [_gap(TwoRelays.swallow) for _ in range(rounds)]
    only = [_since_back() for _ in range(rounds)]
    return [
        most(ROW, "relay killed, another there: gap, s", median(killed), 2, each=killed),
        most(ROW, "half-open, another there: gap, s", median(swallowed), 5, each=swallowed),
        most(ROW, "only relay restarted: gap after it is back, s", median(only), 5, each=only),
    ]


def _gap(fault: Callable[[TwoRelays, str | None], object]) -> float:
    with RoutedNet() as net:
        lab = _ready(net, second=True)
        try:
            used = lab.primary()
            at, pings = lab.pinged(lambda: fault(lab, used), WATCHED_S)
            return gap(pings, at)
        finally:
            lab.end()


def _since_back() -> float:
    """From the start of the relay that replaces the killed one."""
    with RoutedNet() as net:
        lab = _ready(net, second=False)
        back = [0.0]

        def kill() -> None:
            before = lab.hub.program("relay")
            lab.kill(lab.hub)
            until(lambda: lab.hub.program("relay") not in (None, before), WATCHED_S)
            back[0] = time.monotonic()

        try:
            _, pings = lab.pinged(kill, WATCHED_S)
            return gap(pings, back[0])
        finally:
            lab.end()


def _ready(net: RoutedNet, *, second: bool) -> TwoRelays:
    for host in net.hosts:
        host.resolve_by("192.0.2.53")
    lab = TwoRelays(net)
    if second:
        lab.add_second()
        until(lambda: lab.hold(FIRST, SECOND) and lab.lives_by_both(), READY_WITHIN_S)
    return lab
