"""Whether the path in use loses packets, told as soon as its counts allow it, and not before.

Two suppositions are held against each other: the path loses 1 % of what it is given, or it loses 5 %. A
message that was lost speaks for the second by ln(5/1) = 1.61, one that arrived against it by
ln(99/95) = 0.041. The sum, kept from falling below zero, is the *evidence* (E. S. Page, Continuous inspection
schemes, Biometrika 41, 1954): it stays near zero where less than 2.5 % is lost and rises where more is. At
CERTAIN the path is called lossy, until the evidence is gone, which MOST bounds: 600 messages without a loss.

At 5 % a message adds 0.041 on average, at 20 % 0.29, so that 300 messages tell the one and 43 the other. At
200 data messages a second with 7 probes beside them that takes 1.5 s and 0.2 s; at 20 data messages with 20
probes (the plane probes a sparse path that loses something more often) 8 s and 1.1 s. Of excursions from
zero on a path that loses 1 %, one in e^12.5 = 270,000 gets there by Wald's bound, and of those that have
begun with a loss, one in 54,000. Some 1,200 begin in ten minutes at 207 messages a second, which is one false
alarm in 40 times ten minutes at most. tests/core/test_evidence.py plays all that: with readings as they come,
half of the runs are certain of 5 % within 2.3 s at 200 a second and 8.2 s at 20, of 20 % at 20 within 2.1 s.
Losses are held to be independent: bursts that average 1 % are mistaken for more in the end, but later than
by their share within a window.

Counts come in *readings*: one a second, or two where much flows or the evidence makes us WARY. A gap, or the
burst that overfills a queue, is all in one or two of them and says nothing about the next second; so no
reading adds more than MOST_STEP, and it takes three. Where many packets flow, a reading without loss takes
all evidence away.

What is under way makes counts of what arrived overtake those of what was sent, or fall behind: a reading in
which more arrived than was sent pays back what the last ones called lost, and the rest is held against the
next one.

The share that is told is the lower bound (Wilson, 95 %) of what was lost since the evidence last was zero,
where the loss most likely began; what is older than FRESH seconds counts half, again and again.
"""

from math import log, sqrt

SOUND, LOSSY = 0.01, 0.05
FOR = log(LOSSY / SOUND)
AGAINST = log((1 - SOUND) / (1 - LOSSY))
CERTAIN = 12.5
MOST = 25.0
MOST_STEP = 5.0
WARY = 3.0
# Messages a second that are much.
MUCH = 100.0
# Messages that arrived before they were counted as sent.
MOST_AHEAD = 64
FRESH = 15.0
CONFIDENCE = 1.96


class Evidence:
    """One path's counts, from reading to reading."""

    def __init__(self) -> None:
        self._before: tuple[int, int, float] | None = None
        self._rate = 0.0
        self._weight = 0.0
        self._is_certain = False
        # Since the evidence was zero, and how many arrived too early to be held against those.
        self._sent = self._lost = 0.0
        self._since = 0.0
        self._ahead = 0.0

    def take(self, sent: int, arrived: int, now: float) -> float:
        """Take how many messages were sent and arrived so far. Returns `share()`."""
        before, self._before = self._before, (sent, arrived, now)
        # Counts that fell began anew, here or where the peer was restarted.
        if before is not None and sent >= before[0] and arrived >= before[1]:
            sent -= before[0]
            self._rate = sent / max(now - before[2], 0.1)
            self._weigh(sent, self._missing(sent - (arrived - before[1])), now)
        return self.share()

    @property
    def is_wary(self) -> bool:
        """Whether more counts are wanted soon."""
        return self._weight >= WARY or self._rate >= MUCH

    def share(self) -> float:
        """The share that is lost at least; 0 while none is certain."""
        return lower_bound(self._lost / self._sent, self._sent) if self._is_certain else 0.0

    def _missing(self, lost: float) -> float:
        """How many of a reading are lost, once it has settled with those around it."""
        lost -= self._ahead
        back = min(max(-lost, 0.0), self._lost)
        self._lost -= back
        self._weight -= back * (FOR + AGAINST)
        self._ahead = min(max(-lost - back, 0.0), MOST_AHEAD)
        return max(lost, 0.0)

    def _weigh(self, sent: int, lost: float, now: float) -> None:
        step = lost * FOR - (sent - lost) * AGAINST
        self._weight = min(self._weight + min(step, MOST_STEP), MOST)
        if self._weight <= 0:
            self._weight, self._sent, self._lost = 0.0, 0.0, 0.0
            self._since, self._is_certain = now, False
            return
        self._sent += sent
        self._lost += lost
        self._is_certain |= self._weight >= CERTAIN
        if now - self._since > FRESH:
            self._sent, self._lost, self._since = self._sent / 2, self._lost / 2, now


def lower_bound(share: float, count: float) -> float:
    """Wilson's lower bound of a share seen among `count`."""
    z = CONFIDENCE
    centre = share + z * z / (2 * count)
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max((centre - spread) / (1 + z * z / count), 0.0)
