"""Only the newest is carried out, one at a time."""

import asyncio

from shore.node.latest import Latest


async def test_what_was_overtaken_is_left_out() -> None:
    done: list[int] = []
    go = asyncio.Event()

    async def carry_out(value: int) -> None:
        await go.wait()
        done.append(value)

    latest = Latest(carry_out)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(latest.run())
        latest.put(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        latest.put(2)
        latest.put(3)
        assert not latest.is_idle
        go.set()
        await latest.idle()
        running.cancel()
    assert done == [1, 3]
