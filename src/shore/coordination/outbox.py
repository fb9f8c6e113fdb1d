"""What waits to be sent on one link."""

import asyncio

from shore.wire import control

MOST_WAITING = 64


class Outbox:
    """Of one link. `number` is its node's once that presented itself, `said` how it did; `held` is the
    version that the node has or is being sent."""

    def __init__(self, machine_key: bytes) -> None:
        self.machine_key = machine_key
        self.number = 0
        self.said: control.Present | None = None
        self.whereabouts: control.Whereabouts | None = None
        self.held = (0, 0)
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        self.ended = False

    @property
    def has_room(self) -> bool:
        """Whether there is room for what may as well be dropped."""
        return self.waiting.qsize() < MOST_WAITING // 2

    def put(self, message: control.FromServer) -> None:
        """Have it sent; a link that is full ends."""
        if self.ended:
            return
        try:
            self.waiting.put_nowait(control.encode(message))
        except asyncio.QueueFull:
            while not self.waiting.empty():
                self.waiting.get_nowait()
            self.end()

    def end(self) -> None:
        """Send what waits, then no more, and close."""
        if not self.ended:
            self.ended = True
            while self.waiting.full():
                self.waiting.get_nowait()
            self.waiting.put_nowait(None)
