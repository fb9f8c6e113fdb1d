"""What our sockets look like from outside, as STUN servers told, and what that says of the NAT before us.

A NAT whose mapping is endpoint-independent shows one socket at one endpoint to everybody; one whose mapping
is endpoint-dependent shows another to each server (RFC 4787 §4.1). So it takes two servers to tell, and only
what both said lately counts: a NAT that was restarted between the two answers is not dependent. Each server
is asked every 25 s.
"""

from collections.abc import Collection, Iterable, Mapping

from shore.core.timers import SIGHTED_WITHIN, SIGHTING_FRESH, SIGHTING_PATIENCE
from shore.model.desired import StunQuery
from shore.model.facts import Mapped
from shore.model.netcheck import Mapping as NatMapping


class Sightings:
    """One tunnel's; forgotten when its links move."""

    def __init__(self) -> None:
        self._seen: dict[StunQuery, tuple[str, float]] = {}
        self._asked_at: float | None = None

    def saw(self, fact: Mapped, now: float) -> None:
        """A server answered."""
        self._seen[StunQuery(fact.socket, fact.server)] = (fact.mapped, now)

    def asked(self, queries: Collection[StunQuery], now: float) -> None:
        """These are asked from now on, if they are not already."""
        self._asked_at = None if not queries else now if self._asked_at is None else self._asked_at

    def forget(self) -> None:
        """We are somewhere else."""
        self._seen, self._asked_at = {}, None

    def of(self, queries: Iterable[StunQuery]) -> list[str]:
        """Where these queries found us."""
        return [self._seen[query][0] for query in queries if query in self._seen]

    def fresh(self, now: float) -> list[str]:
        """Where servers saw us lately."""
        return sorted({mapped for mapped, at in self._seen.values() if now - at < SIGHTING_FRESH})

    def socket_at(self, mapped: str) -> int | None:
        """The socket that a server saw there."""
        return next((query.socket for query, (seen, _) in self._seen.items() if seen == mapped), None)

    def settled_at(self, now: float) -> float:
        """When it is known, or not to be waited for, what we look like."""
        if self._asked_at is None or any(now - at < SIGHTING_FRESH for _, at in self._seen.values()):
            return now
        return self._asked_at + SIGHTED_WITHIN

    def is_blocked(self, now: float) -> bool | None:
        """Whether UDP comes back at all; None while nobody is asked, or could not have answered yet."""
        if any(now - at < SIGHTING_FRESH for _, at in self._seen.values()):
            return False
        if self._asked_at is None or now - self._asked_at < SIGHTING_PATIENCE:
            return None
        return True

    def mapping(self, own: Collection[str], peers: Mapping[int, set[str]], now: float) -> NatMapping | None:
        """How we are mapped, None while one word stands alone.

        `own` are our endpoints without any NAT; `peers` are those that peers see, by socket.
        """
        words: dict[int, list[str]] = {}
        for query, (mapped, at) in self._seen.items():
            if now - at < SIGHTING_FRESH:
                words.setdefault(query.socket, []).append(mapped)
        if words and all(mapped in own for said in words.values() for mapped in said):
            return "none"
        all_words = [[*said, *(peers.get(number, set()) - set(own))] for number, said in words.items()]
        if any(len(set(said)) > 1 for said in all_words):
            return "endpoint_dependent"
        return "endpoint_independent" if any(len(said) > 1 for said in all_words) else None
