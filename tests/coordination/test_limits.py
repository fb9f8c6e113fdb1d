"""What others pay for is bounded: enrolments and signals."""

import os
from pathlib import Path

import pytest
from tests.coordination.node import invited, join, linked

from shore.coordination.limits import (
    ADVERTS,
    ENROLMENTS,
    GUESSES,
    SIGNALS,
    SIGNALS_A_SECOND,
    TELL_EVERY_S,
    Limits,
    TooOften,
)
from shore.wire import control

NOW = 1_000_000.0


def test_who_guesses_tokens_keeps_nobody_out_who_was_invited() -> None:
    limits = Limits()
    for _ in range(int(GUESSES)):
        limits.enrolment(None, NOW)
    with pytest.raises(TooOften, match="nobody made: try again in 1 s"):
        limits.enrolment(None, NOW)
    for _ in range(int(ENROLMENTS)):
        limits.enrolment("aaaaaaaa", NOW)
    with pytest.raises(TooOften, match="with this token"):
        limits.enrolment("aaaaaaaa", NOW)
    limits.enrolment("bbbbbbbb", NOW)
    limits.enrolment(None, NOW + 1)


def test_a_node_that_floods_is_told_once_and_others_are_heard() -> None:
    limits = Limits()
    assert all(limits.signal(1, NOW) for _ in range(int(SIGNALS)))
    with pytest.raises(TooOften, match="50 signals a second"):
        limits.signal(1, NOW)
    assert not any(limits.signal(1, NOW) for _ in range(100))
    assert limits.signal(2, NOW)
    assert all(limits.signal(1, NOW + 1) for _ in range(int(SIGNALS_A_SECOND)))
    assert not limits.signal(1, NOW + 1)
    assert sum(limits.signal(1, NOW + TELL_EVERY_S) for _ in range(int(9 * SIGNALS_A_SECOND))) == 450
    with pytest.raises(TooOften):
        limits.signal(1, NOW + TELL_EVERY_S)


def test_a_node_that_leads_elsewhere_again_and_again_is_refused_and_others_are_heard() -> None:
    limits = Limits()
    for _ in range(int(ADVERTS)):
        limits.advertise(1, NOW)
    with pytest.raises(TooOften, match="other prefixes too often: say again in 10 s"):
        limits.advertise(1, NOW)
    limits.advertise(2, NOW)
    limits.advertise(1, NOW + 10)


async def test_strangers_that_guess_are_refused_and_who_was_invited_comes_in(server: Path) -> None:
    codes: list[str] = []
    while "rate" not in codes and len(codes) < 2 * GUESSES:
        async with linked(server) as stranger:
            await stranger.hello()
            for _ in range(4):
                await stranger.ask(os.urandom(32), "x")
                codes.append((await stranger.hear(control.Refused)).code)
    assert codes.count("token") >= GUESSES
    assert "rate" in codes
    async with linked(server) as guest:
        await guest.hello()
        assert await guest.enrol(await invited(server), "guest") == "member"


async def test_a_flood_of_signals_is_cut_and_the_link_stays(server: Path) -> None:
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        for _ in range(int(SIGNALS) + 1000):
            await one.say(control.Signal(b"?" * 32, "initiate"))
        assert (await one.hear(control.Refused)).code == "rate"
        await one.say(control.Ping(7))
        one.said.clear()
        assert (await one.hear(control.Pong)).id == 7
        assert not [each for each in one.said if isinstance(each, control.Refused)]
