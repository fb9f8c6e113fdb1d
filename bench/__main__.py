"""`python -m bench [ROW...] [--rounds N] [--seconds N]`: print the table, keep it in bench/results."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.figure import Figure
from bench.machine import Loaded, alone
from bench.rows import ROWS

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure; 0 even where a target was missed, for a figure is a figure."""
    parser = argparse.ArgumentParser(description="Measure Shore against real peers on this machine.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--beside-others",
        action="store_true",
        help="measure on a busy machine too; the file says how busy it was",
    )
    chosen = parser.parse_args()
    unknown = set(chosen.rows) - ROWS.keys()
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}: there are {', '.join(ROWS)}")
    figures: list[Figure] = []
    busy: dict[str, float] = {}
    try:
        for row in chosen.rows or ROWS:
            with alone(beside_others=chosen.beside_others) as share:
                busy[row] = round(share, 2)
                measured = ROWS[row](chosen.rounds, chosen.seconds)
            figures += measured
            for figure in measured:
                print(line(figure), flush=True)
    except Loaded as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if figures:
            print(f"written to {write(figures, busy, chosen.rounds, chosen.seconds)}")
    return 0


def line(figure: Figure) -> str:
    """One line of the table."""
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    return f"{figure.row:<23} {figure.name:<66} {figure.value:>10} {figure.target:>10} {verdict}"


def write(figures: list[Figure], busy: dict[str, float], rounds: int, seconds: int) -> Path:
    """Keep the figures with date and commit, and how busy others kept the machine as each row began."""
    RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS
    ).stdout.strip()
    at = time.strftime("%Y-%m-%dT%H%M%S")
    path = RESULTS / f"{at}-{commit or 'unknown'}.json"
    whole = {
        "at": at,
        "commit": commit,
        "rounds": rounds,
        "seconds": seconds,
        "busy": busy,
        "figures": figures,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
