"""Which path a Shore peer's packets should take, judged from what the data plane measured.

A path *costs* milliseconds: its round trip and twice its jitter, 100 ms for each percent of loss above 2,
100 ms if it is a relay, 50 more by a stream to a relay that can be reached by UDP as well, and a metered
path whatever it takes to be the last. The path in use is called lossy where data and probes are evidence
enough (`evidence`); of the others probes alone tell something, and loss is always its lower bound (Wilson,
95 %).

The path in use is left only for one that is cheaper by a margin of 10 ms and an eighth, and that stayed so
for a while: a second where a jump in delay drives us away, ten where the other is merely better. Loss needs
no such time, as evidence has taken its own. It is mostly a link's, so a lossy path is left for one by
another interface, if there is one.
Fast to leave, slow to return: a path left for loss keeps the cost it had for a minute, twice as long each
time, ten minutes at most; nobody measures loss on a path without traffic. A path that died is the reflex's
business: the data plane has left it before we hear of it, and holds it until it has proved itself.

Whether packets are lost for their size is found out elsewhere (`pmtud`). While it is, the path in use is not
left for loss, and what turns out to have been lost so is forgiven.
"""

from collections.abc import Collection, Mapping

from shore.core import timers
from shore.core.evidence import Evidence, lower_bound
from shore.model.facts import PathCounters
from shore.model.scores import PathScore, Verdict

LOSS_FREE = 0.02
MS_PER_PERCENT = 100.0
RELAY_MS = 100.0
STREAM_MS = 50.0
METERED_MS = 10_000.0
MARGIN_MS = 10.0
MARGIN_SHARE = 1 / 8
UNKNOWN_MS = 1_000.0

Place = tuple[int, str]
NO_UPLINKS: Mapping[Place, str] = {}


class PathJudge:
    """The order of one peer's paths, from one set of counters to the next."""

    def __init__(self) -> None:
        # Of the path in use, while it is up.
        self._evidence: dict[Place, Evidence] = {}
        self._left: dict[Place, _Left] = {}
        self._usual: dict[Place, _Usual] = {}
        self._rival: Place | None = None
        self._rival_since = 0.0
        self.chosen: Place | None = None
        self.latest: tuple[PathScore, ...] = ()
        self.measured: tuple[PathCounters, ...] = ()

    def judge(
        self,
        paths: tuple[PathCounters, ...],
        metered: set[Place],
        now: float,
        uplinks: Mapping[Place, str] = NO_UPLINKS,
        *,
        slower: Collection[int] = (),
        held: bool = False,
    ) -> Verdict | None:
        """Take fresh counters. Returns a verdict when the path in use should be another one.

        `uplinks` says which interface a path leaves by, where that is known; `slower`, which links are
        beside a relay's UDP side; `held`, that what the path in use loses may be lost for its size.
        """
        scores = self.latest = self.scores(paths, metered, now, slower)
        self.measured = paths
        current = next((score for score in scores if score.primary), None)
        usable = [score for score in scores if score.usable]
        if current is None or not usable:
            return None
        if (current.socket, current.remote) != self.chosen:
            # A reflex moved: its choice is ours until there is evidence against it.
            self.chosen = (current.socket, current.remote)
            self._rival = None
        lossy = current.loss > LOSS_FREE
        if lossy:
            usable = _elsewhere(usable, current, uplinks)
        best = min(usable, key=lambda score: score.cost_ms)
        margin = MARGIN_MS + current.cost_ms * MARGIN_SHARE
        if best.primary or best.cost_ms + margin > current.cost_ms:
            self._rival = None
            return None
        place = (best.socket, best.remote)
        if place != self._rival:
            self._rival, self._rival_since = place, now
        bad = lossy or current.cost_ms > best.cost_ms + timers.SLOWER_BY_MS
        dwell = timers.DWELL_BAD if bad else timers.DWELL_BETTER
        is_ripe = not held if lossy else now - self._rival_since >= dwell
        if not is_ripe:
            return None
        if lossy:
            self._leave((current.socket, current.remote), current.cost_ms, now)
        self.chosen, self._rival = place, None
        return Verdict(best, current, "loss" if lossy else "delay" if bad else "better")

    def forgive(self, place: Place) -> None:
        """What was lost there was lost for its size: count anew."""
        self._evidence.pop(place, None)

    @property
    def is_wary(self) -> bool:
        """Whether fresh counters are wanted soon, as the path in use may be lossy."""
        return any(evidence.is_wary for evidence in self._evidence.values())

    def scores(
        self,
        paths: tuple[PathCounters, ...],
        metered: set[Place],
        now: float,
        slower: Collection[int] = (),
    ) -> tuple[PathScore, ...]:
        """What each path costs."""
        places = {(path.socket, path.remote) for path in paths}
        self._evidence = {place: held for place, held in self._evidence.items() if place in places}
        self._usual = {place: usual for place, usual in self._usual.items() if place in places}
        extra = [
            METERED_MS * ((path.socket, path.remote) in metered) + STREAM_MS * (path.socket in slower)
            for path in paths
        ]
        return tuple(self._score(path, cost, now) for path, cost in zip(paths, extra, strict=True))

    def _score(self, path: PathCounters, extra_ms: float, now: float) -> PathScore:
        place = (path.socket, path.remote)
        loss = self._loss(place, path, now)
        cost = UNKNOWN_MS if path.rtt_ms is None else path.rtt_ms + 2 * (path.jitter_ms or 0.0)
        cost += max(loss - LOSS_FREE, 0.0) * 100 * MS_PER_PERCENT
        cost += RELAY_MS if path.kind == "relay" else 0.0
        cost += extra_ms
        left = self._left.get(place)
        until = left.until if left is not None and now < left.until else None
        if left is not None and until is not None:
            cost = max(cost, left.cost_ms)
        usable = path.state == "live" and path.rtt_ms is not None
        usual = None
        if path.rtt_ms is not None:
            usual = self._usual.setdefault(place, _Usual()).take(path.rtt_ms, now)
        return PathScore(
            path.socket, path.remote, path.primary, usable, round(cost, 1), round(loss, 4), until, usual
        )

    def _loss(self, place: Place, path: PathCounters, now: float) -> float:
        """The share that is lost at least of what we send there."""
        if path.primary and path.state in {"live", "suspect"}:
            sent = path.data_sent + path.probes_sent
            arrived = path.data_arrived + path.probes_arrived
            return self._evidence.setdefault(place, Evidence()).take(sent, arrived, now)
        # What is lost while a path is down is an outage's.
        self._evidence.pop(place, None)
        return lower_bound(path.loss_tx, timers.PROBES_COUNTED) if path.loss_tx else 0.0

    def _leave(self, place: Place, cost_ms: float, now: float) -> None:
        before = self._left.get(place)
        again = before is not None and now < before.until + timers.LEFT_MEMORY
        hold = min(before.hold * 2, timers.LEFT_LONGEST) if before and again else timers.LEFT_HOLD
        self._left[place] = _Left(cost_ms, now + hold, hold)


def reason(verdict: Verdict, current_words: str) -> str:
    """The verdict with its numbers, in a few words; `current_words` names the path that is left."""
    best, current = verdict.best, verdict.current
    words = {
        "loss": f"{current_words} loses {current.loss:.1%} or more",
        "delay": f"{current_words} became slow",
        "better": f"{current_words} is worse",
    }
    return f"{words[verdict.why]} (costs {current.cost_ms:.0f} ms, this one {best.cost_ms:.0f} ms)"


def _elsewhere(usable: list[PathScore], current: PathScore, uplinks: Mapping[Place, str]) -> list[PathScore]:
    """Those that do not leave by the same interface, if there are any, and the current one."""
    here = uplinks.get((current.socket, current.remote))
    others = [
        score
        for score in usable
        if not score.primary and (here is None or uplinks.get((score.socket, score.remote)) != here)
    ]
    return [*others, current] if others else usable


class _Left:
    """A path that was left for its loss."""

    def __init__(self, cost_ms: float, until: float, hold: float) -> None:
        self.cost_ms, self.until, self.hold = cost_ms, until, hold


class _Usual:
    """The round trip that a path has when nothing delays it: the least one, forgotten slowly."""

    def __init__(self) -> None:
        self._ms: float | None = None
        self._at = 0.0

    def take(self, rtt_ms: float, now: float) -> float:
        """Take a round trip; return the usual one."""
        if self._ms is None or rtt_ms <= self._ms:
            self._ms = rtt_ms
        else:
            share = min((now - self._at) / timers.USUAL_FOR, 1.0)
            self._ms += (rtt_ms - self._ms) * share
        self._at = now
        return round(self._ms, 1)
