"""Two nodes of a mesh, each behind a NAT, with the relay between them: which pairs come to a direct path.

The first packet goes by the relay; a pair that can meet moves to a direct path, and no ping is lost by that.
"""

from collections.abc import Iterator

import pytest

from shore.lab.grid import SIDES, Cell, Side, Street, can_meet, street

pytestmark = [pytest.mark.lab]
# On a machine that does other things beside.
FIRST_WITHIN_S = 2.0
PLAIN_WITHIN_S = 10.0
QUICK: tuple[tuple[Side, Side], ...] = (("restricted", "restricted"),)
EVERY = tuple((a, b) for place, a in enumerate(SIDES) for b in SIDES[place:])
# One end would have to guess which of 64,000 ports the other one was given.
GUESSED: frozenset[Side] = frozenset({"firewall", "restricted", "burned"})
# Whose NATs are spoilt where one end is much later than the other: they meet mostly.
TIMED: frozenset[tuple[Side, Side]] = frozenset({("restricted", "burned"), ("burned", "burned")})


def needs_a_guess(a: Side, b: Side) -> bool:
    return "symmetric" in (a, b) and bool(GUESSED & {a, b})


@pytest.fixture(scope="module")
def grid() -> Iterator[Street]:
    with street() as made:
        yield made


def met(cell: Cell) -> bool:
    quick = cell.direct_s is not None and cell.direct_s <= PLAIN_WITHIN_S
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
    direct = [(a, b) for a, b in EVERY if can_meet(a, b) and not needs_a_guess(a, b)]
    timed = [grid.cell(a, b) for a, b in direct if (a, b) in TIMED]
    assert [cell for cell in timed if cell.lost or not is_prompt(cell)] == []
    cells = [grid.cell(a, b) for a, b in direct if (a, b) not in TIMED]
    assert [cell for cell in cells if not met(cell)] == []
    relayed = [grid.cell(a, b, patience_s=2.0) for a, b in EVERY if (a, b) not in direct]
    assert [cell for cell in relayed if cell.path != "relay" or cell.lost or not is_prompt(cell)] == []
