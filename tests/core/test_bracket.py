"""What losses say about sizes."""

from hypothesis import given
from hypothesis import strategies as st

from shore.core.bracket import CONTROL, LEAST_ROUNDS, RESOLUTION, Bracket


def test_the_first_steps_are_the_usual_sizes_from_the_base_up() -> None:
    assert Bracket(1280, 1500).steps() == (1280, 1340, 1400, 1420, 1460, 1480, 1492, 1500)


def test_the_devices_own_mtu_is_one_of_them() -> None:
    assert Bracket(1200, 1476).steps()[-2:] == (1460, 1476)


def test_smaller_sizes_come_in_when_the_base_is_lost() -> None:
    bracket = Bracket(1200, 1280)
    bracket.lose({1200, 1280})
    assert bracket.steps() == (576, 1124, 1200)


def test_the_gap_below_a_loss_is_divided_while_the_loss_is_repeated() -> None:
    bracket = Bracket(1280, 1500)
    bracket.prove(1340)
    bracket.lose({1400, 1420, 1460, 1480, 1492, 1500})
    assert bracket.steps() == (1355, 1370, 1385, 1400)


def test_three_rounds_settle_it_where_nothing_else_is_lost() -> None:
    bracket = Bracket(1280, 1500)
    bracket.prove(1492)
    for _ in range(LEAST_ROUNDS):
        bracket.judge(1 / 8, 2e-3)
        assert not bracket.closed
        bracket.lose({1500})
    bracket.judge(1 / 8, 2e-3)
    assert (bracket.low, bracket.high, bracket.closed) == (1492, 1500, True)


def test_where_half_is_lost_anyway_it_takes_nine() -> None:
    bracket = Bracket(1280, 1500)
    rounds = 0
    while bracket.high > 1500:
        bracket.lose({1500})
        bracket.judge(1 / 2, 2e-3)
        rounds += 1
    assert rounds == 9


def test_a_loss_counts_against_larger_sizes_too() -> None:
    bracket = Bracket(1280, 1500)
    for lost in ({1460}, {1420}, {1400}):
        bracket.lose(lost)
    bracket.judge(0.01, 2e-3)
    assert bracket.high == 1460


def test_an_answer_overrules_any_judgement() -> None:
    bracket = Bracket(1280, 1500)
    for _ in range(LEAST_ROUNDS):
        bracket.lose({1400})
    bracket.judge(0.01, 2e-3)
    bracket.prove(1400)
    assert (bracket.low, bracket.high, bracket.doubtful) == (1400, 1501, None)


@given(
    base=st.sampled_from((1200, 1280)),
    ceiling=st.integers(1280, 20_000),
    truth=st.integers(CONTROL, 20_000),
)
def test_without_loss_every_mtu_is_found(base: int, ceiling: int, truth: int) -> None:
    bracket = Bracket(base, ceiling)
    for _ in range(20):
        if bracket.closed:
            break
        steps = bracket.steps()
        assert steps == tuple(sorted(set(steps)))
        assert all(bracket.low < size < bracket.high for size in steps)
        for size in steps:
            if size <= truth:
                bracket.prove(size)
        bracket.lose({size for size in steps if size > truth})
        bracket.judge(0.01, 2e-3)
    found = min(truth, ceiling)
    assert bracket.closed
    assert found - RESOLUTION < bracket.low <= found
