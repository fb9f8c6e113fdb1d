"""Play random schedules: `python -m tests.sim [--first N] [--count N] [--seconds S] [--seed N] [--keep]`.

Runs on all processors, and says how many were played in a minute, and in a minute of one processor's time.
Each failing seed is printed, shortened to the faults that matter, and drawn into `target/sim/SEED.mmd`;
`--keep` makes a test of it in `tests/sim/seeds`.
"""

import argparse
import os
import sys
import time
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import msgspec
from tests.sim.diagram import draw
from tests.sim.scenario import LATEST, Scenario, play, shrink
from tests.sim.world import Broken

DRAWN = Path("target/sim")
KEPT = Path(__file__).parent / "seeds"
SAY_EVERY = 60.0


class Played(NamedTuple):
    """One seed: how many datagrams were sent, what broke, and seconds of a processor that it took."""

    seed: int
    datagrams: int
    broken: str
    cpu_s: float


def try_one(seed: int) -> Played:
    """Play it."""
    began = time.process_time()
    datagrams, what = 0, ""
    try:
        datagrams = play(Scenario(seed, edition=LATEST)).datagrams
    except Broken as broken:
        what = str(broken)
    return Played(seed, datagrams, what, time.process_time() - began)


def play_all(seeds: range, seconds: float = float("inf"), workers: int = os.cpu_count() or 1) -> list[int]:
    """Play them, and say how it goes; returns those that broke something."""
    started = said = time.monotonic()
    played, cpu_s, failed = 0, 0.0, []
    with Pool(workers) as pool:
        # Nobody waits for the slowest of a batch, and what is not wanted any more ends with the pool.
        for one in pool.imap_unordered(try_one, seeds, chunksize=2):
            played += 1
            cpu_s += one.cpu_s
            if one.broken:
                failed.append(one.seed)
                print(one.broken, flush=True)
            now = time.monotonic()
            if now - started > seconds:
                break
            if now - said > SAY_EVERY:
                said = now
                print(_progress(played, said - started, cpu_s, failed), flush=True)
    print(_progress(played, time.monotonic() - started, cpu_s, failed), flush=True)
    return sorted(failed)


def _progress(played: int, took: float, cpu_s: float, failed: list[int]) -> str:
    rate, of_cpu = (60 * played / max(span, 1e-3) for span in (took, cpu_s))
    speed = f"{rate:.0f} a minute, {of_cpu:.0f} a minute of one processor"
    return f"{played} schedules in {took:.1f} s ({speed}), {len(failed)} broken"


def report(scenario: Scenario, *, keep: bool = False) -> None:
    """Say which faults matter, draw the run, and keep it as a test if asked to."""
    shorter = shrink(scenario)
    try:
        play(shorter)
    except Broken as broken:
        DRAWN.mkdir(parents=True, exist_ok=True)
        path = DRAWN / f"{scenario.seed}.mmd"
        path.write_text(draw(broken.world, str(broken)))  # type: ignore[attr-defined]
        kept = msgspec.json.encode(shorter)
        print(f"  keep as {kept.decode()}\n  drawn in {path}")
        if keep:
            (KEPT / f"{scenario.seed}.json").write_bytes(kept + b"\n")


def main() -> int:
    """Exit code 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, help="one seed, shortened and drawn")
    parser.add_argument("--draw", type=int, default=3, help="how many failing seeds to shorten and draw")
    parser.add_argument("--keep", action="store_true", help="keep those as tests (tests/sim/seeds)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        seed, datagrams, broken, _ = try_one(options.seed)
        print(broken or f"seed {seed}: {datagrams} datagrams, nothing broken")
        failed = [seed] if broken else []
    else:
        seeds = range(options.first, options.first + options.count)
        failed = play_all(seeds, options.seconds, options.workers)
    for seed in failed[: options.draw]:
        report(Scenario(seed, edition=LATEST), keep=options.keep)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
