"""The stamps of our handshakes, and whether peers take them.

An initiation carries the time (TAI64N), and a peer ignores one that is not later than the latest it took from
the same key; that is how WireGuard refuses replays. A clock that went back, over a reboot without a battery
say, makes every initiation of ours such a replay, until the clock has caught up or the peer was restarted.
Nothing cures that from here: the peer may still greet us, and people should know why we cannot greet it.

A data plane stamps by the wall clock of the moment when it first hears of a peer, plus the time since then.
So two things are known of the one that runs: what it stamps at least (the clock when it started), and at most
(the clock at its best since). What earlier ones stamped at most is *taken*; it is kept on disk, for it must
outlive a reboot. A clock that is set right later does not help a plane that started before, so that one is
replaced.

Times are wall-clock seconds; `apart` is the wall clock minus `now`.
"""

from shore.core import timers
from shore.core.actions import Action, Announce, KeepStamp


class Stamps:
    """What was stamped with the key in force, and what is stamped now."""

    def __init__(self) -> None:
        self._taken = 0.0
        self._apart = 0.0
        self._least_apart: float | None = None
        self._most_apart = 0.0
        self._told = False

    def remember(self, stamp: float) -> None:
        """Another key is in force; `stamp` is the highest it is known to have sent, 0 for none."""
        self._taken = stamp
        if self._least_apart is not None:
            self._least_apart = self._most_apart = self._apart

    def clock_read(self, wall: float, now: float) -> list[Action]:
        """The wall clock says so. Returns what is to be kept and said."""
        self._apart = wall - now
        self._most_apart = max(self._most_apart, self._apart)
        actions: list[Action] = []
        behind_s = self.behind_s(now)
        if behind_s and not self._told:
            why = f"{behind_s:.0f} s: peers that took later handshakes of this key ignore ours"
            actions.append(Announce("clock behind", why))
        elif self._told and not behind_s:
            actions.append(Announce("clock right again", "handshakes are later than those sent before"))
        self._told = behind_s > 0
        highest = self.highest(now)
        return [*actions, KeepStamp(highest)] if highest else actions

    def plane_started(self, now: float) -> None:
        """A new data plane stamps from now on, by the clock as it is."""
        self._taken = self.highest(now)
        self._least_apart = self._most_apart = self._apart

    def plane_found(self, now: float) -> None:
        """A running plane was found; it may be the one that stamped what is taken."""
        self._least_apart = self._apart
        self._most_apart = max(self._apart, self._taken - now)

    def highest(self, now: float) -> float:
        """The highest stamp that any peer can have taken."""
        return self._taken if self._least_apart is None else max(self._taken, now + self._most_apart)

    def behind_s(self, now: float) -> float:
        """By how much our stamps are behind those that peers may have taken; 0.0 if they are not."""
        apart = self._apart if self._least_apart is None else self._least_apart
        behind = self._taken - now - apart
        return behind if behind >= timers.CLOCK_BEHIND_LEAST else 0.0

    def outlived(self, now: float) -> bool:
        """Whether the clock is right and only the running plane is behind."""
        return self.behind_s(now) > 0 and now + self._apart > self._taken
