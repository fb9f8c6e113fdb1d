"""A token bucket for each who asks."""

from shore.coordination.allowance import MOST_KNOWN, Allowance


def test_so_many_at_once_then_so_many_a_second() -> None:
    allowance = Allowance(burst=3.0, a_second=2.0)
    assert [allowance.take("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert allowance.take("b", 10.0) == 0.0
    assert allowance.take("a", 10.5) == 0.0
    assert allowance.take("a", 10.5) > 0.0


def test_a_clock_that_went_back_keeps_nobody_waiting() -> None:
    allowance = Allowance(burst=1.0, a_second=1.0)
    assert allowance.take("a", 1000.0) == 0.0
    assert allowance.take("a", 10.0) == 1.0
    assert allowance.take("a", 11.0) == 0.0


def test_only_so_many_are_remembered() -> None:
    allowance = Allowance(burst=1.0, a_second=1.0)
    for number in range(MOST_KNOWN + 1):
        assert allowance.take(str(number), 0.0) == 0.0
    assert allowance.take("0", 0.0) == 0.0
