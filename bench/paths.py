"""The rows of several paths: two Shore nodes, two links, and one of them fails."""

import time
from collections.abc import Callable

import msgspec

from bench.figure import NEVER, Figure, gap, least, long_time, median, most, percentile_of
from bench.pair import CURRENT
from bench.recovery import RIVAL_PATIENCE
from shore.core.changes import CAUSES
from shore.lab.link import Link
from shore.lab.multipath import INNER, Twin, roaming, twin
from shore.lab.narrow import STOCK
from shore.lab.net import until
from shore.lab.pinger import Pinger
from shore.model.history import Change
from shore.model.keys import key_text

# Where p50 and p95 are asked for.
MOST_RUNS = 20
# The longest hold of a path that died, and some.
WHOLE_WITHIN_S = 75.0
WAYS = (("both ways", None), ("towards the peer", "b"), ("towards us", "a"))
INTERACTIVE = "#@ Redundancy = interactive\n"
Fault = Callable[[Link], None]


def black_holes(rounds: int, _seconds: int) -> list[Figure]:
    """The path in use swallows everything, both ways and one way, 20 times each.

    A fresh pair for each three: what died is held the longer the oftener it died, and while the path in use
    is held, packets go out on two.
    """
    gaps: dict[str, list[float]] = {name: [] for name, _ in WAYS}
    for _ in range(min(rounds * 4, MOST_RUNS)):
        with twin("black-holes") as pair:
            for name, toward in WAYS:
                until(pair.is_whole, WHOLE_WITHIN_S)
                gaps[name].append(_gap(pair, lambda link, t=toward: link.change(toward=t, black_hole=True)))
                for link in (pair.one, pair.two):
                    link.change(black_hole=False)
    figures = []
    for name, each in gaps.items():
        figures += [
            most("black hole", f"{name}: gap p50, s", percentile_of(each, 0.5), 0.5, each=each),
            most("black hole", f"{name}: gap p95, s", percentile_of(each, 0.95), 1.0),
        ]
    return figures


def data_swallowed(rounds: int, _seconds: int) -> list[Figure]:
    """WireGuard data is dropped on the path in use, probes pass."""
    gaps = []
    for _ in range(rounds):
        with twin("deaf") as pair:
            gaps.append(_gap(pair, lambda link: link.change(drop_type=4)))
    return [most("data swallowed, probes pass", "gap, s", median(gaps), 2.0, each=gaps)]


def interactive(rounds: int, _seconds: int) -> list[Figure]:
    """Sparse flows on two paths: a black hole with 300 Mbit/s of bulk alongside, 20 Hz."""
    lost = []
    for _ in range(rounds):
        with (
            twin("interactive", own=INTERACTIVE, cable=True) as pair,
            pair.bulk(),
        ):
            pinger = Pinger(pair.lab["a"], INNER)
            time.sleep(2)
            in_use(pair).change(black_hole=True)
            time.sleep(4)
            lost.append(pinger.stop().lost())
    return [most("interactive, 300 Mbit/s alongside", "pings lost", max(lost), 0, each=lost)]


def slower(rounds: int, _seconds: int) -> list[Figure]:
    """The path in use becomes 300 ms slower, a clean one is there."""
    left = []
    for _ in range(rounds):
        with twin("slower") as pair:
            left.append(_left_after(pair, lambda link: link.change(delay_ms=160)))
    return [most("300 ms slower", "clean second path: left after, s", median(left), 3.0, each=left)]


def lossy(rounds: int, _seconds: int) -> list[Figure]:
    """The path in use loses packets, a clean one is there."""
    figures = []
    for rate, loss, within in ((200, 0.05, 3.0), (20, 0.2, 3.0), (20, 0.05, 15.0)):
        left = []
        for _ in range(rounds):
            with twin("lossy") as pair:
                left.append(_left_after(pair, lambda link, x=loss: link.change(loss=x), rate, within * 3))
        name = f"{loss:.0%} at {rate} packets/s: left after, s"
        figures.append(most("loss", name, median(left), within, each=left))
    return figures


def one_percent(rounds: int, _seconds: int) -> list[Figure]:
    """One percent of loss on the path in use is no reason to leave it, for ten minutes."""
    seconds = long_time(rounds)
    with twin("one-percent") as pair:
        pinger = Pinger(pair.lab["a"], INNER, 200)
        time.sleep(2)
        before = pair.peer().switches
        in_use(pair).change(loss=0.01)
        time.sleep(seconds)
        pinger.stop()
        changes = pair.peer().switches - before
    return [most("loss", f"1 % at 200 packets/s: changes in {seconds / 60:g} min", changes, 0)]


def unplugged(rounds: int, _seconds: int) -> list[Figure]:
    """The uplink in use is pulled, and plugged again with a new index."""
    with twin("unplugged") as pair:
        gaps = []
        for _ in range(rounds):
            until(pair.is_whole, WHOLE_WITHIN_S)
            link = in_use(pair)
            gaps.append(_gap(pair, lambda link: link.unplug("a")))
            link.plug("a")
    theirs = {make: _roamed(make, rounds) for make in (STOCK, CURRENT)}
    return [most("uplink pulled", "gap, s", median(gaps), 1.0, each=gaps)] + [
        Figure("uplink pulled", f"{make} with a route by each: gap, s", median(each), detail={"each": each})
        for make, each in theirs.items()
    ]


def families(rounds: int, _seconds: int) -> list[Figure]:
    """The family of addresses in use goes from all uplinks, IPv4 and IPv6 in turn, and comes back."""
    gaps: dict[int, list[float]] = {4: [], 6: []}
    with twin("families") as pair:
        for _ in range(rounds * 2):
            until(lambda: _has_live(pair, 4) and _has_live(pair, 6), WHOLE_WITHIN_S)
            primary = pair.primary()
            assert primary is not None
            gaps[primary.family].append(_gap(pair, lambda _, f=primary.family: _addresses(pair, f, "delete")))
            _addresses(pair, primary.family, "add")
    return [
        most("addresses lost", f"IPv{family} of all uplinks: gap, s", median(each), 1.0, each=each)
        for family, each in gaps.items()
        if each
    ]


def flapping(_rounds: int, _seconds: int) -> list[Figure]:
    """The path in use is up for 2 s and down for 2 s, for five minutes."""
    with twin("flapping") as pair:
        pinger = Pinger(pair.lab["a"], INNER)
        time.sleep(2)
        before = pair.peer().switches
        in_use(pair).change(flap_up_s=2, flap_down_s=2)
        time.sleep(300)
        changes = (pair.peer().switches - before) / 5
        pings = pinger.stop()
    return [
        most("flapping path", "changes a minute", changes, 6),
        most("flapping path", "share lost", round(pings.lost() / len(pings.sent), 4), 0.02),
    ]


def skewed(rounds: int, _seconds: int) -> list[Figure]:
    """Planned moves between paths 50 ms apart, under 300 Mbit/s: nothing falls out of the replay window.

    To the faster path because it is faster, to the slower one because the faster loses packets.
    """
    refused, lost, moved, behind = [], [], [], []
    for _ in range(rounds):
        with (
            twin("to-faster", delay_ms=60, second_delay_ms=10) as pair,
            pair.bulk(),
        ):
            pinger = Pinger(pair.lab["a"], INNER)
            before = _replayed(pair)
            moved.append(_moves_to(pair, "two", 20))
            time.sleep(2)
            refused.append(_replayed(pair) - before)
            pings = pinger.stop()
            lost.append(pings.lost())
            behind.append(pings.overtaken())
        with (
            twin("to-slower", delay_ms=10, second_delay_ms=60) as pair,
            pair.bulk(),
        ):
            time.sleep(2)
            before = _replayed(pair)
            pair.one.change(loss=0.06, toward="b")
            moved.append(_moves_to(pair, "two", 20))
            time.sleep(2)
            refused.append(_replayed(pair) - before)
    return [
        least("planned move, 50 ms apart", "moves made", sum(moved), len(moved)),
        most("planned move, 50 ms apart", "refused by the window", max(refused), 0, each=refused),
        most("planned move, 50 ms apart", "pings lost to the faster", max(lost), 0, each=lost),
        most("planned move, 50 ms apart", "pings reordered to the faster", max(behind), 1, each=behind),
    ]


def _moves_to(pair: Twin, link: str, within_s: float) -> bool:
    try:
        until(lambda: pair.link_of() == link, within_s)
    except AssertionError:
        return False
    return True


def in_use(pair: Twin) -> Link:
    """The link that a's packets take."""
    return pair.two if pair.link_of() == "two" else pair.one


def _has_live(pair: Twin, family: int) -> bool:
    return any(path.state == "live" and path.family == family for path in pair.peer().paths)


def _addresses(pair: Twin, family: int, verb: str) -> None:
    for number, device in ((1, "eth0"), (2, "eth1")):
        address = f"10.99.{number}.1/24" if family == 4 else f"fd99:{number}::1/64"
        pair.lab["a"].ip(f"address {verb} {address} dev {device}")


def _gap(pair: Twin, fault: Fault) -> float:
    """How long no ping got through, with a fault on the path in use."""
    pinger = Pinger(pair.lab["a"], INNER)
    time.sleep(2)
    link = in_use(pair)
    at = time.monotonic()
    fault(link)
    time.sleep(4)
    return gap(pinger.stop(), at)


def _roamed(make: str, rounds: int) -> list[float]:
    """The gaps of another make at both ends, where the machine has a second route to its one endpoint."""
    gaps = []
    with roaming("roaming", make) as (lab, one, _):
        for _ in range(rounds):
            pinger = Pinger(lab["a"], INNER)
            time.sleep(2)
            at = time.monotonic()
            one.unplug("a")
            time.sleep(RIVAL_PATIENCE)
            gaps.append(gap(pinger.stop(), at))
            one.plug("a")
            until(lambda: lab["a"].reaches(INNER, within_s=1), 30)
    return gaps


def _left_after(pair: Twin, fault: Fault, rate: float = 20, patience: float = 10.0) -> float:
    """Seconds from the fault until its link was left, by the brain's own history: to ask it takes a while."""
    pinger = Pinger(pair.lab["a"], INNER, rate)
    time.sleep(5)
    before, link = pair.link_of(), in_use(pair)
    at = time.time()
    fault(link)
    try:
        until(lambda: pair.link_of() != before, patience)
    except AssertionError:
        return NEVER
    finally:
        pinger.stop()
    return round(_last_move(pair) - at, 2)


def _last_move(pair: Twin) -> float:
    """When a's packets last took another path, in seconds of the Unix epoch."""
    told = pair.a.shore("history", key_text(pair.a.side.peer_key), "--json").splitlines()
    changes = [msgspec.json.decode(line, type=Change) for line in told]
    return max(change.at for change in changes if change.cause in CAUSES)


def _replayed(pair: Twin) -> int:
    return sum(pair.peer(end).drops.get("too_old", 0) for end in (pair.a, pair.b))
