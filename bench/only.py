"""The rows of a single path: it fails and comes back, becomes slow, or the NAT on it moves its end.

There is nowhere else to go, so wireguard-go takes part in all of them: it stands at both ends in the place of
Shore, and its figures beside ours.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from bench.figure import Figure, gap, least, median, most
from shore.lab.ends import SHORE, ShoreEnd
from shore.lab.handshakes import handshakes
from shore.lab.home import Home, home
from shore.lab.link import Link
from shore.lab.narrow import STOCK, B, Pair, pair
from shore.lab.pinger import Pinger, Pings
from shore.model.keys import key_text

PATIENCE_S = 20.0
REBINDING_S = 5.0
# A NAT that moves ports long before it would forget them.
LIFETIME_S = 120
Act = Callable[[Link], None]


class Outage(msgspec.Struct, frozen=True):
    """How a path is lost and given back, for how long, and how soon Shore must work again."""

    name: str
    hit: Act
    mend: Act
    seconds: float
    target_s: float


def _swallow(link: Link) -> None:
    link.change(black_hole=True)


def _let_through(link: Link) -> None:
    link.change(black_hole=False)


# In the longest of them every session dies.
OUTAGES = (
    Outage("black hole for 20 s", _swallow, _let_through, 20, 30),
    Outage("black hole for 200 s", _swallow, _let_through, 200, 30),
    Outage("uplink pulled for 20 s", lambda link: link.unplug("a"), lambda link: link.plug("a"), 20, 1),
)


def outages(rounds: int, _seconds: int) -> list[Figure]:
    """The only path is gone for a while, and then it is back. All rounds side by side: they only wait."""
    figures = []
    with ThreadPoolExecutor(rounds) as pool:
        for outage in OUTAGES:
            ours, theirs = (
                list(pool.map(_back_after, [make] * rounds, [outage] * rounds)) for make in (SHORE, STOCK)
            )
            figures += [
                most(
                    "only path",
                    f"{outage.name}, then works after, s",
                    median(ours),
                    outage.target_s,
                    each=ours,
                ),
                Figure(
                    "only path", f"{outage.name}: wireguard-go, s", median(theirs), detail={"each": theirs}
                ),
            ]
    return figures


def slower_only(rounds: int, _seconds: int) -> list[Figure]:
    """The only path becomes 300 ms slower: it is left alone, and named."""
    row, restarts, renewals, named, lost = "300 ms slower, only path", 0, 0, True, 0
    for _ in range(rounds):
        with pair(1500, icmp=True) as made:
            assert isinstance(made.a, ShoreEnd)
            before = made.a.status().dataplane_restarts
            more, pings = _slowed(made)
            renewals, lost = max(renewals, more), lost + pings.lost()
            restarts += made.a.status().dataplane_restarts - before
            named &= "became slow" in made.a.shore("why", key_text(made.a.side.peer_key))
    with pair(1500, icmp=True, a=STOCK, b=STOCK) as made:
        theirs, their_pings = _slowed(made)
    return [
        most(row, "data plane restarts", restarts, 0),
        most(row, "renewals", renewals, 1),
        least(row, "`shore why` names it (1: always)", float(named), 1),
        Figure(row, "pings lost", lost),
        Figure(row, "wireguard-go: renewals", theirs),
        Figure(row, "wireguard-go: pings lost", their_pings.lost()),
    ]


def rebinding(rounds: int, _seconds: int) -> list[Figure]:
    """The NAT forgets everything and moves its ports every 5 s; either end sends."""
    figures = []
    for name, from_outside in (("we send", False), ("only the peer sends", True)):
        row = f"NAT rebinding every 5 s, {name}"
        gaps, moves = _rebound(SHORE, rounds * 3, from_outside=from_outside)
        theirs, _ = _rebound(STOCK, rounds * 3, from_outside=from_outside)
        figures += [
            most(row, "longest gap, s", max(gaps), 1.0, each=gaps),
            most(
                row, "path changes beyond one for each, at the peer", max(0, moves - len(gaps)), 0, all=moves
            ),
            Figure(row, "wireguard-go: longest gap, s", max(theirs), detail={"each": theirs}),
        ]
    return figures


def _back_after(make: str, outage: Outage) -> float:
    with pair(1500, icmp=True, a=make, b=make) as made:
        pinger = Pinger(made.lab["a"], B)
        time.sleep(2)
        outage.hit(made.link)
        time.sleep(outage.seconds)
        at = time.monotonic()
        outage.mend(made.link)
        time.sleep(PATIENCE_S)
        return gap(pinger.stop(), at)


def _slowed(made: Pair) -> tuple[int, Pings]:
    """How often the session was renewed in the 20 s after the change, and the pings."""
    pinger = Pinger(made.lab["a"], B)
    time.sleep(5)
    readings = [made.a.latest_handshake()]
    made.link.change(delay_ms=160)
    for _ in range(20):
        time.sleep(1)
        readings.append(made.a.latest_handshake())
    return handshakes(readings, least_jump=2) - 1, pinger.stop()


def _rebound(make: str, times: int, *, from_outside: bool) -> tuple[list[float], int]:
    """The gap of each rebinding, and how often any end's packets changed their path."""
    with home(LIFETIME_S, make) as pair:
        pinger = pair.pinger(from_outside=from_outside)
        time.sleep(2)
        before, instants = _switches(pair), []
        for _ in range(times):
            instants.append(time.monotonic())
            pair.box.reboot()
            time.sleep(REBINDING_S)
        moves = _switches(pair) - before
        pings = pinger.stop()
        return [gap(_until(pings, at + REBINDING_S), at) for at in instants], moves


def _switches(pair: Home) -> int:
    return sum(end.status().peers[0].switches for end in (pair.a, pair.b) if isinstance(end, ShoreEnd))


def _until(pings: Pings, end: float) -> Pings:
    return Pings(tuple(ping for ping in pings.sent if ping[0] < end))
