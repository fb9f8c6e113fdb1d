"""Random schedules of faults: some of them in each `make test`, kept ones always, many in `make lab`."""

import os
from pathlib import Path

import msgspec
import pytest
from tests.sim.__main__ import KEPT, play_all, report, try_one
from tests.sim.scenario import LATEST, Scenario, play

MOST_KEPT = 10
SEEDS = range(40)
# Played by one test: tests are spread over processors.
TOGETHER = 5
LAB_SEEDS = int(os.environ.get("SHORE_SIM_SEEDS", "50000"))


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_a_schedule_that_broke_something_does_not_any_more(path: Path) -> None:
    play(msgspec.json.decode(path.read_bytes(), type=Scenario))


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
def test_schedules_break_nothing(first: int) -> None:
    broken = [one.broken for one in map(try_one, range(first, first + TOGETHER)) if one.broken]
    assert broken == []


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = (play(Scenario(seed, edition=LATEST)).trace for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_schedules_break_nothing() -> None:
    failed = play_all(range(1000, 1000 + LAB_SEEDS))
    for seed in failed[:MOST_KEPT]:
        report(Scenario(seed, edition=LATEST), keep=True)
    assert failed == []
