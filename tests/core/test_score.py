"""Judging paths: what is left for what, how fast, and what is not."""

import itertools
import random

from shore.core.score import PathJudge
from shore.model.facts import PathCounters
from shore.model.scores import Verdict

A, B = (1, "192.0.2.1:1"), (2, "198.51.100.1:1")


# Probes a second on a path in use that loses something.
PROBES = 20


class Traffic:
    """Two live paths; packets flow on the primary one and are lost by chance. Counters come when wanted."""

    def __init__(self, seed: int = 1) -> None:
        self.judge = PathJudge()
        self.chance = random.Random(seed)
        self.primary = A
        self.loss = {A: 0.0, B: 0.0}
        self.rtt = {A: 20.0, B: 30.0}
        self.sent = {A: 0, B: 0}
        self.arrived = {A: 0, B: 0}
        self.probed = {A: 0, B: 0}
        self.echoed = {A: 0, B: 0}
        self.now = 0.0
        self.metered: set[tuple[int, str]] = set()
        self.held = False
        self.verdicts: list[tuple[float, Verdict]] = []

    def run(self, seconds: int, per_second: int) -> None:
        end = self.now + seconds
        while self.now < end:
            step = 0.5 if self.judge.is_wary else 1.0
            self.now += step
            count = int(per_second * step)
            self.sent[self.primary] += count
            self.arrived[self.primary] += count - self._lost(count)
            probes = int(PROBES * step)
            self.probed[self.primary] += probes
            self.echoed[self.primary] += probes - self._lost(probes)
            paths = tuple(self._path(p) for p in (A, B))
            verdict = self.judge.judge(paths, self.metered, self.now, held=self.held)
            if verdict is not None:
                self.primary = (verdict.best.socket, verdict.best.remote)
                self.sent[self.primary] = self.arrived[self.primary] = 0
                self.verdicts.append((self.now, verdict))

    def _lost(self, count: int) -> int:
        return sum(self.chance.random() < self.loss[self.primary] for _ in range(count))

    def _path(self, place: tuple[int, str]) -> PathCounters:
        probed = [self.chance.random() < self.loss[place] for _ in range(20)]
        return PathCounters(
            id=place[0],
            kind="direct",
            socket=place[0],
            remote=place[1],
            primary=place == self.primary,
            state="live",
            rtt_ms=self.rtt[place],
            jitter_ms=1.0,
            loss_tx=sum(probed) / 20,
            data_sent=self.sent[place],
            data_arrived=self.arrived[place],
            probes_sent=self.probed[place],
            probes_arrived=self.echoed[place],
        )


def left_after(loss: float, per_second: int, *, seed: int) -> float | None:
    traffic = Traffic(seed)
    traffic.run(30, per_second)
    traffic.loss[A] = loss
    began = traffic.now
    traffic.run(30, per_second)
    return traffic.verdicts[0][0] - began if traffic.verdicts else None


def test_five_percent_of_a_busy_path_is_left_within_three_seconds() -> None:
    times = sorted(left_after(0.05, 200, seed=n) or 99 for n in range(20))
    assert times[10] <= 3
    assert times[-1] <= 6


def test_twenty_percent_of_a_sparse_path_is_left_within_three_seconds_and_five_within_fifteen() -> None:
    assert sorted(left_after(0.2, 20, seed=n) or 99 for n in range(20))[10] <= 3
    assert sorted(left_after(0.05, 20, seed=n) or 99 for n in range(20))[10] <= 15


def test_loss_that_may_be_a_matter_of_size_waits_for_its_verdict() -> None:
    traffic = Traffic()
    traffic.run(10, 200)
    traffic.loss[A], traffic.held = 0.2, True
    traffic.run(4, 200)
    assert traffic.verdicts == []
    traffic.held = False
    traffic.run(1, 200)
    assert [verdict.why for _, verdict in traffic.verdicts] == ["loss"]


def test_what_was_lost_by_its_size_is_not_held_against_a_path() -> None:
    traffic = Traffic()
    traffic.run(10, 200)
    traffic.loss[A], traffic.held = 0.5, True
    traffic.run(1, 200)
    traffic.loss[A], traffic.held = 0.0, False
    traffic.judge.forgive(A)
    traffic.run(30, 200)
    assert traffic.verdicts == []


def test_one_percent_changes_nothing_in_ten_minutes() -> None:
    for seed in range(5):
        traffic = Traffic(seed)
        traffic.loss[A] = 0.01
        traffic.run(600, 200)
        assert traffic.verdicts == []


def test_a_path_left_for_loss_is_not_returned_to_before_a_minute_and_then_ever_later() -> None:
    traffic = Traffic()
    traffic.loss[A] = 0.1
    traffic.rtt[A] = 1.0
    traffic.run(600, 200)
    returns = [at for at, verdict in traffic.verdicts if (verdict.best.socket, verdict.best.remote) == A]
    gaps = [later - earlier for earlier, later in itertools.pairwise(returns)]
    assert len(traffic.verdicts) <= 9
    assert gaps == sorted(gaps)


def test_three_hundred_milliseconds_more_are_left_within_three_seconds() -> None:
    traffic = Traffic()
    traffic.run(10, 20)
    traffic.rtt[A] = 320.0
    traffic.run(3, 20)
    assert [verdict.why for _, verdict in traffic.verdicts] == ["delay"]


def test_a_little_better_is_not_better() -> None:
    traffic = Traffic()
    traffic.rtt = {A: 30.0, B: 20.0}
    traffic.run(120, 20)
    assert traffic.verdicts == []


def test_a_clearly_better_path_is_taken_after_ten_seconds() -> None:
    traffic = Traffic()
    traffic.rtt = {A: 80.0, B: 20.0}
    traffic.run(10, 20)
    assert traffic.verdicts == []
    traffic.run(2, 20)
    assert [verdict.why for _, verdict in traffic.verdicts] == ["better"]


def test_a_metered_path_is_never_better() -> None:
    traffic = Traffic()
    traffic.metered = {B}
    traffic.loss[A] = 0.3
    traffic.run(60, 200)
    assert traffic.verdicts == []


def test_a_lossy_path_is_left_for_one_by_another_interface() -> None:
    judge = PathJudge()
    six = (3, "[2001:db8::1]:1")
    uplinks = {A: "eth0", six: "eth0", B: "eth1"}
    verdict = None
    for second in range(1, 10):
        paths = tuple(
            PathCounters(
                id=None,
                kind="direct",
                socket=place[0],
                remote=place[1],
                primary=place == A,
                state="live",
                rtt_ms=rtt,
                jitter_ms=1.0,
                data_sent=200 * second if place == A else 0,
                data_arrived=180 * second if place == A else 0,
            )
            for place, rtt in ((A, 20.0), (six, 20.0), (B, 30.0))
        )
        verdict = verdict or judge.judge(paths, set(), float(second), uplinks)
    assert verdict is not None
    assert verdict.best.remote == B[1]


def test_a_peer_that_counts_anew_is_no_loss() -> None:
    traffic = Traffic()
    traffic.run(10, 100)
    traffic.arrived[A] = 0
    traffic.run(30, 100)
    assert not traffic.verdicts


def test_what_was_judged_last_is_there_to_be_explained() -> None:
    traffic = Traffic()
    traffic.loss[A] = 0.2
    traffic.run(30, 200)
    first, second = traffic.judge.latest
    assert (first.remote, first.primary) == (A[1], False)
    assert first.avoided_until is not None
    assert first.avoided_until > traffic.now
    assert second.avoided_until is None
    assert second.cost_ms < first.cost_ms


def test_an_only_path_that_became_slow_is_told_from_one_that_always_was() -> None:
    traffic = Traffic()
    traffic.loss[B] = 1.0
    traffic.rtt = {A: 20.0, B: 500.0}
    traffic.run(30, 20)
    traffic.rtt[A] = 320.0
    traffic.run(60, 20)
    slow = traffic.judge.latest[0]
    assert slow.usual_ms is not None
    assert slow.usual_ms < 60.0
    traffic.run(3600, 20)
    always = traffic.judge.latest[0]
    assert always.usual_ms is not None
    assert always.usual_ms > 300.0
