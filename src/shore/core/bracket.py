"""What rounds of probes say about a path's MTU: a size that passes, a size that does not, a gap to close.

A size is *proved* by one answer, whenever it comes; all smaller ones are with it. That it does not pass
can never be proved, only become more credible than chance: a probe may be lost like any other datagram.
So a round sends small *controls* around its probes. If no control is answered, the round says nothing.
If one is, each probe that stayed silent was lost by size or by chance, and the controls of late say how
good the chance is. Losses in n rounds without one answer count against a size, and against all larger
ones, when chance ** n is below `doubt`; never before three rounds (MAX_PROBES of RFC 8899).

The smallest size with a loss is *doubtful*. The gap below it is searched before the doubt is settled,
so a search costs rounds for its steps and three more, not three for each step. The first steps are
sizes that occur in the world, all at once; then the gap is divided.
"""

# Ethernet less what is put in front of it: PPPoE, GRE or 6in4, clouds, tunnels in tunnels; then jumbo.
LADDER = (576, 1124, 1200, 1280, 1340, 1400, 1420, 1460, 1480, 1492, 1500, 4352, 8192, 9000)
CONTROL = 256
RESOLUTION = 16
LEAST_ROUNDS = 3
# Parts a gap is divided into by one round.
PARTS = 4


class Bracket:
    """The gap between `low`, which passes, and `high`, which is judged not to. Sizes in bytes."""

    def __init__(self, base: int, ceiling: int) -> None:
        self.base = base
        self.ceiling = ceiling
        self.low = CONTROL
        self.high = ceiling + 1
        self._losses: list[set[int]] = []

    @property
    def closed(self) -> bool:
        """Whether nothing is left to find."""
        return self.low >= self.ceiling or self.high <= min(self.ceiling, self.low + RESOLUTION)

    @property
    def doubtful(self) -> int | None:
        """The smallest size that a loss counts against."""
        return min((size for lost in self._losses for size in lost), default=None)

    def prove(self, size: int) -> None:
        """A probe of this size was answered."""
        self.low = max(self.low, size)
        self._losses = [kept for lost in self._losses if (kept := {s for s in lost if s > self.low})]
        if self.high <= self.low:
            self.high = self.ceiling + 1

    def refuse(self, size: int) -> None:
        """Our own device does not take this size: that is certain."""
        if size > self.low:
            self.high = min(self.high, size)

    def lose(self, sizes: set[int]) -> None:
        """In a round whose controls were answered, probes of these sizes were not."""
        lost = {size for size in sizes if size > self.low}
        if lost:
            self._losses.append(lost)

    def judge(self, chance: float, doubt: float) -> None:
        """Lower `high` to the smallest size that was lost too often for a loss of this chance."""
        for size in sorted({size for lost in self._losses for size in lost}):
            rounds = sum(min(lost) <= size for lost in self._losses)
            if rounds >= LEAST_ROUNDS and chance**rounds <= doubt:
                self.high = min(self.high, size)
                return

    def steps(self) -> tuple[int, ...]:
        """The sizes to probe in the next round, in ascending order."""
        doubtful = self.doubtful
        top = self.high if doubtful is None else min(self.high, doubtful)
        # Sizes below the base are of interest only when it does not pass.
        known = [
            s for s in (*LADDER, self.ceiling) if self.low < s < top and (s >= self.base or top <= self.base)
        ]
        inner = sorted(set(known)) if known else _divide(self.low, top)
        return (*inner, top) if top < self.high else tuple(inner)


def _divide(low: int, top: int) -> list[int]:
    parts = min(PARTS, -(-(top - low) // RESOLUTION))
    return [low + (top - low) * part // parts for part in range(1, parts)]
