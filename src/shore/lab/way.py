"""One way of a wire, without IO: frames in, frames out when they are due, all chance from one seed.

Order of events for a frame: a black hole or a filter swallows it, then a router's MTU cuts or refuses it,
then chance loses, damages or doubles it, then it queues for the rate, then it travels for the delay. Frames
keep their order through delay and jitter; only `reorder` lets one fall behind. The same seed, frames and
instants give the same fate to each frame.

Jitter wanders: a new value between none and all of it each 50 ms (or each twice the jitter), in a straight
line from one to the next, so that sparse packets are delayed each for itself and dense ones keep their order.
"""

import heapq
import math
from random import Random

from shore.lab import frames
from shore.lab.impairment import CLEAR, Impairment

WANDER_S = 0.05


class Way:
    """Frames between one end of a wire and the other. Instants are seconds of any one clock."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311
        self._impairment = CLEAR
        self._waiting: list[tuple[float, int, bytes]] = []
        self._numbers = 0
        self._last_due = 0.0
        self._free_at = 0.0
        self._in_burst = False
        self._knot_at, self._from, self._to = -math.inf, 0.0, 0.0
        self._since = 0.0
        self.tally: dict[str, int] = {}
        self.bounced: list[bytes] = []

    def change(self, impairment: Impairment, now: float) -> None:
        """What travels already is not touched; a flap begins with its up time."""
        self._impairment = impairment
        self._last_due = 0.0
        self._since = now

    def admit(self, frame: bytes, now: float) -> None:
        """A frame enters. What goes back to its sender is added to `bounced`."""
        if frames.is_neighbour_discovery(frame):
            self._hold(frame, now)
            return
        it = self._impairment
        if it is CLEAR:
            self._count("passed")
            self._hold(frame, now)
            return
        swallowed = self._swallowed(frame, now)
        if swallowed:
            self._count(swallowed)
            return
        if it.mtu is not None and frames.packet_size(frame) > it.mtu:
            for piece in self._cut(frame, it.mtu):
                self._risk(piece, now)
            return
        self._risk(frame, now)

    def due(self, now: float) -> list[bytes]:
        """The frames that arrive by now, in order."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now:
            arrived.append(heapq.heappop(self._waiting)[2])
        return arrived

    def deadline(self) -> float | None:
        """When the next frame arrives; None if none is on its way."""
        return self._waiting[0][0] if self._waiting else None

    def _swallowed(self, frame: bytes, now: float) -> str | None:
        it = self._impairment
        if it.black_hole:
            return "black hole"
        if it.flap_up_s and (now - self._since) % (it.flap_up_s + it.flap_down_s) >= it.flap_up_s:
            return "flap"
        if it.drop_larger is not None and frames.packet_size(frame) > it.drop_larger:
            return "larger"
        if it.drop_type is not None and frames.first_byte(frame) == it.drop_type:
            return "type"
        return None

    def _cut(self, frame: bytes, mtu: int) -> list[bytes]:
        pieces = frames.fragments(frame, mtu)
        if pieces is not None:
            self._count("fragmented")
            return pieces
        self._count("too big")
        answer = frames.too_big(frame, mtu) if self._impairment.icmp else None
        if answer is not None:
            self.bounced.append(answer)
        return []

    def _risk(self, frame: bytes, now: float) -> None:
        it, chance = self._impairment, self._random.random
        if it.loss and self._lost():
            self._count("lost")
            return
        if it.corrupt and chance() < it.corrupt:
            self._count("corrupted")
            frame = frames.corrupted(frame, chance())
        copies = 1
        if it.duplicate and chance() < it.duplicate:
            self._count("duplicated")
            copies = 2
        for _ in range(copies):
            self._travel(frame, now)

    def _lost(self) -> bool:
        """Independent, or Gilbert's chain of two states with the same share."""
        it, chance = self._impairment, self._random.random()
        if not it.burst:
            return chance < it.loss
        leave = 1.0 / it.burst
        enter = it.loss * leave / (1.0 - it.loss)
        self._in_burst = chance >= leave if self._in_burst else chance < enter
        return self._in_burst

    def _travel(self, frame: bytes, now: float) -> None:
        it = self._impairment
        sent = now
        if it.rate_mbit is not None:
            start = max(now, self._free_at)
            if start - now > it.queue_ms / 1000:
                self._count("queue full")
                return
            sent = self._free_at = start + len(frame) * 8 / (it.rate_mbit * 1e6)
        self._count("passed")
        due = sent + it.delay_ms / 1000
        if it.jitter_ms:
            due += self._wander(now) * it.jitter_ms / 1000
        if it.reorder and self._random.random() < it.reorder:
            self._count("reordered")
            self._hold(frame, due + it.reorder_ms / 1000)
            return
        self._last_due = due = max(due, self._last_due)
        self._hold(frame, due)

    def _wander(self, now: float) -> float:
        period = max(WANDER_S, 2 * self._impairment.jitter_ms / 1000)
        if now >= self._knot_at + period:
            near = now < self._knot_at + 2 * period
            self._from = self._to if near else self._random.random()
            self._to = self._random.random()
            self._knot_at = self._knot_at + period if near else now
        return self._from + (self._to - self._from) * (now - self._knot_at) / period

    def _hold(self, frame: bytes, due: float) -> None:
        self._numbers += 1
        heapq.heappush(self._waiting, (due, self._numbers, frame))

    def _count(self, what: str) -> None:
        self.tally[what] = self.tally.get(what, 0) + 1
