"""Handshakes are counted alike, whatever an implementation makes of the time of the latest one."""

from shore.lab.handshakes import handshakes

BEGAN = 1_800_000_000


def test_unix_times_stand_still_between_handshakes() -> None:
    assert handshakes([0, 0, *[BEGAN] * 120, *[BEGAN + 120] * 120, *[BEGAN + 240] * 20]) == 3


def test_ages_grow_and_fall_with_a_handshake() -> None:
    assert handshakes([*range(120), *range(120), *range(20)]) == 3


def test_an_age_may_be_read_late_and_never_at_zero() -> None:
    assert handshakes([*range(2, 121, 3), *range(1, 119, 3), 2, 5, 8]) == 3


def test_unix_times_that_move_by_a_second_are_one_handshake() -> None:
    assert handshakes([BEGAN, BEGAN + 1, BEGAN, BEGAN, BEGAN - 1]) == 1


def test_without_a_handshake_there_is_none() -> None:
    assert handshakes([]) == handshakes([0, 0, 0]) == 0


def test_handshakes_that_are_closer_than_usual_are_counted_if_asked() -> None:
    assert handshakes([BEGAN, BEGAN + 5, BEGAN + 5, BEGAN + 9], least_jump=2) == 3
