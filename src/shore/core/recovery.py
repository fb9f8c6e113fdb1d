"""The node's own ladder: reopen the sockets, then replace the data plane.

It is climbed only where the fault can be ours: every peer that was alive in the last five minutes is silent,
or packets are lost for a reason of our own making. One laptop that is switched off climbs its peer's ladder
and never this one. A plane is replaced for silence or losses at most once in ten minutes, sockets are
reopened for silence as rarely, and for losses every ten seconds.
"""

from typing import Literal

from shore.core import timers
from shore.core.peer import PeerRecord
from shore.model.facts import Losing

Rung = Literal["rebind", "replace", "renew"]


class NodeLadder:
    """When the node last climbed, and what it climbs next."""

    def __init__(self) -> None:
        self._rebound_at = float("-inf")
        self._replaced_at = float("-inf")

    def opened(self, now: float) -> None:
        """The sockets are being opened, for whatever reason."""
        self._rebound_at = now

    def may_rebind(self, now: float) -> bool:
        """Whether the sockets were left alone for long enough."""
        return now - self._rebound_at >= timers.REBIND_INTERVAL

    def silence(self, peers: list[PeerRecord], now: float) -> Rung | None:
        """The rung that the silence of peers leads to."""
        alive = [
            peer
            for peer in peers
            if peer.last_session is not None and now - peer.last_session < timers.ALIVE_LATELY
        ]
        silent = min((peer.silent_s for peer in alive), default=0.0)
        if silent >= timers.REPLACE_AFTER and self._may_replace(now):
            return self._replace(now)
        if silent >= timers.REBIND_AFTER and now - self._rebound_at >= timers.REPLACE_INTERVAL:
            return "rebind"
        return None

    def losses(self, fact: Losing, now: float) -> Rung | None:
        """The rung that losses of our own making lead to."""
        if fact.for_s >= timers.LOSING_REPLACE and self._may_replace(now):
            return self._replace(now)
        if fact.for_s < timers.LOSING_REBIND:
            return None
        if fact.reason in ("send_error", "send_queue"):
            return "rebind" if self.may_rebind(now) else None
        return "renew" if fact.public_key is not None else None

    def _may_replace(self, now: float) -> bool:
        return now - self._replaced_at >= timers.REPLACE_INTERVAL

    def _replace(self, now: float) -> Rung:
        self._replaced_at = now
        return "replace"
