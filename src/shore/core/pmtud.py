"""The search for a path's MTU, after RFC 8899 (DPLPMTUD): one object per path, no word from routers needed.

Sizes are those of whole outer packets: IP header, UDP header and all that follows. So 1500 is Ethernet,
whatever the family. Probes are sealed or come back through the tunnel, so only the peer can answer them.

The phases are the RFC's, read off what is known:

    BASE             nothing is proved; `mtu` is the base, 1200 for IPv4 and 1280 for IPv6
    SEARCHING        `mtu` is proved and there may be more
    SEARCH_COMPLETE  nothing within 16 bytes above `mtu` passes
    ERROR            the base does not pass; `mtu` is what does

A search goes in rounds. A round is one burst: a small control, probes in ascending order, another
control. The last control is behind the large probes, so on a path that keeps order they have arrived
when it has; the round ends a moment after its answer. `shore.core.bracket` says which sizes a round
probes and what its losses mean. Loss as such is no smaller MTU: controls are lost as well, and the more
of them are, the more rounds it takes to judge a size. A path that answers no control is silent; it is
asked by controls alone, ever more slowly, and keeps its MTU.

The first search begins with the usual sizes all at once, so a usual MTU is known after one round trip,
any other after a few. Whatever larger size is proved is used at once.

A proved MTU is never given up on suspicion. Suspicion makes a *verification*: a search from below that
begins with the MTU itself. Usually that is answered and all is over. If it is not, four or more rounds
must agree (`DOUBT_OF_PROVED`) before it shrinks, and by then the new size has been found beside it.
Suspicious are: evidence from data (the peer's counts say that large datagrams vanish and small ones do
not, a black hole; or data through a foreign peer stalls), which cannot be forged and is followed up at
most once a second; weak evidence (many large datagrams are missing among more that came, and no small one
is), which loss explains as well, at most once in five seconds; an ICMP message, which anybody can send, so
it is only a hint, followed up ever more slowly as long as hints turn out to be wrong; and events on the
path, which also look for more. Without any reason more is looked for every ten minutes.

Bulk on a path that shrank waits for the end of the verification, so its first rounds are hardly longer
than a round trip. Meanwhile nobody knows whether what is lost is lost for its size, and for a while after
the path was found smaller the counts still miss what was on its way: `may_explain_loss` and `shrank` say
so to whoever judges the path by its losses.

What goes wrong is safe: an answer that comes after its size was judged lost reopens the search, and a
size judged lost by chance is tried again by the next raise, which comes sooner where loss is high.
"""

import enum
from collections import deque

import msgspec

from shore.core import timers
from shore.core.bracket import CONTROL, Bracket

BASE_V4, BASE_V6 = 1200, 1280
# The odds at which a size is held to be lost by its size: when looking for more, and before giving up
# what was proved. With no control lost lately these are three rounds, and four to six.
DOUBT = 2e-3
DOUBT_OF_PROVED = 1e-6
# Controls that the chance of loss is judged by.
LATE_CONTROLS = 40
# Probes whose late answers are still understood.
REMEMBERED = 256
# A chance of loss that leaves a search unsure.
LOSSY = 0.2
# Probes that a search may send in a second.
MOST_PROBES = 50
# Rounds without any answer after which only controls are sent.
SILENT_ROUNDS = 2
# Large datagrams that must have vanished before it means anything, and where others arrived.
LEAST_VANISHED = 4
MANY_VANISHED = 8


class SendProbe(msgspec.Struct, frozen=True):
    """Send a datagram that makes an outer packet of `size` bytes, DF set; the answer names `token`."""

    size: int
    token: int


class UsePathMtu(msgspec.Struct, frozen=True):
    """Let data be as large as this; `proved` says whether DF may be set."""

    mtu: int
    proved: bool
    why: str


class Arrivals(msgspec.Struct, frozen=True):
    """Of the data of one interval, what the peer says arrived; large as `PathMtu.large` says."""

    large_sent: int
    large_arrived: int
    small_sent: int
    small_arrived: int


NOTHING = Arrivals(0, 0, 0, 0)


class Phase(enum.Enum):
    """RFC 8899, section 5.2."""

    BASE = "base"
    SEARCHING = "searching"
    SEARCH_COMPLETE = "search complete"
    ERROR = "error"


MtuAction = SendProbe | UsePathMtu


class _Round:
    def __init__(self, now: float, due: float) -> None:
        self.sent_at = now
        self.due = due
        self.waiting: dict[int, int] = {}
        self.controls: tuple[int, int] = (0, 0)

    @property
    def controls_answered(self) -> list[bool]:
        return [token not in self.waiting for token in self.controls]


class PathMtu:
    """One path's MTU and the search for it. `ceiling` is the MTU of the uplink's device."""

    def __init__(self, family: int, ceiling: int) -> None:
        self.family = family
        self.ceiling = ceiling
        self.mtu = self.base
        self.proved = False
        self._bracket = Bracket(self.base, ceiling)
        self._verifying = False
        # When the verification began, and how many of its rounds may still be short ones.
        self._doubted_at = float("-inf")
        self._urgent_rounds = 0
        self._shrank_at = float("-inf")
        self._round: _Round | None = None
        self._next_round: float | None = None
        self._raise_at: float | None = None
        self._raises = 0
        self._tokens = 0
        self._sent: dict[int, tuple[int, float]] = {}
        self._latest: deque[float] = deque(maxlen=MOST_PROBES)
        self._controls: deque[bool] = deque(maxlen=LATE_CONTROLS)
        self._silent_rounds = 0
        self._rtt: float | None = None
        self._deviation = 0.0
        self._vanished = NOTHING
        self._evidence_from = self._weak_from = 0.0
        self._hints_from = 0.0
        self._hints_in_vain = 0

    @property
    def base(self) -> int:
        """What is tried first, and used while nothing is proved."""
        return min(BASE_V4 if self.family == 4 else BASE_V6, self.ceiling)

    @property
    def large(self) -> int:
        """From which size on a datagram counts as large in evidence."""
        return self.mtu - self.mtu // 8

    @property
    def phase(self) -> Phase:
        """Where the search stands."""
        if not self.proved:
            return Phase.BASE
        if self.mtu < self.base:
            return Phase.ERROR
        return Phase.SEARCHING if self._is_open else Phase.SEARCH_COMPLETE

    def start(self, now: float) -> list[MtuAction]:
        """The path is new, or leads somewhere else: what was proved is void.

        A burst of large probes is nothing for an address that has never answered: an ordinary probe first.
        """
        self._sent.clear()
        self._controls.clear()
        self._silent_rounds = 0
        self._rtt, self._deviation = None, 0.0
        self._vanished = NOTHING
        self._raises = 0
        shrunk = self._publish(self.base, False, "nothing is known of the path")
        return [*shrunk, *self._search(now)]

    def disturbed(self, now: float) -> list[MtuAction]:
        """Something happened to the path: it may carry less than before, or more."""
        if not self.proved:
            return self.start(now)
        self._silent_rounds = self._raises = 0
        return self._verify(now, self.ceiling)

    def ceiling_changed(self, ceiling: int, now: float) -> list[MtuAction]:
        """The uplink's device has another MTU."""
        if ceiling == self.ceiling:
            return []
        self.ceiling = ceiling
        lowered = []
        if ceiling < self.mtu:
            lowered = self._publish(ceiling, self.proved, "the device carries no more")
        return [*lowered, *self.disturbed(now)]

    def answered(self, token: int, now: float) -> list[MtuAction]:
        """A probe was answered; a second answer says nothing."""
        size, sent_at = self._sent.pop(token, (0, now))
        if size == 0:
            return []
        self._measure(now - sent_at)
        was_open = self._is_open
        self._bracket.prove(min(size, self.ceiling))
        learnt = self._learn(now)
        if not was_open and not self._bracket.closed:
            return [*learnt, *self._open_round(now)]
        return [*learnt, *self._heard(token, now)]

    def refused(self, token: int, now: float) -> list[MtuAction]:
        """Our own device did not take the probe (EMSGSIZE)."""
        size, _ = self._sent.pop(token, (0, now))
        if size <= CONTROL:
            return []
        self._bracket.refuse(size)
        return [*self._learn(now), *self._heard(token, now)]

    def hinted(self, mtu: int, now: float) -> list[MtuAction]:
        """An ICMP message claims that the path carries no more than this."""
        if not self._is_settled or not CONTROL <= mtu < self.mtu or now < self._hints_from:
            return []
        waits = timers.MTU_HINT_INTERVAL
        self._hints_from = now + waits[min(self._hints_in_vain, len(waits) - 1)]
        self._hints_in_vain += 1
        return self._verify(now, self.mtu, (mtu,))

    def suspected(self, now: float) -> list[MtuAction]:
        """Data stalls in a way that a black hole would explain."""
        if not self._is_settled or now < self._evidence_from:
            return []
        self._evidence_from = now + timers.MTU_EVIDENCE_INTERVAL
        return self._verify(now, self.mtu)

    @property
    def in_doubt(self) -> bool:
        """Whether it is being verified."""
        return self._verifying

    def may_explain_loss(self, now: float) -> bool:
        """Whether it is just being verified that what is lost is not lost for its size."""
        return self._verifying and now < self._doubted_at + timers.MTU_DOUBT

    def shrank(self, now: float) -> bool:
        """Whether it was found to carry less than before so lately that what was lost still counts."""
        return now < self._shrank_at + timers.MTU_AFTERMATH

    def arrivals(self, report: Arrivals, now: float) -> list[MtuAction]:
        """The peer reported what arrived of our data."""
        hurried = self._stop_waiting(now) if report.large_arrived or report.small_arrived else []
        seen = self._vanished
        self._vanished = Arrivals(
            seen.large_sent + report.large_sent,
            seen.large_arrived + report.large_arrived,
            seen.small_sent + report.small_sent,
            seen.small_arrived + report.small_arrived,
        )
        if report.large_sent and 2 * report.large_arrived >= report.large_sent:
            self._vanished = NOTHING
        if _is_black_hole(self._vanished):
            self._vanished = NOTHING
            return [*hurried, *self.suspected(now)]
        return [*hurried, *self._take_care(now)] if _is_partial_hole(report) else hurried

    def wake(self, now: float) -> list[MtuAction]:
        """The deadline has come."""
        if self._round is not None and now >= self._round.due:
            return self._close_round(now)
        if self._next_round is not None and now >= self._next_round:
            return self._open_round(now)
        if not self._is_open and self._raise_at is not None and now >= self._raise_at:
            self._raises += 1
            return self._search(now)
        return []

    def deadline(self) -> float | None:
        """When `wake` is due."""
        if self._round is not None:
            return self._round.due
        return self._raise_at if self._next_round is None else self._next_round

    @property
    def _is_open(self) -> bool:
        return self._round is not None or self._next_round is not None

    @property
    def _is_settled(self) -> bool:
        return self.proved and not self._is_open

    def _take_care(self, now: float) -> list[MtuAction]:
        if not self._is_settled or now < self._weak_from:
            return []
        self._weak_from = now + timers.MTU_WEAK_INTERVAL
        return self._verify(now, self.mtu)

    def _search(self, now: float) -> list[MtuAction]:
        self._verifying = False
        self._bracket = Bracket(self.base, self.ceiling)
        if self.proved:
            self._bracket.prove(self.mtu)
        return self._open_round(now)

    def _verify(self, now: float, ceiling: int, hints: tuple[int, ...] = ()) -> list[MtuAction]:
        self._verifying, self._doubted_at = True, now
        self._urgent_rounds = timers.MTU_URGENT_ROUNDS
        self._bracket = Bracket(self.base, ceiling)
        above = tuple(size for size in self._bracket.steps() if size > self.mtu)
        return self._open_round(now, (*hints, self.mtu, *above))

    def _open_round(self, now: float, first: tuple[int, ...] = ()) -> list[MtuAction]:
        sizes = () if self._silent_rounds >= SILENT_ROUNDS else first or self._steps()
        self._next_round = self._allowed(len(sizes) + 2, now)
        if self._next_round is not None:
            return []
        self._urgent_rounds -= 1
        self._round = _Round(now, now + self._patience())
        probes = [self._probe(size, now) for size in (CONTROL, *sizes, CONTROL)]
        self._round.waiting = {probe.token: probe.size for probe in probes}
        self._round.controls = (probes[0].token, probes[-1].token)
        return list(probes)

    def _allowed(self, count: int, now: float) -> float | None:
        """When so many probes may be sent; None for now."""
        late = [at for at in self._latest if at + 1 > now]
        over = len(late) + count - MOST_PROBES
        return late[over - 1] + 1 if over > 0 else None

    def _steps(self) -> tuple[int, ...]:
        steps = self._bracket.steps()
        return tuple(sorted({*steps, self.mtu})) if self._verifying else steps

    def _probe(self, size: int, now: float) -> SendProbe:
        self._tokens += 1
        self._sent[self._tokens] = (size, now)
        self._latest.append(now)
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        return SendProbe(size, self._tokens)

    def _heard(self, token: int, now: float) -> list[MtuAction]:
        """A probe of the round needs no more waiting for."""
        if self._round is None or self._round.waiting.pop(token, None) is None:
            return []
        if not self._round.waiting:
            return self._close_round(now)
        if token == self._round.controls[1]:
            self._round.due = min(self._round.due, now + self._grace())
        return []

    def _close_round(self, now: float) -> list[MtuAction]:
        assert self._round is not None
        heard = self._round.controls_answered
        lost = {size for size in self._round.waiting.values() if size > CONTROL}
        self._round = None
        self._controls.extend(heard)
        self._silent_rounds = 0 if any(heard) else self._silent_rounds + 1
        if any(heard):
            self._bracket.lose(lost)
            self._bracket.judge(self._chance_of_loss(), DOUBT_OF_PROVED if self._verifying else DOUBT)
        learnt = self._learn(now)
        if self._bracket.closed and not self._verifying:
            self._settle(now)
            return learnt
        waits = timers.MTU_SILENT
        wait = waits[min(max(self._silent_rounds - 1, 0), len(waits) - 1)]
        if wait == 0:
            return [*learnt, *self._open_round(now)]
        self._next_round = now + wait
        return learnt

    def _stop_waiting(self, now: float) -> list[MtuAction]:
        """Data arrives, so the path is not silent."""
        self._silent_rounds = 0
        return self._open_round(now) if self._next_round is not None else []

    def _settle(self, now: float) -> None:
        if self.mtu >= self.ceiling:
            self._raise_at = None
        elif self._raise_at is None or self._bracket.ceiling == self.ceiling:
            waits = timers.MTU_RAISE
            unsure = self._chance_of_loss() > LOSSY
            self._raise_at = now + waits[min(self._raises, len(waits) - 1) if unsure else -1]

    def _learn(self, now: float) -> list[MtuAction]:
        """Turn what the bracket knows into the MTU in use."""
        low, high = self._bracket.low, self._bracket.high
        if self._verifying:
            if low < self.mtu < high:
                return []
            self._verifying = False
            if low < self.mtu:
                self._hints_in_vain = self._raises = 0
                self._shrank_at = now
                why = f"{self.mtu} bytes vanish while smaller datagrams arrive"
                mtu = self._fallback()
                return self._publish(mtu, low >= mtu, why)
        if low >= self.base:
            return self._publish(max(low, self.mtu), True, "answered")
        if high <= self.base:
            return self._publish(low, True, f"the path does not carry {self.base} bytes")
        return []

    def _fallback(self) -> int:
        low, high = self._bracket.low, self._bracket.high
        return low if low >= self.base or high <= self.base else self.base

    def _publish(self, mtu: int, proved: bool, why: str) -> list[MtuAction]:
        if (mtu, proved) == (self.mtu, self.proved):
            return []
        self.mtu, self.proved = mtu, proved
        return [UsePathMtu(mtu, proved, why)]

    def _chance_of_loss(self) -> float:
        """Laplace's rule of succession over the controls of late."""
        return (self._controls.count(False) + 1) / (len(self._controls) + 2)

    def _measure(self, sample: float) -> None:
        """RFC 6298."""
        if self._rtt is None:
            self._rtt, self._deviation = sample, sample / 2
            return
        self._deviation += (abs(sample - self._rtt) - self._deviation) / 4
        self._rtt += (sample - self._rtt) / 8

    def _patience(self) -> float:
        if self._rtt is None:
            return timers.MTU_FIRST_ROUND
        least, most = timers.MTU_ROUND
        return min(most, max(least, 3 * self._rtt, self._rtt + 4 * self._deviation))

    def _grace(self) -> float:
        urgent = self._verifying and self._urgent_rounds >= 0
        least = timers.MTU_URGENT_GRACE if urgent else timers.MTU_ROUND_GRACE
        return max(least, self._rtt or 0.0, 4 * self._deviation)


def _is_black_hole(seen: Arrivals) -> bool:
    """Whether large datagrams fare far worse than small ones."""
    vanished = seen.large_sent - seen.large_arrived
    small = seen.small_arrived / seen.small_sent if seen.small_sent else 1.0
    return vanished >= LEAST_VANISHED and seen.large_arrived / seen.large_sent < small / 2


def _is_partial_hole(report: Arrivals) -> bool:
    """Whether many large datagrams are missing and no small one is."""
    vanished = report.large_sent - report.large_arrived
    return vanished >= MANY_VANISHED and report.small_arrived >= report.small_sent
