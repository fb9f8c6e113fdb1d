"""Sleep is what boottime saw and monotonic time did not; a clock that was set, what neither saw."""

from shore.io.clock import SleepWatch, WallWatch


def test_only_a_sleep_worth_the_name_is_told_and_each_once() -> None:
    boot, awake = [100.0], [100.0]
    watch = SleepWatch(lambda: boot[0], lambda: awake[0])
    boot[0], awake[0] = 105.0, 105.0
    assert watch.slept_s() == 0.0
    boot[0], awake[0] = 3706.0, 106.0
    assert watch.slept_s() == 3600.0
    boot[0], awake[0] = 3707.5, 107.0
    assert watch.slept_s() == 0.0


def test_the_wall_clock_is_read_each_minute_and_when_it_was_set() -> None:
    wall, awake = [1e9], [100.0]
    watch = WallWatch(lambda: wall[0], lambda: awake[0])

    def passes(seconds: float, *, set_by: float = 0.0) -> bool:
        awake[0] += seconds
        wall[0] += seconds + set_by
        return watch.is_due()

    assert [passes(30), passes(29), passes(1), passes(30)] == [False, False, True, False]
    assert [passes(1, set_by=-5), passes(1), passes(1, set_by=3600), passes(1)] == [True, False, True, False]
