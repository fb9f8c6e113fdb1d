"""The node's end of the control link: what the membership should never have raised comes to light."""

import asyncio

import pytest

from shore.core import member_events as on
from shore.io.control import ControlLink


class Membership:
    """Raises at the second event."""

    def __init__(self) -> None:
        self.told: list[on.Event] = []

    def handle(self, event: on.Event, now: float) -> list[on.Action]:
        self.told.append(event)
        if len(self.told) > 1:
            raise KeyError("nobody thought of it")
        return []

    def deadline(self) -> float | None:
        return None


async def test_a_defect_is_raised_where_it_is_waited_for_and_not_where_the_event_was_told() -> None:
    membership = Membership()
    async with asyncio.TaskGroup() as tasks:
        link = ControlLink(membership, tasks.create_task, lambda _: None)  # type: ignore[arg-type]
        for _ in range(3):
            link.tell(on.Begun(0.0))
        assert len(membership.told) == 2
        with pytest.raises(KeyError, match="nobody thought of it"):
            await link.defect()
