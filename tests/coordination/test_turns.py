"""Whose turn it is: bursts are one telling, and nobody waits for what others are told."""

import random

from shore.coordination.turns import COALESCE_S, GAP_S, Turns

NODES, COST_S, AT_ONCE = 1000, 0.00015, 32
MOVES_A_SECOND, SECONDS = 100 / 60, 120.0


def test_a_burst_is_over_before_anybody_is_told() -> None:
    turns = Turns()
    turns.wait((1, 2), 2, 10.0)
    assert turns.next() == 10.0 + COALESCE_S
    assert turns.take(9, 10.0 + COALESCE_S / 2) == ()
    turns.wait((1, 3), 2, 10.0 + COALESCE_S / 2)
    assert turns.take(9, 10.0 + COALESCE_S) == (1, 2)
    assert turns.take(9, 10.0 + 2 * COALESCE_S) == (3,)
    assert turns.next() is None


def test_who_waits_longest_is_told_first() -> None:
    turns = Turns()
    turns.wait((7,), 2, 10.0)
    turns.wait((1,), 2, 10.01)
    assert turns.take(1, 11.0) == (7,)
    assert turns.take(1, 11.0) == (1,)


def test_of_few_nobody_waits_because_it_was_told_a_moment_ago() -> None:
    turns = _after_telling(links=2)
    turns.wait((1,), 2, 10.0)
    assert turns.next() == 10.0 + COALESCE_S


def test_of_many_who_was_told_a_moment_ago_lets_others_speak_first() -> None:
    turns = _after_telling(links=10 * NODES)
    turns.wait((1, 2), 10 * NODES, 10.0)
    assert turns.take(9, 10.0 + COALESCE_S) == (2,)
    assert turns.next() == 10.0 + GAP_S


def test_who_is_forgotten_is_not_told_and_begins_anew() -> None:
    turns = _after_telling(links=10 * NODES)
    turns.wait((1,), 10 * NODES, 10.0)
    turns.forget(1)
    turns.wait((1,), 10 * NODES, 10.1)
    assert turns.take(9, 10.1) == ()
    assert turns.take(9, 10.0 + GAP_S) == (1,)


def test_a_thousand_hear_of_a_hundred_moves_a_minute_within_a_quarter_of_a_second() -> None:
    waits = sorted(_played(SECONDS))
    assert len(waits) == (NODES - 1) * int(MOVES_A_SECOND * SECONDS)
    assert waits[int(len(waits) * 0.95)] < 0.25


def test_in_a_storm_nobody_is_told_more_than_five_times_a_second() -> None:
    turns, now, told = Turns(), 0.0, 0
    while now < 10.0:
        turns.wait(range(NODES), NODES, now)
        count = len(turns.take(AT_ONCE, now))
        told += count
        now += count * COST_S if count else 0.001
        if count:
            turns.took(count * COST_S, count)
    assert NODES * 40 < told < NODES * 52


def _after_telling(links: int) -> Turns:
    """Number 1 was told at the tenth second, as its telling costs `COST_S`."""
    turns = Turns()
    for _ in range(100):
        turns.took(COST_S, 1)
    turns.wait((1,), links, 9.0)
    assert turns.take(9, 10.0) == (1,)
    return turns


def _played(seconds: float) -> list[float]:
    """Nodes move by chance, on a core that is ours alone; how long each peer waited to hear of each move."""
    chance, turns, now = random.Random(1), Turns(), 0.0
    untold: dict[int, list[float]] = {number: [] for number in range(NODES)}
    waits: list[float] = []
    moves = sorted(chance.uniform(0, seconds) for _ in range(int(MOVES_A_SECOND * seconds)))
    while moves or turns.next() is not None:
        while moves and moves[0] <= now:
            at, mover = moves.pop(0), chance.randrange(NODES)
            peers = [number for number in range(NODES) if number != mover]
            for number in peers:
                untold[number].append(at)
            turns.wait(peers, NODES, now)
        taken = turns.take(AT_ONCE, now)
        for number in taken:
            now += COST_S
            waits += [now - at for at in untold[number]]
            untold[number].clear()
        if taken:
            turns.took(COST_S * len(taken), len(taken))
        else:
            now = min(each for each in (turns.next(), *moves[:1]) if each is not None)
    return waits
