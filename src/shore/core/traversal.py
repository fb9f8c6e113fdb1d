"""From a relay to a direct path: both ends of a mesh's pair send at the same time, so that both NATs open.

A NAT lets in what answers something. So a node that reaches an acquainted peer by no direct path *calls* it
through the server, with the places where it may be found, and both send to each other's candidates at once
(RFC 5128 §3.3). Each end first sends what dies before the other end's NAT, since some NATs close for good to
what came before their own side spoke: `prime`. The one that was called has been waited for: it primes and
probes at once; the one that calls primes, gives the call time to arrive, and probes then.

    relayed   called for at once, then ever more seldom; anew when either end may be found elsewhere
    direct    a direct path answers, or did until lately: nothing is to be done

Before they are acquainted nothing is sent where a NAT stands: a greeting that comes uninvited is what spoils
some of them. But a relay that does not come, or a peer that does not answer there, is not waited for long.

The relay carries packets all the while, and the plane moves to the direct path once that is proved.
"""

from collections.abc import Iterable, Mapping

from shore.core.actions import Action, Call
from shore.core.events import Configured, Event, FactTold, LinksChanged, PeerCalled, PlaneAnswered
from shore.core.peer import PeerRecord
from shore.core.relays import Relays
from shore.core.spray import Sprays
from shore.core.timers import ANSWERED_WITHIN, LINKED_WITHIN, PUNCH_AFTER, PUNCH_AGAIN, PUNCH_LEAST
from shore.core.underlay import Underlay
from shore.model.desired import Candidate
from shore.model.facts import Candidates, PeerCounters

WORKING = ("live", "held", "suspect")


class Attempt:
    """What is done for one peer; `basis` is where both ends may be, as it was tried last."""

    def __init__(self, basis: object, now: float) -> None:
        self.basis = basis
        self.tries = 0
        self.next = now
        self.called_at = float("-inf")
        self.punch_at: float | None = None

    def anew(self, basis: object, now: float) -> None:
        """Something changed: try soon."""
        self.basis, self.tries = basis, 0
        self.next = min(self.next, max(now, self.called_at + PUNCH_LEAST))

    def deadline(self) -> float:
        """When something is due."""
        return self.next if self.punch_at is None else min(self.next, self.punch_at)


class Traversal:
    """All peers of one tunnel. It raises `prime` and `poke` of peers, and tells whose were raised."""

    def __init__(self, peers: Mapping[bytes, PeerRecord], relays: Relays, underlay: Underlay) -> None:
        self._peers, self._relays = peers, relays
        self._sprays = Sprays(peers, relays, underlay)
        self._attempts: dict[bytes, Attempt] = {}
        # Until when peers are left to relays, and whether their answer is what is waited for.
        self._left: dict[bytes, tuple[float, bool]] = {}
        self._raised: set[bytes] = set()

    def follow(
        self,
        event: Event,
        counters: Mapping[bytes, PeerCounters],
        own: tuple[Candidate, ...],
        now: float,
    ) -> list[Action]:
        """What an event means for peers that are reached by relays only, or by nothing yet."""
        peers = self._peers
        self._wait_for_relays(event, now)
        for key in {*_concerned(event, peers), *(self._attempts.keys() - peers.keys())}:
            self._look(key, peers.get(key), counters.get(key), own, now)
        if isinstance(event, PeerCalled) and event.public_key in self._attempts:
            peers[event.public_key].prime += 1
            self._raised.add(event.public_key)
        tries = {key: attempt.tries for key, attempt in self._attempts.items()}
        return [
            action
            for key, attempt in self._attempts.items()
            if attempt.deadline() <= now
            for action in self._try(peers[key], attempt, now)
        ] + self._sprays.follow(event, tries, counters, now)

    def raised(self) -> set[bytes]:
        """Whose wishes are other ones; says so once."""
        raised, self._raised = self._raised | self._sprays.raised(), set()
        return raised

    def moved(self, now: float) -> None:
        """We may be elsewhere: nothing that failed says anything."""
        for attempt in self._attempts.values():
            attempt.anew(attempt.basis, now)

    def deadline(self) -> float | None:
        """When the next attempt is due."""
        waits = [attempt.deadline() for attempt in self._attempts.values()]
        due = self._sprays.deadline()
        left = (until for until, _ in self._left.values())
        return min((*waits, *left, *(() if due is None else (due,))), default=None)

    def _wait_for_relays(self, event: Event, now: float) -> None:
        """A link to the peer's relay is waited for first, then, where that is up, the peer's answer."""
        if isinstance(event, Configured):
            left = [key for key, peer in self._peers.items() if peer.left_to_relays]
            self._left = {key: self._left.get(key, (now + LINKED_WITHIN, False)) for key in left}
        for key in [key for key, (until, _) in self._left.items() if until <= now]:
            peer, (_, answer) = self._peers[key], self._left.pop(key)
            here, away = self._relays.places(peer.config)
            if (here or away) and not answer and not peer.acquainted:
                self._left[key] = now + ANSWERED_WITHIN, True
            else:
                peer.left_to_relays = False
                self._raised.add(key)

    def _look(
        self,
        key: bytes,
        peer: PeerRecord | None,
        counters: PeerCounters | None,
        own: tuple[Candidate, ...],
        now: float,
    ) -> None:
        if peer is None or not _is_relayed(peer, counters):
            self._attempts.pop(key, None)
            return
        # What peers see of us changes by the attempts themselves.
        stable = tuple(each for each in own if each.kind != "peer_reflexive")
        basis = (stable, peer.told, peer.config.candidates)
        attempt = self._attempts.get(key)
        if attempt is None:
            self._attempts[key] = Attempt(basis, now)
        elif attempt.basis != basis:
            attempt.anew(basis, now)

    def _try(self, peer: PeerRecord, attempt: Attempt, now: float) -> list[Action]:
        key = peer.config.public_key
        self._raised.add(key)
        if attempt.punch_at is not None and attempt.punch_at <= now:
            attempt.punch_at = None
            peer.poke += 1
        if attempt.next > now:
            return []
        peer.prime += 1
        attempt.called_at, attempt.punch_at = now, now + PUNCH_AFTER
        attempt.next = now + PUNCH_AGAIN[min(attempt.tries, len(PUNCH_AGAIN) - 1)]
        attempt.tries += 1
        return [Call(key)]


def _is_relayed(peer: PeerRecord, counters: PeerCounters | None) -> bool:
    """Whether it is a Shore peer of a mesh, which may be somewhere, and no direct path to it works."""
    if not peer.acquainted or not peer.config.relays or not (peer.config.candidates or peer.told):
        return False
    paths = counters.paths if counters is not None else ()
    return not any(path.kind == "direct" and path.state in WORKING for path in paths)


def _concerned(event: Event, peers: Mapping[bytes, PeerRecord]) -> Iterable[bytes]:
    match event:
        case PlaneAnswered():
            return [entry.public_key for entry in event.peers or ()]
        case FactTold(fact=Candidates(public_key=key)) | PeerCalled(public_key=key):
            return [key]
        case Configured() | LinksChanged():
            return list(peers)
        case _:
            return []
