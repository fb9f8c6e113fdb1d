"""What follows from everything that is known: the desired state and the host plan, part by part.

Both could be derived anew after every event, and the result would be the same. But of a hundred idle peers a
few are heard of each second, and nothing about most of those is new. So each peer's part is kept, and made
again only where it may be another one:

* An event *concerns* the peer that it names (`concerned`), or nobody, or, if it is not known to be one of
  these, everybody. Counters, sizes and what a peer tells of itself concern nobody by themselves: whoever
  takes them says whom they changed.
* All parts stand on the same *basis*. Where that is another one, all of them are made again.
* A search for the MTU of a path has many answers, each of which proves a little more. Of a peer that is only
  *resized* by one, the paths stay as they are but for their MTUs.

Nothing is made while nothing is stale, so an event that changes nothing costs nothing. tests/sim holds what
is kept against what is derived anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from shore.core import events
from shore.core.events import Event
from shore.core.keepalive import Keepalive
from shore.core.mtu import Mtus
from shore.core.names import Names
from shore.core.peer import Footing, PeerRecord
from shore.core.reconcile import host_plan
from shore.core.relays import Relays
from shore.core.underlay import Underlay
from shore.model.config import TunnelConfig
from shore.model.desired import Candidate, DesiredState, Interface, Peer, Socket, StunQuery
from shore.model.facts import Candidates, Fact, Mapped, Measured, PeerCounters, Swallowed
from shore.model.host import HostPlan
from shore.model.links import Link


class Basis(NamedTuple):
    """What the desired state says of the tunnel itself, and what every peer's part stands on."""

    config: TunnelConfig
    interface: Interface
    sockets: tuple[Socket, ...]
    stun: tuple[StunQuery, ...]
    own: tuple[Candidate, ...]
    metered: frozenset[int]
    cap: int | None
    outcomes: object


class Derivation:
    """The parts of the peers, and which of them are stale. `peers` is the heart's own table."""

    def __init__(  # noqa: PLR0917 (the parts of the heart, in their order there)
        self,
        peers: Mapping[bytes, PeerRecord],
        underlay: Underlay,
        names: Names,
        keepalive: Keepalive,
        mtus: Mtus,
        relays: Relays,
    ) -> None:
        self._peers, self._underlay, self._names = peers, underlay, names
        self._keepalive, self._mtus, self._relays = keepalive, mtus, relays
        self._state: DesiredState | None = None
        self._basis: Basis | None = None
        self._faces: object = None
        self._parts: dict[bytes, Peer] = {}
        # The longest packet to each peer whose path is known, for its routes.
        self._inner: dict[bytes, int] = {}
        self._stale: set[bytes] = set()
        self._resized: set[bytes] = set()
        self._all_stale = True
        self._plan: HostPlan | None = None
        self._planned_for: tuple[TunnelConfig, dict[bytes, int], tuple[Link, ...] | None] | None = None

    @property
    def own(self) -> tuple[Candidate, ...]:
        """Where we may be, as of the last derivation."""
        return () if self._basis is None else self._basis.own

    def concern(self, keys: Iterable[bytes] | None) -> None:
        """The parts of these peers may be other ones now; None: of all."""
        if keys is None:
            self._all_stale = True
        else:
            self._stale.update(keys)

    def resized(self, key: bytes) -> None:
        """Another size was proved on a path to this peer, and nothing else is another one."""
        self._resized.add(key)

    def desired(self, config: TunnelConfig, counters: Mapping[bytes, PeerCounters]) -> DesiredState:
        """The desired state, of which only stale parts are made anew."""
        outcomes = (self._keepalive.outcome(), self._relays.outcome())
        if self._state is not None and self._is_fresh(outcomes):
            if self._resized:
                self._state = msgspec.structs.replace(self._state, peers=self._resize(config))
            return self._state
        queries = self._underlay.queries(config, self._names.addresses)
        footing = self.footing(config, counters, queries)
        extras = [socket for peer in self._peers.values() for socket in peer.own_sockets()]
        basis = Basis(
            config,
            Interface(
                config.private_key,
                self._mtus.assumed(config),
                config.offload,
                config.probing,
                config.probing and config.overhear,
            ),
            (*self._underlay.sockets.all(), *extras, *self._keepalive.sockets()),
            queries,
            footing.own,
            frozenset(self._underlay.metered(config)),
            footing.cap,
            outcomes,
        )
        self._derive(basis, footing)
        self._state = DesiredState(
            basis.interface,
            basis.sockets,
            self._peers_parts(config),
            basis.stun,
            config.filter,
            self._relays.wishes(),
            self._relays.bindings.wishes(),
        )
        return self._state

    def footing(
        self, config: TunnelConfig, counters: Mapping[bytes, PeerCounters], queries: tuple[StunQuery, ...]
    ) -> Footing:
        """What a peer's part is made from, beside what is known of it."""
        return Footing(
            self._underlay.sockets,
            self._names.addresses,
            self._keepalive,
            self._underlay.candidates(counters.values(), queries),
            self._underlay.metered(config),
            self._mtus.cap(config),
            self._relays.places,
        )

    def plan(self, config: TunnelConfig) -> HostPlan | None:
        """The host plan as of the last derivation; None where somebody else sees to the host."""
        if not config.host_managed:
            return None
        planned, links = self._planned_for, self._underlay.links
        if (
            planned is None
            or (planned[0] is not config or planned[2] is not links)
            or planned[1] != self._inner
        ):
            self._planned_for = (config, dict(self._inner), links)
            self._plan = host_plan(config, self._inner, links or ())
        return self._plan

    def _is_fresh(self, outcomes: object) -> bool:
        """Whether nothing is another one: what the peers see of us decides where we say that we are."""
        same = self._basis is not None and self._basis.outcomes == outcomes
        return same and self._faces is self._keepalive.faces and not (self._all_stale or self._stale)

    def _peers_parts(self, config: TunnelConfig) -> tuple[Peer, ...]:
        return () if config.private_key is None else tuple(self._parts[key] for key in self._peers)

    def _resize(self, config: TunnelConfig) -> tuple[Peer, ...]:
        cap = self._mtus.cap(config)
        for key in self._resized & self._peers.keys():
            self._parts[key] = self._peers[key].resized(self._parts[key], cap)
            self._note_inner(key)
        self._resized = set()
        return self._peers_parts(config)

    def _note_inner(self, key: bytes) -> None:
        inner = self._peers[key].inner_mtu()
        if inner is None:
            self._inner.pop(key, None)
        else:
            self._inner[key] = inner

    def _derive(self, basis: Basis, footing: Footing) -> None:
        stale = (self._stale | self._resized) & self._peers.keys()
        if self._all_stale or basis != self._basis:
            stale = set(self._peers)
            self._parts, self._inner = {}, {}
        for key in stale:
            self._parts[key] = self._peers[key].desired(footing)
            self._note_inner(key)
        self._basis, self._stale, self._resized, self._all_stale = basis, set(), set(), False
        self._faces = self._keepalive.faces


def concerned(event: Event) -> Iterable[bytes] | None:
    """Whose parts an event may change by itself; None: everybody's."""
    match event:
        case events.PlaneAnswered() | events.QuestionUnanswered() | events.Woke():
            return ()
        case events.ClockRead() | events.StampRemembered() | events.NameFailed():
            return ()
        case events.FactTold():
            return _concerned_by(event.fact)
        case events.RenewAsked() | events.PokeAsked() | events.PeerCalled():
            return (event.public_key,)
        case _:
            return None


def _concerned_by(fact: Fact) -> Iterable[bytes] | None:
    key = getattr(fact, "public_key", None)
    if isinstance(fact, Mapped):
        return None
    return () if key is None or isinstance(fact, QUIET) else (key,)


# Most of these say what was known already.
QUIET = (Candidates, Measured, Swallowed)
