"""The rows of ten idle minutes, after which the first ping must get through. All rounds idle side by side."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.figure import NEVER, Figure, long_time, median, most
from bench.paths import in_use
from shore.lab.home import home
from shore.lab.multipath import INNER, Twin, twin
from shore.lab.narrow import STOCK
from shore.lab.net import until
from shore.lab.pinger import Pinger, Pings

# How long the path is dead when somebody pings: some deaths were found by then, some cannot have been.
DEAD_FOR_S = (1.0, 60.0, 5.0, 20.0, 300.0)
# Between the pings of one round and the next, so that they do not disturb each other.
STAGGER_S = 4.0
LIFETIME_S = 20
LEARNT_WITHIN_S = 300.0


def idle_death(rounds: int, _seconds: int) -> list[Figure]:
    """The path in use dies while nobody sends."""
    idle_s = long_time(rounds)
    with ExitStack() as stack, ThreadPoolExecutor(rounds) as pool:
        pairs = [stack.enter_context(twin(f"idle-{number}")) for number in range(rounds)]
        running = [
            pool.submit(_late, pair, idle_s + number * STAGGER_S, DEAD_FOR_S[number % len(DEAD_FOR_S)])
            for number, pair in enumerate(pairs)
        ]
        late, ages = zip(*(each.result() for each in running), strict=True)
    name = f"first ping after {idle_s / 60:g} min, ms above 2 RTT"
    detail = {"each": late, "dead_for_s": DEAD_FOR_S, "last_proof_before_s": ages}
    return [
        most("path dies while idle", name, median(list(late)), 50, **detail),
        Figure("path dies while idle", f"the same, the worst of {rounds}", max(late)),
    ]


def idle_behind_nat(rounds: int, _seconds: int) -> list[Figure]:
    """Behind a NAT that forgets after 20 s, no keepalive configured; the lifetime is learnt before."""
    row, idle_s = "idle behind a NAT of 20 s", long_time(rounds)
    with ExitStack() as stack:
        homes = [stack.enter_context(home(LIFETIME_S)) for _ in range(rounds)]
        other = stack.enter_context(home(LIFETIME_S, STOCK))
        for each in homes:
            until(each.has_learnt, LEARNT_WITHIN_S)
        before, began = [each.sent() for each in homes], time.monotonic()
        time.sleep(idle_s)
        passed = time.monotonic() - began
        rates = [(each.sent() - sent) / passed for each, sent in zip(homes, before, strict=True)]
        *pings, theirs = [_burst(each.pinger(from_outside=True)) for each in (*homes, other)]
    late = [_above(each, 1) for each in pings]
    return [
        most(row, "bytes a second that left the NAT, IP headers too", max(rates), 60, each=rates),
        most(row, f"the outside's pings lost after {idle_s / 60:g} min", sum(p.lost() for p in pings), 0),
        most(row, "the outside's first ping, ms above RTT", median(late), 20, each=late),
        Figure(row, f"wireguard-go: lost of {len(theirs.sent)} pings", theirs.lost()),
    ]


def _late(pair: Twin, idle_s: float, dead_for_s: float) -> tuple[float, float | None]:
    """By how many ms the first ping took more than two round trips, and the last proof's age at death."""
    dead_for_s = min(dead_for_s, idle_s / 2)
    time.sleep(idle_s - dead_for_s)
    path, link = pair.primary(), in_use(pair)
    link.change(black_hole=True)
    time.sleep(dead_for_s)
    late = _above(_burst(Pinger(pair.lab["a"], INNER)), 2)
    return late, path.proof_age_s if path else None


def _burst(pinger: Pinger) -> Pings:
    time.sleep(2)
    return pinger.stop()


def _above(pings: Pings, round_trips: int) -> float:
    """By how many ms the first ping took longer than so many usual round trips."""
    first = pings.sent[0][1]
    return round((NEVER if first is None else first - round_trips * pings.usual_rtt()) * 1e3, 1)
