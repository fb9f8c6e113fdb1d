"""Random schedules of faults: some of them in each `make test`, kept ones always, many in `make lab`."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.sim.__main__ import try_one
from tests.sim.scenario import Scenario, play

KEPT = sorted((Path(__file__).parent / "seeds").glob("*.json"))
SEEDS = range(40)
LAB_SEEDS = int(os.environ.get("SHORE_SIM_SEEDS", "50000"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_schedule_that_broke_something_does_not_any_more(path: Path) -> None:
    play(msgspec.json.decode(path.read_bytes(), type=Scenario))


def test_schedules_break_nothing() -> None:
    assert broken(SEEDS) == []


def test_the_same_seed_is_the_same_run() -> None:
    assert play(Scenario(7)).trace == play(Scenario(7)).trace
    assert play(Scenario(7)).trace != play(Scenario(8)).trace


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_schedules_break_nothing() -> None:
    started = time.monotonic()
    assert broken(range(1000, 1000 + LAB_SEEDS)) == []
    print(f"{LAB_SEEDS} schedules in {time.monotonic() - started:.0f} s")


def broken(seeds: range) -> list[str]:
    with ProcessPoolExecutor() as workers:
        return [what for _, _, what in workers.map(try_one, seeds, chunksize=4) if what]
