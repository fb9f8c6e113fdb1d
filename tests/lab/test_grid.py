"""Two nodes of a mesh, each behind a NAT, with the relay between them: which pairs come to a direct path.

The first packet goes by the relay; a pair that can meet moves to a direct path, and no ping is lost by that.
"""

from collections.abc import Iterator

import pytest

from shore.lab.grid import DRAWN, SIDES, Cell, Side, Street, can_meet, street

pytestmark = [pytest.mark.lab]
# On a machine that does other things beside.
FIRST_WITHIN_S = 2.0
PLAIN_WITHIN_S = 10.0
SPRAYED_WITHIN_S = 15.0
# The second one is found by a spray.
QUICK: tuple[tuple[Side, Side], ...] = (("restricted", "restricted"), ("symmetric", "restricted"))
EVERY = tuple((a, b) for place, a in enumerate(SIDES) for b in SIDES[place:])
# Who comes first, and a NAT that counts its ports.
BESIDE: tuple[tuple[Side, Side], ...] = (
    ("restricted", "symmetric"),
    ("burned", "restricted"),
    ("sequential", "restricted"),
    ("burned", "sequential"),
)


@pytest.fixture(scope="module")
def grid() -> Iterator[Street]:
    with street() as made:
        yield made


def met(cell: Cell) -> bool:
    within_s = SPRAYED_WITHIN_S if DRAWN & {cell.a, cell.b} else PLAIN_WITHIN_S
    quick = cell.direct_s is not None and cell.direct_s <= within_s
    return cell.path == "direct" and quick and cell.lost == 0 and is_prompt(cell)


def is_prompt(cell: Cell) -> bool:
    return cell.first_s is not None and cell.first_s <= FIRST_WITHIN_S


@pytest.mark.parametrize("sides", QUICK, ids=" and ".join)
def test_nats_that_can_meet_come_to_a_direct_path_and_lose_no_ping_on_the_way(
    grid: Street, sides: tuple[Side, Side]
) -> None:
    cell = grid.cell(*sides)
    assert met(cell), cell


def test_nats_that_cannot_meet_stay_with_the_relay_and_netcheck_says_what_would_help(grid: Street) -> None:
    cell = grid.cell("symmetric", "symmetric")
    assert cell.path == "relay"
    assert is_prompt(cell), cell
    assert cell.lost == 0, cell
    said = grid.members["a"].shore("netcheck")
    assert "NAT: another mapping for each peer (endpoint-dependent)" in said
    assert "suggestion: the router shows each peer another port" in said


@pytest.mark.slow
def test_every_pair_of_nats_meets_or_stays_with_the_relay_and_loses_no_ping(grid: Street) -> None:
    cells = [grid.cell(a, b) for a, b in (*EVERY, *BESIDE) if can_meet(a, b)]
    assert [cell for cell in cells if not met(cell)] == []
    relayed = [grid.cell(a, b, patience_s=2.0) for a, b in EVERY if not can_meet(a, b)]
    assert [cell for cell in relayed if cell.path != "relay" or cell.lost or not is_prompt(cell)] == []
