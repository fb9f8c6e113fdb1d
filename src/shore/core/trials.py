"""The trials of one exit: does a mapping that nobody uses live for so many seconds?

A trial never touches a mapping in use. It goes by a socket of its own, open for as long as there is
something to learn, to a peer that holds the echo (docs/protocol/probe.md):

    resting --a peer can help--> opening --socket--> greeting --echo--> warming --3 s--> holding
    holding --echo, held for N s--> warming                 the mapping lives N s: the next trial
    holding --no echo--> greeting --echo--> warming         the same again, or it died, if that was twice
    greeting --no echo, thrice--> resting                   the peer is silent, so nothing was learnt

So silence alone proves nothing: a mapping is called dead only if a fresh one is answered right after. A fresh
mapping warms before it is tried, as NATs keep one that was answered for longer. At most one datagram leaves
in three seconds. The peer must answer a port that it has not seen before, which one behind a NAT of its own
may not, and hold an echo, which it may be too busy to do; whoever cannot help is left alone for a while.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from shore.core import timers
from shore.core.actions import Action, CloseSocket, OpenTrialSocket
from shore.core.lifetime import Search
from shore.model.desired import Socket, Trial
from shore.model.links import Exit

# The peer's timer and ours need not agree to the millisecond.
EARLY_S = 0.5
MISSES = 2

# A peer, and the remote endpoint by which it is asked.
Target = tuple[bytes, str]
Stage = Literal["resting", "opening", "greeting", "warming", "holding"]


class Numbers:
    """Of trials; none is used twice."""

    def __init__(self) -> None:
        self._last = 0

    def after(self, used: Iterable[int]) -> None:
        """Go on after those that another brain used."""
        self._last = max([self._last, *used])

    def next(self) -> int:
        """A fresh one."""
        self._last += 1
        return self._last


class Trials:
    """One exit's socket and stage; what it finds goes into the search of the network behind it."""

    def __init__(self, leaves_by: Exit, numbers: Numbers) -> None:
        self.target: Target = (b"", "")
        self.network = ""
        self.search = Search()
        self.socket: Socket | None = None
        self.asked: Trial | None = None
        self._exit, self._numbers = leaves_by, numbers
        self._stage: Stage = "resting"
        self._due = float("-inf")
        self._helpers: list[tuple[Target, str]] = []
        self._helpless: dict[Target, float] = {}
        self._verify_at: dict[str, float] = {}
        self._hold = 0
        self._greetings = 0
        self._missed = False
        self._misses = 0

    def may_ask(self, helpers: list[tuple[Target, str]]) -> None:
        """The peers that can be asked now, each with the network that lies behind; the best first."""
        self._helpers = helpers

    def deadline(self) -> float | None:
        """When to call `step` again."""
        return self._due if self._stage != "resting" or self._helpers else None

    def step(self, searches: Mapping[str, Search], mark: int, now: float) -> list[Action]:
        """Do what is due."""
        if now < self._due:
            return []
        match self._stage:
            case "resting":
                return self._begin(searches, mark, now)
            case "opening":
                return self.rest(now + timers.TRIAL_REST)
            case "greeting" if self._greetings >= timers.TRIAL_GREETINGS:
                return self._helpless_until(now + timers.TRIAL_HELPLESS, now)
            case "greeting":
                self._greet(now)
            case "warming":
                self._stage = "holding"
                self._ask(self._hold, now)
            case "holding":
                self._missed, self._greetings = True, 0
                self._greet(now)
        return []

    def opened(self, socket: Socket, now: float) -> bool:
        """The socket is there. False if nobody waits for it any more."""
        if self._stage != "opening":
            return False
        self.socket = socket
        self._greetings, self._missed, self._misses = 0, False, 0
        self._greet(now)
        return True

    def awaits(self, number: int) -> bool:
        """Whether this is the trial under way."""
        return self.asked is not None and self.asked.number == number

    def echoed(self, held_s: float, now: float) -> list[Action]:
        """The peer answered, after it had held the echo for so long."""
        if self._stage == "greeting":
            if self._missed:
                self._missed = False
                self._misses += 1
            if self._misses >= MISSES:
                self.search.died(self._hold)
                self._misses = 0
            return self._warm(now)
        if self._stage != "holding":
            return []
        if held_s + EARLY_S < self._hold:
            return self._helpless_until(now + timers.TRIAL_HELPLESS, now)
        self.search.lived(self._hold)
        self._misses = 0
        return self._warm(now)

    def rest(self, until: float) -> list[Action]:
        """Leave it for now, whatever is under way."""
        closing = [] if self.socket is None else [CloseSocket(self.socket.id)]
        self.socket = self.asked = None
        self._stage, self._due = "resting", until
        return [*closing]

    def _begin(self, searches: Mapping[str, Search], mark: int, now: float) -> list[Action]:
        for target, network in self._helpers:
            search = searches[network]
            known = search.next() is None and now < self._verify_at.get(network, now)
            if not known and self._helpless.get(target, now) <= now:
                break
        else:
            self._due = now + timers.TRIAL_REST
            return []
        if search.next() is None:
            search.again()
        self.target, self.network, self.search = target, network, search
        self._stage, self._due = "opening", now + timers.TRIAL_PATIENCE
        return [OpenTrialSocket(self._exit, mark)]

    def _warm(self, now: float) -> list[Action]:
        hold = self.search.next()
        if hold is None:
            self._verify_at[self.network] = now + timers.TRIAL_AGAIN
            return self.rest(now + timers.TRIAL_REST)
        self._hold = hold
        self._stage, self._due = "warming", now + timers.TRIAL_WARM
        return []

    def _greet(self, now: float) -> None:
        self._greetings += 1
        self._stage = "greeting"
        self._ask(0, now)

    def _ask(self, hold: int, now: float) -> None:
        if self.socket is not None:
            self.asked = Trial(self._numbers.next(), self.socket.id, self.target[1], hold)
        self._due = now + hold + timers.TRIAL_PATIENCE

    def _helpless_until(self, until: float, now: float) -> list[Action]:
        self._helpless[self.target] = until
        return self.rest(now + timers.TRIAL_REST)
