"""The NAT grid: which pairs of NATs come to a direct path, how soon, and what that costs."""

from bench.figure import NEVER, Figure, least, most, percentile_of
from shore.lab.grid import SIDES, Cell, street

# How soon a pair is to meet, by the slower of the means that it takes.
PLAIN_S, PRIMED_S, SPRAYED_S = 5.0, 8.0, 10.0


def grid(rounds: int, seconds: int) -> list[Figure]:
    """Every pair of the eight kinds, from cold each time; a row of `detail` is a cell with all its runs."""
    del seconds
    cells: dict[str, list[Cell]] = {}
    with street() as made:
        for _ in range(rounds):
            for a in SIDES:
                for b in SIDES:
                    cells.setdefault(f"{a} x {b}", []).append(made.cell(a, b))
    return figures(cells)


def figures(cells: dict[str, list[Cell]]) -> list[Figure]:
    """What must hold of the grid, from the runs of its cells."""
    runs = [run for each in cells.values() for run in each]
    meeting = {name: each for name, each in cells.items() if each[0].meets}
    met = [name for name, each in meeting.items() if all(run.path == "direct" for run in each)]
    apart = [each for each in cells.values() if not each[0].meets]
    relayed = sum(all(run.path == "relay" for run in each) for each in apart)
    table = {
        name: [{"path": r.path, "direct_s": r.direct_s, "lost": r.lost, "first_s": r.first_s} for r in each]
        for name, each in cells.items()
    }
    first = max(NEVER if run.first_s is None else run.first_s for run in runs)
    found = [
        least(
            "grid",
            f"cells that are direct, of {len(meeting)} that can be",
            len(met),
            len(meeting),
            cells=table,
        ),
        least("grid", f"cells by the relay, of {len(apart)} that can only be", relayed, len(apart)),
        most("grid", "first packet in the slowest cell, s", first, 1.0),
        most("grid", "pings lost in all", sum(run.lost for run in runs), 0),
    ]
    kinds = {"": PLAIN_S, "burned": PRIMED_S, "symmetric": SPRAYED_S}
    for kind, target in kinds.items():
        times = [run.direct_s for run in runs if run.direct_s is not None and _means(run) == kind]
        if times:
            name = f"time to direct with a {kind} NAT, p95, s" if kind else "time to direct, p95, s"
            found.append(most("grid", name, percentile_of(times, 0.95), target))
    return found


def _means(cell: Cell) -> str:
    """Of the NATs that take longer, the one that is in it."""
    return next((kind for kind in ("symmetric", "burned") if kind in (cell.a, cell.b)), "")
