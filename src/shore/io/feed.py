"""The loop around a sans-IO part: feed, drain, re-arm.

One event, then all that follows from it, before the next one: what is told while actions are carried out
waits its turn. Afterwards the part's deadline becomes the next alarm.

A part that raises has a defect, and may have stopped half-way: it is told nothing more, and `failed` hears of
it, once. Whoever told the event is not to blame, and mostly is an alarm or a callback that nobody waits for.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

Event = TypeVar("Event")
Action = TypeVar("Action")
Told_contra = TypeVar("Told_contra", contravariant=True)
Done_co = TypeVar("Done_co", covariant=True)


class Part(Protocol[Told_contra, Done_co]):
    """What decides: the heart of a tunnel, a membership."""

    def handle(self, event: Told_contra, now: float) -> Iterable[Done_co]:
        """Take one event; return what is to be done, in order."""

    def deadline(self) -> float | None:
        """When to wake it."""


class Feed(Generic[Event, Action]):
    """Belongs to the running loop, whose clock is the part's."""

    def __init__(
        self,
        part: Part[Event, Action],
        perform: Callable[[Action], None],
        woke: Callable[[], Event],
        failed: Callable[[Exception], None],
    ) -> None:
        self._part, self._perform, self._woke, self._failed = part, perform, woke, failed
        self._loop = asyncio.get_running_loop()
        self._inbox: list[Event] = []
        self._draining = self._broken = False
        self._alarm: asyncio.TimerHandle | None = None

    def tell(self, event: Event) -> None:
        """Take an event; carry out what follows from it before the next one."""
        self._inbox.append(event)
        if self._draining or self._broken:
            return
        self._draining = True
        try:
            while self._inbox:
                for action in self._part.handle(self._inbox.pop(0), self._loop.time()):
                    self._perform(action)
        except Exception as error:
            self._broken = True
            self.stop()
            self._failed(error)
            return
        finally:
            self._draining = False
        self._arm()

    def stop(self) -> None:
        """Wake it no more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _arm(self) -> None:
        self.stop()
        deadline = self._part.deadline()
        self._alarm = None if deadline is None else self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        self.tell(self._woke())
