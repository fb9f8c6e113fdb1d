"""From a relay to a direct path: both ends of a mesh's pair send at the same time, so that both NATs open.

A NAT lets in what answers something. So a node that reaches an acquainted peer by no direct path *calls* it
through the server, with the places where it may be found, and both send to each other's candidates at once
(RFC 5128 §3.3). Each end first sends what dies before the other end's NAT (`prime`), since some NATs close to
what came before their own side spoke, for as long as it goes on coming. So no end probes before it knows that
the other one has opened its NAT, and has opened it for the right place:

* Nobody calls before it knows what it looks like itself, or has waited for that in vain.
* Who is called primes for the places that the call names, and calls back, unless its own call is under way.
* A call that comes after our own, or crosses it, says that the peer knows our places and has primed for them:
  then we probe. Without such a word we probe a second after our call.

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
from shore.core.timers import (
    ANSWERED_WITHIN,
    CALL_BACK_AFTER,
    LINKED_WITHIN,
    PUNCH_AFTER,
    PUNCH_AGAIN,
    PUNCH_LEAST,
)
from shore.core.underlay import Underlay
from shore.model.desired import Candidate
from shore.model.facts import Candidates, Mapped, PeerCounters

WORKING = ("live", "held", "suspect")


class Attempt:
    """What is done for one peer; `basis` is where both ends may be, as it was tried last."""

    def __init__(self, basis: object, now: float) -> None:
        self.basis = basis
        self.tries = 0
        self.next = now
        self.called_at = float("-inf")
        self.first_called_at = float("inf")
        # What we looked like then.
        self.said: object = None
        self.punch_at: float | None = None

    def anew(self, basis: object, soonest: float) -> None:
        """Something changed: try soon."""
        self.basis, self.tries = basis, 0
        self.next = min(self.next, max(soonest, self.called_at + PUNCH_LEAST))

    def called(self, face: object, now: float) -> None:
        """We call the peer, and looked like that."""
        self.called_at, self.said, self.punch_at = now, face, now + PUNCH_AFTER
        self.first_called_at = min(self.first_called_at, now)
        self.next = now + PUNCH_AGAIN[min(self.tries, len(PUNCH_AGAIN) - 1)]
        self.tries += 1

    def deadline(self) -> float:
        """When something is due."""
        return self.next if self.punch_at is None else min(self.next, self.punch_at)


class Traversal:
    """All peers of one tunnel. It raises `prime` and `poke` of peers, and tells whose were raised."""

    def __init__(self, peers: Mapping[bytes, PeerRecord], relays: Relays, underlay: Underlay) -> None:
        self._peers, self._relays = peers, relays
        self._underlay = underlay
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
        actions = self._answer(event.public_key, now) if isinstance(event, PeerCalled) else []
        for key, attempt in self._attempts.items():
            if attempt.deadline() <= now:
                actions += self._try(peers[key], attempt, now)
        apart = {key: attempt.first_called_at for key, attempt in self._attempts.items()}
        return actions + self._sprays.follow(event, apart, counters, now)

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
        attempt, soonest = self._attempts.get(key), self._underlay.sightings.settled_at(now)
        if attempt is None:
            self._attempts[key] = Attempt(basis, soonest)
        elif attempt.basis != basis:
            attempt.anew(basis, soonest)
        elif not attempt.tries:
            attempt.next = min(attempt.next, soonest)

    def _answer(self, key: bytes, now: float) -> list[Action]:
        """A peer called."""
        peer, attempt = self._peers.get(key), self._attempts.get(key)
        if peer is None:
            return []
        self._raised.add(key)
        if attempt is None:
            peer.poke += 1
            return []
        peer.prime += 1
        if attempt.said == self._face(now):
            peer.poke += 1
        crossed = now - attempt.called_at < CALL_BACK_AFTER
        if crossed or self._underlay.sightings.settled_at(now) > now:
            return []
        attempt.called(self._face(now), now)
        return [Call(key)]

    def _face(self, now: float) -> object:
        """What we look like, as far as others told."""
        return self._underlay.sightings.fresh(now), self._underlay.granted

    def _try(self, peer: PeerRecord, attempt: Attempt, now: float) -> list[Action]:
        key = peer.config.public_key
        self._raised.add(key)
        if attempt.punch_at is not None and attempt.punch_at <= now:
            attempt.punch_at = None
            peer.poke += 1
        if attempt.next > now:
            return []
        peer.prime += 1
        attempt.called(self._face(now), now)
        return [Call(key)]


def _is_relayed(peer: PeerRecord, counters: PeerCounters | None) -> bool:
    """Whether it is a Shore peer of a mesh, which may be somewhere, and no direct path to it works."""
    if not peer.acquainted or not peer.config.relays or not (peer.config.candidates or peer.told):
        return False
    paths = counters.paths if counters is not None else ()
    return not any(path.kind == "direct" and path.state in WORKING for path in paths)


def _concerned(event: Event, peers: Mapping[bytes, PeerRecord]) -> Iterable[bytes]:
    match event:
        case FactTold(fact=Mapped()):
            return list(peers)
        case PlaneAnswered():
            return [entry.public_key for entry in event.peers or ()]
        case FactTold(fact=Candidates(public_key=key)) | PeerCalled(public_key=key):
            return [key]
        case Configured() | LinksChanged():
            return list(peers)
        case _:
            return []
