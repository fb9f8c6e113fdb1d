"""How long a quiet path may be left alone: just under what the NAT before us remembers.

Each path to a Shore peer has its own answer. Where the peer sees us as we see ourselves nobody translates,
and 25 s please every firewall. Behind a NAT it is what the search of that network has proved (`lifetime`),
and 15 s until it has proved anything. The data plane's probes keep to it; WireGuard's own keepalive has
nothing left to do there.

Each *exit* (a family, and the uplink where there are several) has its trials (`trials`), helped by one Shore
peer that is wanted and alive there. What they find is kept per network, survives a restart, and is verified
after each change of links, when the NAT gave a path in use another mapping, and every six hours.
"""

from collections.abc import Callable, Iterable, Mapping

from shore.core import timers
from shore.core.actions import Action, Announce, CloseSocket, KeepLifetime
from shore.core.candidates import MOST_PATHS, Place, family_of, host_of
from shore.core.events import (
    Attached,
    Configured,
    Event,
    FactTold,
    LifetimesRemembered,
    LinksChanged,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    Resumed,
    SocketsOpened,
    TrialSocketFailed,
    TrialSocketOpened,
)
from shore.core.lifetime import Search
from shore.core.trials import Numbers, Target, Trials
from shore.core.underlay import Underlay, routes
from shore.model.desired import FIRST_QUIET_S, DesiredState, Socket, Trial
from shore.model.facts import PathCounters, PeerCounters, TrialEchoed
from shore.model.links import Exit, Lifetime, Link

OPEN_QUIET_S = 25
OPEN = "no NAT on the way"
FIRST_GUESS = "a first guess: what the NAT before us does is not known yet"


class Keepalive:
    """What is known of the NATs before us, and the trials under way."""

    def __init__(self) -> None:
        self._remembered: dict[str, Lifetime] = {}
        self._trials: dict[Exit, Trials] = {}
        self._searches: dict[str, Search] = {}
        # What each place was seen as, and behind which network; None where nobody translates.
        self._seen: dict[Place, tuple[str, str | None]] = {}
        # What was seen of each peer, and the links and sockets that it was seen by.
        self.faces: dict[bytes, object] = {}
        self._around: object = None
        self._routes: object = None
        self._numbers = Numbers()

    def quiet_s(self, place: Place) -> tuple[int, str]:
        """How many seconds this path may be left alone, and why."""
        if place not in self._seen:
            return FIRST_QUIET_S, FIRST_GUESS
        _, network = self._seen[place]
        if network is None:
            return OPEN_QUIET_S, OPEN
        search = self._searches[network]
        return search.quiet_s(), search.reason()

    def sockets(self) -> tuple[Socket, ...]:
        """Those that are open for trials."""
        return tuple(trials.socket for trials in self._trials.values() if trials.socket is not None)

    def owns(self, socket: int) -> bool:
        """Whether the socket is one of them."""
        return any(held.id == socket for held in self.sockets())

    def trials(self, public_key: bytes) -> tuple[Trial, ...]:
        """What a peer is to be asked."""
        asked = [trials.asked for trials in self._trials.values() if trials.target[0] == public_key]
        return tuple(trial for trial in asked if trial is not None)

    def outcome(self) -> object:
        """All that `quiet_s`, `sockets` and `trials` say, to compare."""
        asked = [(trials.target[0], trials.asked, trials.socket) for trials in self._trials.values()]
        return (self._seen, {name: search.quiet_s() for name, search in self._searches.items()}, asked)

    def deadline(self) -> float | None:
        """When to call again; None if there is nothing to wait for."""
        waits = [trials.deadline() for trials in self._trials.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def follow(
        self,
        event: Event,
        underlay: Underlay,
        counters: Mapping[bytes, PeerCounters],
        is_wanted: Callable[[bytes], bool],
        now: float,
    ) -> list[Action]:
        """Take what happened; return what is to be done. Wanted are the Shore peers that somebody needs."""
        if isinstance(event, PlaneAnswered):
            self._glance(event.peers or (), underlay, counters, is_wanted)
        actions = self._take(event, underlay, now)
        for trials in self._trials.values():
            actions += trials.step(self._searches, underlay.mark, now)
        return actions

    def _take(  # noqa: PLR0911 (one case per event)
        self, event: Event, underlay: Underlay, now: float
    ) -> list[Action]:
        match event:
            case FactTold(fact=TrialEchoed() as fact):
                return self._echoed(fact, now)
            case TrialSocketOpened():
                trials = self._trials.get(event.exit)
                taken = trials is not None and trials.opened(event.socket, now)
                return [] if taken else [CloseSocket(event.socket.id)]
            case TrialSocketFailed() if event.exit in self._trials:
                return self._trials[event.exit].rest(now + timers.TRIAL_HELPLESS)
            case Configured():
                # Others may be wanted now.
                self.faces = {}
            case LifetimesRemembered():
                self._remembered = {entry.network: entry for entry in event.lifetimes}
            case LinksChanged():
                return self._links_changed(underlay, now)
            case Attached():
                return self._adopt(event.state)
            case PlaneStarted() | PlaneLost() | SocketsOpened() | Resumed():
                return self._abandon(now)
            case _:
                pass
        return []

    def _glance(
        self,
        fresh: tuple[PeerCounters, ...],
        underlay: Underlay,
        counters: Mapping[bytes, PeerCounters],
        is_wanted: Callable[[bytes], bool],
    ) -> None:
        """Look at all peers where one of them, or what is around us, looks different."""
        around = (underlay.links, dict(underlay.sockets.uplinks))
        faces = {entry.public_key: _face(entry, is_wanted(entry.public_key)) for entry in fresh}
        same = all(self.faces.get(key) == face for key, face in faces.items())
        if same and self.faces.keys() == counters.keys() and around == self._around:
            return
        self._around = around
        self.faces = {key: _face(entry, is_wanted(key)) for key, entry in counters.items()}
        if underlay.links is not None:
            self._observe(counters.values(), underlay, underlay.links, is_wanted)

    def _observe(
        self,
        counters: Iterable[PeerCounters],
        underlay: Underlay,
        links: tuple[Link, ...],
        is_wanted: Callable[[bytes], bool],
    ) -> None:
        own = {address for link in links for address in link.addresses}
        places: dict[Place, tuple[str, str | None]] = {}
        helpers: dict[Exit, list[tuple[Target, str]]] = {}
        for peer in counters:
            direct = [path for path in peer.paths if path.kind == "direct"]
            for path in (path for path in direct if path.observed is not None):
                network = self._network(path, own, underlay)
                place = (path.socket, path.remote)
                places[place] = (path.observed or "", network)
                if network is None:
                    continue
                self._search(network, self._seen.get(place), path.observed or "")
                if path.state == "live" and is_wanted(peer.public_key) and path.kind == "direct":
                    leaves_by = (underlay.sockets.uplink_of(path.socket), family_of(path.remote))
                    helper = ((peer.public_key, path.remote), network)
                    # The path in use first.
                    helpers.setdefault(leaves_by, []).insert(0 if path.primary else MOST_PATHS, helper)
        self._seen = places
        for leaves_by in helpers.keys() - self._trials.keys():
            self._trials[leaves_by] = Trials(leaves_by, self._numbers)
        for leaves_by, trials in self._trials.items():
            trials.may_ask(helpers.get(leaves_by, []))

    def _network(self, path: PathCounters, own: set[str], underlay: Underlay) -> str | None:
        outside = host_of(path.observed or "")
        if outside in own:
            return None
        family, uplink = family_of(path.remote), underlay.sockets.uplink_of(path.socket)
        inside = sorted(
            address
            for link in underlay.links or ()
            if link.up and (link.name == uplink if uplink else family in link.default)
            for address in link.addresses
            if (":" in address) == (family == 6)
        )
        return f"{outside} for {' '.join(inside)}"

    def _search(self, network: str, seen: tuple[str, str | None] | None, observed: str) -> None:
        """There is one for each network; a path in use that was given another mapping speaks against it."""
        if network not in self._searches:
            self._searches[network] = Search(self._remembered.get(network))
        elif seen is not None and seen[1] == network and seen[0] != observed:
            self._searches[network].doubt()

    def _echoed(self, fact: TrialEchoed, now: float) -> list[Action]:
        for trials in self._trials.values():
            if trials.target[0] == fact.public_key and trials.awaits(fact.number):
                search = trials.search
                before, quiet_s = (search.lives_s, search.dies_s), search.quiet_s()
                actions = trials.echoed(fact.held_s, now)
                if (search.lives_s, search.dies_s) != before:
                    found = Lifetime(trials.network, search.lives_s, search.dies_s)
                    self._remembered[trials.network] = found
                    actions.append(KeepLifetime(found))
                if search.quiet_s() != quiet_s:
                    actions.append(Announce(f"keepalive every {search.quiet_s()} s", search.reason()))
                return actions
        return []

    def _links_changed(self, underlay: Underlay, now: float) -> list[Action]:
        before, self._routes = self._routes, routes(underlay.links or ())
        if before in (None, self._routes):
            return []
        for search in self._searches.values():
            search.doubt()
        return self._abandon(now)

    def _abandon(self, now: float) -> list[Action]:
        """Whatever is under way says nothing any more."""
        return [action for trials in self._trials.values() for action in trials.rest(now + timers.TRIAL_REST)]

    def _adopt(self, state: DesiredState) -> list[Action]:
        """Another brain's trials are over, and its numbers are taken."""
        used = {path.socket for peer in state.peers for path in peer.paths}
        listening: dict[int, int] = {}
        for socket in state.sockets:
            listening.setdefault(socket.family, socket.id)
        self._numbers.after(trial.number for peer in state.peers for trial in peer.trials)
        kept = used | set(listening.values())
        return [CloseSocket(one.id) for one in state.sockets if one.uplink is None and one.id not in kept]


def _face(peer: PeerCounters, wanted: bool) -> object:
    """All of a peer's counters that tell something about the NATs before us."""
    paths = (path for path in peer.paths if path.observed is not None)
    return (
        wanted,
        [(path.socket, path.remote, path.observed, path.state == "live", path.primary) for path in paths],
    )
