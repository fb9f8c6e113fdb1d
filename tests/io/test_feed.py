"""A part that raises is told nothing more, and who answers for it hears of that once."""

import asyncio

import pytest

from shore.io.feed import Feed


class Part:
    """Raises at what it is told to raise at; wakes soon."""

    def __init__(self, raises_at: str) -> None:
        self.told: list[str] = []
        self._raises_at = raises_at

    def handle(self, event: str, now: float) -> list[str]:
        self.told.append(event)
        if event == self._raises_at:
            raise KeyError(event)
        return []

    def deadline(self) -> float | None:
        return asyncio.get_running_loop().time() + 0.01


@pytest.mark.parametrize("raises_at", ["told", "woke"])
async def test_a_defect_is_heard_of_whoever_told_the_event(raises_at: str) -> None:
    heard: list[Exception] = []
    part = Part(raises_at)
    feed: Feed[str, str] = Feed(part, lambda _: None, lambda: "woke", heard.append)
    feed.tell("first")
    if raises_at == "told":
        feed.tell("told")
    await asyncio.sleep(0.05)
    assert [type(each) for each in heard] == [KeyError]
    told = list(part.told)
    feed.tell("more")
    await asyncio.sleep(0.05)
    assert (part.told, len(heard)) == (told, 1)
