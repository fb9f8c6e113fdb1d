"""A plan, carried out: built, checked, pinged, broken on time, judged. One laboratory for each candidate.

Times are counted from the moment all pings have settled. Faults come in the order of their instants; a fault
with `for_s` is undone by putting back what was there before it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import msgspec

from shore.lab.ends import PORT, End, StockEnd, end_of, sides
from shore.lab.impairment import Impairment
from shore.lab.laboratory import Entry, Laboratory
from shore.lab.net import LabFailed, until
from shore.lab.pinger import Pinger, Pings
from shore.lab.plan import Expectation, FaultPlan, Plan, TunnelPlan
from shore.lab.selfcheck import Finding, check

GREETED_WITHIN_S = 30.0
Undo = Callable[[], None]


class Timeline(msgspec.Struct, frozen=True):
    """The pings of one name, `sent` counted in seconds from the start of the run."""

    name: str
    pings: Pings


class Mark(msgspec.Struct, frozen=True):
    """A fault, from when to when."""

    called: str
    at: float
    until: float


class Verdict(msgspec.Struct, frozen=True):
    """An expectation, what came of it, and whether that is right."""

    ping: str
    asked: str
    found: str
    right: bool


class Run(msgspec.Struct, frozen=True):
    """One candidate's run."""

    candidate: str
    seconds: float
    timelines: tuple[Timeline, ...]
    marks: tuple[Mark, ...]
    verdicts: tuple[Verdict, ...]
    diary: tuple[Entry, ...]
    kept: str = ""


class Report(msgspec.Struct, frozen=True):
    """All that a `shore lab run` found out."""

    name: str
    seed: int
    at: float
    findings: tuple[Finding, ...]
    runs: tuple[Run, ...]

    def is_right(self) -> bool:
        """Whether the network was as asked and every expectation held."""
        held = all(verdict.right for run in self.runs for verdict in run.verdicts)
        return held and all(finding.right for finding in self.findings)


def build(lab: Laboratory, plan: Plan) -> None:
    """Make the hosts, links, routes and NATs of a plan. Raises LabFailed."""
    for name in plan.hosts:
        lab.host(name)
    for name in plan.routers:
        lab.router(name)
    for each in plan.links:
        link = lab.link(each.name, *each.ends, cable=each.cable, record=each.record)
        link.set(each.impairment)
        for toward, impairment in each.toward.items():
            link.set(impairment, toward)
    routes = {name: host.routes for name, host in plan.hosts.items()}
    routes |= {name: router.routes for name, router in plan.routers.items()}
    for name, words in routes.items():
        for route in words:
            family = "-6 " if ":" in route else ""
            lab[name].ip(f"{family}route add {route}")
    for name, router in plan.routers.items():
        if router.nat is not None:
            lab.nat(name, router.nat)


def verify(plan: Plan) -> list[Finding]:
    """Build the network of a plan and measure whether it is what was asked."""
    with Laboratory(plan.name, seed=plan.seed) as lab:
        build(lab, plan)
        return check(lab)


def perform(plan: Plan, candidate: str, *, on_up: Callable[[Laboratory], None] = lambda lab: None) -> Run:
    """One candidate through the whole plan; `on_up` is told when everything runs. Raises LabFailed.

    If an expectation fails, captures and the diary are kept.
    """
    with Laboratory(f"{plan.name}-{candidate}", seed=plan.seed) as lab, contextlib.ExitStack() as stack:
        build(lab, plan)
        ends = stack.enter_context(_tunnels(lab, plan, candidate))
        on_up(lab)
        pingers = [(ping.called, Pinger(lab[ping.source], ping.to, ping.rate)) for ping in plan.pings]
        for _, pinger in pingers:
            stack.callback(pinger.end)
        time.sleep(plan.settle_s)
        began = time.monotonic()
        lab.note("the run begins")
        marks = _break(lab, plan, ends, began)
        pings = [Timeline(name, since(pinger.stop(), began)) for name, pinger in pingers]
        verdicts = [
            verdict
            for expectation in plan.expect
            if candidate in expectation.candidates or candidate == "network"
            for verdict in judge(expectation, pings)
        ]
        for verdict in verdicts:
            lab.note(f"{verdict.ping}: {verdict.asked}: {verdict.found}")
        kept = "" if all(verdict.right for verdict in verdicts) else str(lab.keep())
        return Run(
            candidate, plan.seconds, tuple(pings), tuple(marks), tuple(verdicts), tuple(lab.diary), kept
        )


def since(pings: Pings, began: float) -> Pings:
    """The same with the times of sending counted from an instant."""
    return Pings(tuple((round(at - began, 6), rtt) for at, rtt in pings.sent))


def judge(expectation: Expectation, timelines: list[Timeline]) -> list[Verdict]:
    """Every limit that an expectation sets."""
    whole = next(each.pings for each in timelines if each.name == expectation.ping)
    # The usual RTT is that of the whole run, so that a fault does not excuse itself.
    limit = whole.usual_rtt() + 0.25
    later = [(at, rtt) for at, rtt in whole.sent if at >= expectation.after_s]
    lost = sum(1 for _, rtt in later if rtt is None or rtt > limit)
    gap = longest_silence(later, limit)
    rtt_ms = Pings(tuple(later)).usual_rtt() * 1000
    share = lost / len(later) if later else 1.0
    said = f"{lost} of {len(later)} lost"
    limits: tuple[tuple[float | None, Callable[[float], bool], str, str], ...] = (
        (expectation.lost_most, lambda most: lost <= most, "lost <= {:g}", said),
        (expectation.lost_least, lambda least: lost >= least, "lost >= {:g}", said),
        (expectation.share_most, lambda most: share <= most, "share lost <= {:g}", f"{share:.3f}"),
        (expectation.gap_most_s, lambda most: gap <= most, "silence <= {:g} s", f"{gap:.2f} s"),
        (expectation.rtt_most_ms, lambda most: rtt_ms <= most, "RTT <= {:g} ms", f"{rtt_ms:.1f} ms"),
    )
    return [
        Verdict(expectation.ping, asked.format(limit_set), found, bool(later) and holds(limit_set))
        for limit_set, holds, asked, found in limits
        if limit_set is not None
    ]


def longest_silence(sent: list[tuple[float, float | None]], limit: float) -> float:
    """Seconds from the first lost ping of a row to the next answered one, or to the last; the longest row."""
    longest, first = 0.0, None
    for at, rtt in sent:
        if rtt is None or rtt > limit:
            first = at if first is None else first
        elif first is not None:
            longest, first = max(longest, at - first), None
    return max(longest, sent[-1][0] - first) if first is not None else longest


@contextlib.contextmanager
def _tunnels(lab: Laboratory, plan: Plan, candidate: str) -> Iterator[dict[str, End]]:
    """All tunnels up and greeted, by the hosts of their ends."""
    ends: dict[str, End] = {}
    try:
        for number, tunnel in enumerate(plan.tunnels):
            for host, end in _pair(lab, tunnel, number, candidate):
                ends[host] = end
                end.up()
        for number, tunnel in enumerate(plan.tunnels):
            inner = f"10.8.{number}.2"
            try:
                until(lambda host=tunnel.a, to=inner: lab[host].reaches(to, within_s=1), GREETED_WITHIN_S)  # type: ignore[misc]
            except AssertionError:
                raise LabFailed(f"{candidate} at {tunnel.a} does not reach {inner} at {tunnel.b}") from None
        yield ends
    finally:
        for end in ends.values():
            end.down()


def _pair(lab: Laboratory, tunnel: TunnelPlan, number: int, candidate: str) -> list[tuple[str, End]]:
    kind = candidate if candidate in tunnel.candidates else tunnel.candidates[0]
    ours, theirs = sides(
        _with_port(tunnel.endpoint), back=_with_port(tunnel.back), keepalive_s=tunnel.keepalive_s
    )
    a, b = f"10.8.{number}.1", f"10.8.{number}.2"
    ours = msgspec.structs.replace(ours, address=a, peer_address=b)
    theirs = msgspec.structs.replace(theirs, address=b, peer_address=a)
    return [
        (tunnel.b, end_of(tunnel.peer, lab[tunnel.b], theirs, tunnel.extra)),
        (tunnel.a, end_of(kind, lab[tunnel.a], ours, tunnel.extra)),
    ]


def _with_port(address: str | None) -> str | None:
    if address is None or address.startswith("[") or address.count(":") == 1:
        return address
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


def _break(lab: Laboratory, plan: Plan, ends: dict[str, End], began: float) -> list[Mark]:
    """Do every fault at its time, until the run is over."""
    due = sorted(
        (at, number, fault)
        for number, fault in enumerate(plan.faults)
        for at in instants(fault, plan.seconds)
    )
    undos: list[tuple[float, Undo, str]] = []
    marks = []
    while True:
        soonest = min([at for at, _, _ in due[:1]] + [at for at, _, _ in undos], default=plan.seconds)
        if soonest >= plan.seconds:
            break
        time.sleep(max(0.0, began + soonest - time.monotonic()))
        for entry in [each for each in undos if each[0] <= soonest]:
            undos.remove(entry)
            entry[1]()
            lab.note(f"over: {entry[2]}")
        if due and due[0][0] <= soonest:
            _, _, fault = due.pop(0)
            at = time.monotonic() - began
            undo = _hit(lab, fault, ends)
            lab.note(fault.called)
            end = plan.seconds if fault.for_s is None else min(plan.seconds, at + fault.for_s)
            marks.append(Mark(fault.called, round(at, 3), round(at if fault.do == "nat-reboot" else end, 3)))
            if fault.for_s is not None:
                undos.append((soonest + fault.for_s, undo, fault.called))
    time.sleep(max(0.0, began + plan.seconds - time.monotonic()))
    return marks


def instants(fault: FaultPlan, seconds: float) -> list[float]:
    """When a fault comes."""
    if fault.every_s is None:
        return [fault.at_s]
    return [fault.at_s + n * fault.every_s for n in range(int((seconds - fault.at_s) / fault.every_s) + 1)]


def _hit(lab: Laboratory, fault: FaultPlan, ends: dict[str, End]) -> Undo:
    """Do it; the way back."""
    if fault.fault.on == "nat":
        return _hit_nat(lab, fault)
    if fault.fault.on == "end":
        return _hit_end(ends[fault.host], fault)
    link = lab.links[fault.link]
    if fault.do == "unplug":
        link.unplug(fault.host)
        return lambda: link.plug(fault.host)
    ways = [fault.toward] if fault.toward else [end.host for end in link.ends]
    before = {toward: link.impairment(toward) for toward in ways}
    for toward, was in before.items():
        link.set(impaired(was, fault), toward)

    def undo() -> None:
        for toward, was in before.items():
            link.set(was, toward)

    return undo


def _hit_end(end: End, fault: FaultPlan) -> Undo:
    """Shore comes back by itself; a stock implementation needs somebody to undo it."""
    if fault.do == "end-killed":
        end.kill()
        return end.up if isinstance(end, StockEnd) else lambda: None
    end.freeze()
    return end.thaw if isinstance(end, StockEnd) else lambda: None


def impaired(was: Impairment, fault: FaultPlan) -> Impairment:
    """An impairment after a fault of links."""
    added = {name: getattr(was, name) + more for name, more in fault.fault.added.items()}
    return was.changed(**{**fault.fault.fields, **added, **fault.fields})


def _hit_nat(lab: Laboratory, fault: FaultPlan) -> Undo:
    box = lab.nats[fault.nat]
    if fault.do == "nat-reboot":
        box.reboot()
        return lambda: None
    before = box.nat
    box.change(**{**fault.fault.fields, **fault.fields})
    return lambda: box.change(**msgspec.structs.asdict(before))
