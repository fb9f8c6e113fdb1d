"""How long a NAT remembers a mapping that nobody uses, found by trials.

A trial says that a mapping lived for so many seconds, or that it did not. The search begins at 19 s, since
whoever was told nothing behaves as if 20 s were the truth; it climbs a ladder while mappings live, goes
down it while they die, and then halves what is left until a sixth more is known to be too long. Nobody needs
to know more than 150 s. What an earlier search found is where the next one begins, and no more: until a
mapping has lived, here and now, we behave as if nothing were known.

The interval keeps a fifth in hand, as NATs sweep when they like and datagrams are late.
"""

from shore.model.desired import FIRST_QUIET_S
from shore.model.links import Lifetime

LADDER = (6, 10, 14, 19, 27, 45, 80, 110, 150)
FIRST = 19
CLOSE = 1.15
SHARE = 0.8
LEAST_S, MOST_S = 5, 120


class Search:
    """The search behind one NAT."""

    def __init__(self, remembered: Lifetime | None = None) -> None:
        self.lives_s = 0
        self.dies_s: int | None = None
        lives_s = remembered.lives_s if remembered and remembered.lives_s else FIRST
        self._begin: int | None = min(max(lives_s, LADDER[0]), LADDER[-1])

    def next(self) -> int | None:
        """How many seconds to try; None if enough is known."""
        if self._begin is not None:
            return self._begin
        lives, dies = self.lives_s, self.dies_s
        if dies is None:
            return next((step for step in LADDER if step > lives), None)
        if not lives:
            return next((step for step in reversed(LADDER) if step < dies), None)
        return None if dies - lives <= 1 or dies <= lives * CLOSE else (lives + dies) // 2

    def lived(self, seconds: int) -> None:
        """A mapping lived for so long."""
        self.lives_s, self._begin = max(self.lives_s, seconds), None

    def died(self, seconds: int) -> None:
        """It did not."""
        self.dies_s, self._begin = seconds, None
        if self.lives_s >= seconds:
            self.lives_s = 0

    def again(self) -> None:
        """Time has passed: verify what is known, and see whether it is longer now."""
        self._begin, self.dies_s = self.lives_s or FIRST, None

    def doubt(self) -> None:
        """It may be another NAT: what lived counts no more until it has lived again."""
        if self.lives_s:
            self._begin, self.lives_s, self.dies_s = self.lives_s, 0, None

    def quiet_s(self) -> int:
        """How long a path may be left without a datagram."""
        if self.lives_s:
            return min(max(int(self.lives_s * SHARE), LEAST_S), MOST_S)
        if self.dies_s is not None and self._begin is None:
            return min(max(self.dies_s // 2, LEAST_S), FIRST_QUIET_S)
        return FIRST_QUIET_S

    def reason(self) -> str:
        """Why so long, in a few words."""
        if self.lives_s:
            more = "" if self.next() is None else ", or longer"
            return f"the NAT remembers a mapping for {self.lives_s} s{more}"
        if self.dies_s is not None and self._begin is None:
            return f"the NAT forgets a mapping within {self.dies_s} s"
        return "a first guess: how long the NAT remembers a mapping is not known yet"
