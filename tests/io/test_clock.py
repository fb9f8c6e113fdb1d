"""Sleep is what boottime saw and monotonic time did not."""

from shore.io.clock import SleepWatch


def test_only_a_sleep_worth_the_name_is_told_and_each_once() -> None:
    boot, awake = [100.0], [100.0]
    watch = SleepWatch(lambda: boot[0], lambda: awake[0])
    boot[0], awake[0] = 105.0, 105.0
    assert watch.slept_s() == 0.0
    boot[0], awake[0] = 3706.0, 106.0
    assert watch.slept_s() == 3600.0
    boot[0], awake[0] = 3707.5, 107.0
    assert watch.slept_s() == 0.0
