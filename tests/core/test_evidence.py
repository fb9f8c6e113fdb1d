"""Loss judged from counts: how soon it is certain, and how seldom by mistake. Many runs on virtual time."""

import math
import random
from collections.abc import Iterator

import pytest

from shore.core.evidence import Evidence

# Data messages and probes a second: a busy flow, and a sparse one on a path that loses something.
BUSY, SPARSE = 200 + 20 / 3, 20 + 20
START = 1_000_000


def lost_ones(share: float, chance: random.Random, burst: float = 1.0) -> Iterator[int]:
    """The numbers of the messages that are lost, in bursts of that mean length."""
    number = -1
    while True:
        number += 1 + int(math.log(1 - chance.random()) / math.log(1 - share / burst))
        yield number
        while burst > 1.0 and chance.random() < 1 - 1 / burst:
            number += 1
            yield number


class Path:
    """A path that begins to lose messages, and the evidence of it."""

    def __init__(self, rate: float, share: float, seed: int, burst: float = 1.0) -> None:
        self.rate, chance = rate, random.Random(seed)
        self.evidence = Evidence()
        self.share = 0.0
        self._losses = lost_ones(share, chance, burst)
        self._next = next(self._losses)
        self._lost = 0
        # Readings were taken before, without a loss.
        self.now = -2.0 - chance.random()
        for _ in range(4):
            self.read()

    def read(self) -> None:
        """The next reading, as soon as it is wanted."""
        self.now += 0.5 if self.evidence.is_wary else 1.0
        sent = int(self.rate * self.now)
        while self._next < sent:
            self._lost, self._next = self._lost + 1, next(self._losses)
        self.share = self.evidence.take(START + sent, START + sent - self._lost, self.now)


def told_after(rate: float, share: float, seed: int, *, within: float = 120.0, burst: float = 1.0) -> float:
    """Seconds until loss was certain; infinite where it was not."""
    path = Path(rate, share, seed, burst)
    while path.share == 0:
        if path.now > within:
            return math.inf
        path.read()
    return path.now


@pytest.mark.parametrize(
    ("rate", "share", "half_within", "most_within"),
    [
        pytest.param(BUSY, 0.05, 2.4, 4.0, id="5 % of a busy flow"),
        pytest.param(SPARSE, 0.2, 2.2, 3.5, id="20 % of a sparse one"),
        pytest.param(SPARSE, 0.05, 9.0, 18.0, id="5 % of a sparse one"),
        pytest.param(BUSY, 0.2, 1.6, 2.1, id="20 % of a busy one"),
    ],
)
def test_loss_is_certain_soon(rate: float, share: float, half_within: float, most_within: float) -> None:
    times = sorted(told_after(rate, share, seed) for seed in range(400))
    assert times[200] <= half_within
    assert times[380] <= most_within


@pytest.mark.parametrize("rate", [BUSY, SPARSE, 5000.0])
def test_one_percent_is_no_reason_for_an_alarm_in_ten_minutes(rate: float) -> None:
    runs = 50 if rate < 1000 else 5
    alarms = sum(told_after(rate, 0.01, seed, within=600.0) < math.inf for seed in range(runs))
    assert alarms <= runs // 40


def test_a_share_is_told_that_does_harm_and_not_more_than_is_lost() -> None:
    path = Path(BUSY, 0.05, 1)
    while path.now < 60:
        path.read()
        assert path.share == 0 or 0.02 < path.share < 0.06
    assert path.share > 0.03


def test_bursts_of_two_that_average_one_percent_are_mostly_not_taken_for_more() -> None:
    alarms = sum(told_after(BUSY, 0.01, seed, within=600.0, burst=2.0) < math.inf for seed in range(40))
    assert alarms <= 20


def test_one_gap_says_nothing() -> None:
    evidence = Evidence()
    for second, lost in enumerate((0, 0, 100, 100, 100)):
        assert evidence.take(200 * second, 200 * second - lost, float(second)) == 0


def test_what_arrives_before_it_is_counted_as_sent_is_no_loss() -> None:
    chance = random.Random(1)
    evidence = Evidence()
    for second in range(600):
        assert evidence.take(200 * second, 200 * second + chance.randint(-30, 30), float(second)) == 0


def test_a_peer_that_counts_anew_is_no_loss() -> None:
    evidence = Evidence()
    for second in range(20):
        arrived = 200 * second if second < 10 else 200 * (second - 10)
        assert evidence.take(200 * second, arrived, float(second)) == 0


def test_a_path_that_loses_no_more_is_not_lossy_for_long() -> None:
    path = Path(BUSY, 0.2, 1)
    while path.now < 10:
        path.read()
    assert path.share > 0
    evidence, sent = path.evidence, START + int(BUSY * path.now)
    healed = [evidence.take(sent + 200 * n, sent + 200 * n, path.now + n) for n in range(10)]
    assert healed[-1] == 0
