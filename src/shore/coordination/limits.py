"""How much a stranger or a member may cost others: bounded at the door, and refused in words.

Behind the relay nobody sees where a stranger comes from, so strangers are told apart by what they bring. A
token that this network made has an allowance of its own; all who bring anything else share one, so that
guessing is slow and keeps nobody out who was invited. A signal costs its receiver probes: each node has an
allowance, large enough for one to each peer at once. What is beyond is dropped, and said now and then. What a
node says that it leads to is kept, so it may say something else a few times.
"""

import math

from shore.coordination.allowance import Allowance

ENROLMENTS, ENROLMENTS_A_SECOND = 200.0, 10.0
GUESSES, GUESSES_A_SECOND = 20.0, 1.0
SIGNALS, SIGNALS_A_SECOND = 2048.0, 50.0
ADVERTS, ADVERTS_A_SECOND = 20.0, 0.1
TELL_EVERY_S = 10.0


class TooOften(Exception):
    """Of what, and when it may be tried again. One sentence."""


class Limits:
    """Of one server."""

    def __init__(self) -> None:
        self._enrolments = Allowance(ENROLMENTS, ENROLMENTS_A_SECOND)
        self._guesses = Allowance(GUESSES, GUESSES_A_SECOND)
        self._signals = Allowance(SIGNALS, SIGNALS_A_SECOND)
        self._adverts = Allowance(ADVERTS, ADVERTS_A_SECOND)
        self._told_at: dict[int, float] = {}

    def enrolment(self, token: str | None, now: float) -> None:
        """Somebody asks to enrol with a token of this prefix, or with what is none. Raises TooOften."""
        again_in = self._guesses.take("", now) if token is None else self._enrolments.take(token, now)
        if again_in:
            who = "with tokens that nobody made" if token is None else "with this token"
            raise TooOften(f"too many ask to join {who}: try again in {math.ceil(again_in)} s")

    def signal(self, number: int, now: float) -> bool:
        """Whether a node's signal is passed on. Raises TooOften in place of False, where it is to be told."""
        if not self._signals.take(str(number), now):
            return True
        if 0 <= now - self._told_at.get(number, -TELL_EVERY_S) < TELL_EVERY_S:
            return False
        self._told_at[number] = now
        raise TooOften(f"a node may send {SIGNALS_A_SECOND:.0f} signals a second: those beyond are dropped")

    def advertise(self, number: int, now: float) -> None:
        """A node says that it leads elsewhere than before, which is written down. Raises TooOften."""
        again_in = self._adverts.take(str(number), now)
        if again_in:
            raise TooOften(
                f"other prefixes too often: say again in {math.ceil(again_in)} s where this node leads"
            )

    def forget(self, number: int) -> None:
        """A node has no link any more."""
        self._told_at.pop(number, None)
