"""Play random schedules: `python -m tests.sim [--first N] [--count N] [--seconds S] [--shrink] [--seed N]`.

Runs on all processors. Each failing seed is printed, shortened to the faults that matter, and drawn into
`target/sim/SEED.mmd`; what was printed can be kept in `tests/sim/seeds`.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
from tests.sim.diagram import draw
from tests.sim.scenario import Scenario, play, shrink
from tests.sim.world import Broken

DRAWN = Path("target/sim")


def try_one(seed: int) -> tuple[int, int, str]:
    """One seed: it, how many datagrams, and what broke."""
    try:
        return seed, play(Scenario(seed)).datagrams, ""
    except Broken as broken:
        return seed, 0, str(broken)


def report(scenario: Scenario) -> None:
    """Say which faults matter, and draw the run."""
    shorter = shrink(scenario)
    try:
        play(shorter)
    except Broken as broken:
        DRAWN.mkdir(parents=True, exist_ok=True)
        path = DRAWN / f"{scenario.seed}.mmd"
        path.write_text(draw(broken.world, str(broken)))  # type: ignore[attr-defined]
        print(f"  keep as {msgspec.json.encode(shorter).decode()}\n  drawn in {path}")


def main() -> int:
    """Exit code 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, help="one seed, shortened and drawn")
    parser.add_argument("--draw", type=int, default=3, help="how many failing seeds to shorten and draw")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        seed, datagrams, broken = try_one(options.seed)
        print(broken or f"seed {seed}: {datagrams} datagrams, nothing broken")
        if broken:
            report(Scenario(seed))
        return bool(broken)
    started = time.monotonic()
    played, failed = 0, []
    with ProcessPoolExecutor(options.workers) as workers:
        seeds = range(options.first, options.first + options.count)
        batch = options.workers * 16
        for start in range(0, len(seeds), batch):
            for seed, _, broken in workers.map(try_one, seeds[start : start + batch]):
                played += 1
                if broken:
                    failed.append(seed)
                    print(broken, flush=True)
            if time.monotonic() - started > options.seconds:
                break
    took = time.monotonic() - started
    print(f"{played} schedules in {took:.1f} s ({played / took * 60:.0f} a minute), {len(failed)} broken")
    for seed in failed[: options.draw]:
        report(Scenario(seed))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
