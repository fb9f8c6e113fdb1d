"""Carry out the newest of a kind: one at a time, and what was overtaken is left out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Put values from anywhere; `run` carries out the newest one each time it is free."""

    def __init__(self, carry_out: Callable[[T], Awaitable[None]]) -> None:
        self._carry_out = carry_out
        self._waiting: list[T] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, value: T) -> None:
        """Carry this out instead of whatever still waits."""
        self._waiting = [value]
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._waiting:
                await self._carry_out(self._waiting.pop())
            if not self._waiting:
                self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._idle.is_set()

    async def idle(self) -> None:
        """Wait until nothing waits and nothing is under way."""
        await self._idle.wait()
