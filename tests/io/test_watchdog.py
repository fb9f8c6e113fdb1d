"""Work that fails is begun again, ever later, and people are told why."""

import asyncio
from itertools import pairwise

import pytest

from shore.io import watchdog
from shore.io.watchdog import Watchdog, cause_of


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAST_WAIT", 0.01)


async def test_work_that_fails_is_begun_again_ever_later_and_said_so(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, str]] = []
    begun: list[float] = []
    watching = Watchdog(lambda what, why: told.append((what, why)))
    loop = asyncio.get_running_loop()

    async def work() -> None:
        begun.append(loop.time())
        if len(begun) < 4:
            raise KeyError("of nobody's")
        await asyncio.sleep(60)

    keeping = loop.create_task(watching.keep("membership", work))
    await asyncio.sleep(0.5)
    assert len(begun) == 4
    waits = [after - before for before, after in pairwise(begun)]
    assert waits[0] >= 0.01
    assert waits[1] >= 0.02
    assert waits[2] >= 0.04
    assert [what for what, _ in told] == ["membership failed"] * 3
    assert told[0][1].startswith('KeyError: "of nobody\'s" (test_watchdog.py:')
    assert told[0][1].endswith("; begun again in 0.01 s")
    (note,) = watching.notes()
    assert note.startswith("membership failed 3 times: KeyError")
    assert capsys.readouterr().err.count("Traceback") == 3
    keeping.cancel()


async def test_work_that_lasts_has_recovered(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LASTED", 0.1)
    begun: list[int] = []
    watching = Watchdog(lambda *_: None)

    async def work() -> None:
        begun.append(1)
        await asyncio.sleep(0.0 if len(begun) == 1 else 0.3)
        if len(begun) < 3:
            raise ValueError

    keeping = asyncio.get_running_loop().create_task(watching.keep("names", work))
    await asyncio.sleep(0.05)
    assert len(watching.notes()) == 1
    await asyncio.sleep(0.15)
    assert watching.notes() == ()
    await asyncio.sleep(0.2)
    assert [note.split(":")[0] for note in watching.notes()] == ["names failed"], "once in a row again"
    keeping.cancel()


async def test_work_that_ends_is_not_begun_again_and_cancelling_is_no_failure() -> None:
    watching = Watchdog(lambda what, why: pytest.fail(f"{what}: {why}"))
    await watching.keep("nothing", lambda: asyncio.sleep(0))
    keeping = asyncio.get_running_loop().create_task(watching.keep("for ever", lambda: asyncio.sleep(60)))
    await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.wait({keeping})
    assert keeping.cancelled()


async def test_of_several_causes_the_first_is_told_and_it_fits_a_line() -> None:
    async def fail() -> None:
        raise RuntimeError("two\nlines \x1b[31m")

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
    except* RuntimeError as error:
        said = cause_of(error)
    assert said.startswith("RuntimeError: two lines [31m (test_watchdog.py:")
