"""Links to relays: which are wanted, when to dial, and where peers are at them.

A node keeps two links warm where there are two relays, and one to the home relay of each peer that asks for
it, since a peer is reached where *it* is. The *home relay* is the one of our links that costs least, round
trip and what its queue had to drop as `score` counts them, with a margin, so that it does not move for
nothing. A relay that cannot be dialled, or does not let us in, gives way to the next one and is tried again
ever more slowly, unless we have no link at all; one that was up is dialled again at once, and so is one that
the server admits us to anew, which it does when that relay comes back.

A link is *leaving* when its relay said so, or when our own way there may have changed. Another one is
dialled then, and the old one is closed when the new one is up: a move, not a gap. Packets move to another
relay's link at once, where there is one, as a relay that is restarted does not wait for long. Links die with
a data plane, as TLS does, so they are dialled anew while the next plane starts.

Where a relay's UDP side forwards to us, a peer's place is offered by that as well (`bindings`).

A peer that a relay calls *away* is not waited for there: its place is the last to be tried, until it has
answered from it, or until that word is old. To people a place is its relay's address.
"""

import ipaddress
from collections.abc import Iterable

import msgspec

from shore.core import timers
from shore.core.actions import Action, Announce, CloseLink, DialRelay
from shore.core.bindings import Bindings
from shore.core.candidates import host_of
from shore.core.events import (
    Event,
    FactTold,
    LinkDialFailed,
    LinkDialled,
    PlaneAnswered,
    PlaneLost,
)
from shore.core.score import LOSS_FREE, MS_PER_PERCENT
from shore.core.sockets import Sockets
from shore.core.underlay import Underlay
from shore.model.config import PeerConfig, RelayConfig, TunnelConfig
from shore.model.desired import Binding, RelayLink
from shore.model.facts import (
    Away,
    Bound,
    Fact,
    LinkCounters,
    LinkDown,
    LinkLeaving,
    LinkUp,
    PeerCounters,
    Seen,
    Unbound,
)
from shore.wire.relay import tag_of

WARM = 2
MARGIN_MS = 10.0
MARGIN_SHARE = 1 / 3
# How much of the newest share goes into a link's loss.
LOSS_SHARE = 0.2
# RFC 6666's discard prefix: an address that nobody has.
PLACES = "[100::"
# Of how many peers a relay is asked at once.
MOST_ASKED = 16
# Of how many links the addresses are known: paths by one that ended are still spoken of.
MOST_ADDRESSES = 64

Place = tuple[int, str]


class Link:
    """One stream: what the plane is told of it, and how it is."""

    def __init__(self, wish: RelayLink) -> None:
        self.wish = wish
        self.up = False
        self.leaving = False
        self.rtt_ms: float | None = None
        # A share, smoothed, of the datagrams that it was given and had to drop.
        self.loss = 0.0
        self._sent = self._drops = 0
        # What we look like from there.
        self.observed: str | None = None

    def counted(self, entry: LinkCounters) -> None:
        """Take its numbers."""
        self.rtt_ms = entry.rtt_ms
        sent, dropped = entry.sent - self._sent, entry.drops - self._drops
        self._sent, self._drops = entry.sent, entry.drops
        if sent > 0:
            self.loss += LOSS_SHARE * (min(dropped / sent, 1.0) - self.loss)

    def cost_ms(self) -> float | None:
        """What it costs to be reached by it; None while its round trip is not known."""
        lossy = max(self.loss - LOSS_FREE, 0.0) * 100 * MS_PER_PERCENT
        return None if self.rtt_ms is None else self.rtt_ms + lossy


class Relays:
    """All links of one tunnel."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.bindings = Bindings()
        self.home: str | None = None
        self._known: dict[str, RelayConfig] = {}
        self._key: bytes | None = None
        self._homes: tuple[str, ...] = ()
        self._dialling: set[str] = set()
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        # When a relay said that nobody is there.
        self._away: dict[Place, float] = {}
        self._addresses: dict[int, str] = {}
        # Where relays see those that they were asked about.
        self._seen: dict[Place, str] = {}

    def configure(self, config: TunnelConfig) -> list[Action]:
        """Take a configuration; links to relays that it does not name, or names otherwise, are closed."""
        self._key = config.admission_key
        before = self._known
        self._known = {relay.id: relay for relay in config.relays if relay.admission is not None}
        for relay in self._known.values():
            if relay.id in before and before[relay.id].admission != relay.admission:
                self._due.pop(relay.id, None)
        homes = [relay for peer in config.peers for relay in peer.relays[:1]]
        self._homes = tuple(dict.fromkeys(relay for relay in homes if relay in self._known))
        stale = [number for number, link in self.links.items() if not self._fits(link.wish)]
        return [self._close(number) for number in stale]

    def adopt(self, links: Iterable[RelayLink], bindings: tuple[Binding, ...] = ()) -> None:
        """Those that a running plane holds; its counters will tell which are up."""
        for wish in links:
            self._begin(wish).up = True
        self.bindings.adopt(bindings, {number: link.wish.relay for number, link in self.links.items()})

    def follow(self, event: Event, underlay: Underlay, now: float) -> list[Action]:
        """What an event means for links, and what to dial."""
        if self._away:
            self._forget_away(event, now)
        actions = [*self._take(event, underlay, now), *self._dial(underlay.mark, now)]
        self.bindings.keep(self._known, {link.wish.relay for link in self.links.values()})
        self.bindings.follow(underlay.sockets)
        underlay.sockets.relays = {**self._addresses, **self.bindings.addresses()}
        underlay.sockets.slower = self._slower()
        underlay.sockets.narrow = self.bindings.over_ipv6()
        uplinks = {number: link.wish.uplink for number, link in self.links.items()}
        # A binding leaves by the kernel's own choice, as its link did when it was dialled.
        beside = {binding.id: uplinks.get(binding.link) for binding in self.bindings.wishes()}
        underlay.link_uplinks = {**uplinks, **beside}
        return actions

    def moved(self) -> None:
        """Our way out may be another one: every link is replaced, and nothing is waited for."""
        self._due.clear()
        for link in self.links.values():
            link.leaving = True

    def deadline(self) -> float | None:
        """When to dial again."""
        wanted = [relay for relay in self._due if relay in self._known and not self._has(relay)]
        return min((self._due[relay] for relay in wanted if relay not in self._dialling), default=None)

    def wishes(self) -> tuple[RelayLink, ...]:
        """The plane's part."""
        return tuple(link.wish for link in self.links.values())

    def outcome(self) -> object:
        """What peers' parts stand on; equal as long as they are."""
        links = tuple((link.wish, link.up, link.leaving) for link in self.links.values())
        return links, frozenset(self._away), self.bindings.outcome()

    def places(self, peer: PeerConfig) -> tuple[list[Place], list[Place]]:
        """Where a peer is at the relays that we are linked to, its home relay first; and where it is away,
        or the relay will be soon."""
        remote = place_of(peer.public_key) if peer.relays else ""
        ways = [(relay, (*self.bindings.by(relay), *self._up(relay))) for relay in peer.relays]
        every = [(number, remote) for _, numbers in ways for number in numbers]
        leaving = {(number, remote) for way in ways for number in way[1] if self._is_leaving(way[0], number)}
        last = self._away.keys() | (leaving if leaving != set(every) else set())
        return [place for place in every if place not in last], [place for place in every if place in last]

    def ask(self, peers: Iterable[PeerConfig]) -> None:
        """Have relays say from where these peers speak to them, and forget it of all others."""
        wanted = {place for peer in peers for place in self.places(peer)[0]}
        for number, link in self.links.items():
            asks = tuple(sorted(remote for at, remote in wanted if at == number))[:MOST_ASKED]
            if link.wish.asks != asks:
                link.wish = msgspec.structs.replace(link.wish, asks=asks)
        self._seen = {place: address for place, address in self._seen.items() if place in wanted}

    def seen(self, peer: PeerConfig) -> str | None:
        """The address that a peer speaks from, in the word of a relay that was asked."""
        return next((self._seen[place] for place in self.places(peer)[0] if place in self._seen), None)

    def address(self, number: int) -> str:
        """Where the relay of a link is, as it was dialled; also of a link that ended lately."""
        binding = self.bindings.of(number)
        return self._addresses.get(number, "that is no more") if binding is None else binding.server

    def observed(self, number: int) -> str | None:
        """What a relay sees a link come from."""
        link = self.links.get(number)
        return None if link is None else link.observed

    def underlay(self, place: Place) -> Place:
        """Which socket and endpoint a place at a relay's UDP side is reached by; others stay as they are."""
        binding = self.bindings.of(place[0])
        return place if binding is None else (binding.socket, binding.server)

    def _take(self, event: Event, underlay: Underlay, now: float) -> list[Action]:
        match event:
            case LinkDialled():
                return self._dialled(event, underlay)
            case LinkDialFailed():
                self._dialling.discard(event.relay)
                return self._failed(event.relay, event.reason, now)
            case FactTold():
                return self._learn(event.fact, underlay.sockets, now)
            case PlaneAnswered():
                return self._counted(event.links, now)
            case PlaneLost():
                self._due.clear()
                self.bindings.forget()
                return [self._close(number) for number in list(self.links)]
            case _:
                return []

    def _dialled(self, event: LinkDialled, underlay: Underlay) -> list[Action]:
        self._dialling.discard(event.relay)
        relay = self._known.get(event.relay)
        if relay is None or relay.admission is None or self._key is None:
            return [CloseLink(event.link)]
        admission = msgspec.msgpack.encode(relay.admission)
        uplink = underlay.uplink_at(event.local)
        wish = RelayLink(event.link, relay.id, relay.pin, event.name, admission, self._key, uplink)
        self._begin(wish)
        return []

    def _begin(self, wish: RelayLink) -> Link:
        self._addresses[wish.id] = self._address(wish.relay, wish.name)
        while len(self._addresses) > MOST_ADDRESSES:
            del self._addresses[min(self._addresses)]
        link = self.links[wish.id] = Link(wish)
        return link

    def _address(self, relay: str, host: str | None = None) -> str:
        """One of its addresses: that of the host, else the first; its id where it has none."""
        known = self._known.get(relay)
        addresses = known.addresses if known is not None else ()
        dialled = [each for each in addresses if host_of(each) == host]
        return next(iter((*dialled, *addresses)), relay)

    def _failed(self, relay: str, reason: str, now: float) -> list[Action]:
        failures = self._failures.get(relay, 0)
        self._failures[relay] = failures + 1
        waits = timers.RELAY_RETRY
        wait = waits[min(failures, len(waits) - 1)]
        linked = any(link.up for link in self.links.values())
        self._due[relay] = now + (wait if linked else min(wait, timers.RELAY_RETRY_ALONE))
        return [] if failures else [Announce(f"no link to relay {self._address(relay)}", reason)]

    def _learn(self, fact: Fact, sockets: Sockets, now: float) -> list[Action]:
        match fact:
            case LinkUp() if fact.link in self.links:
                link = self.links[fact.link]
                link.observed = fact.observed
                self.bindings.linked(link.wish.relay, fact.link, link.wish.name, fact.udp, sockets)
                return self._came_up(link)
            case Bound() | Unbound():
                self.bindings.told(fact.binding, bound=isinstance(fact, Bound))
            case LinkDown() if fact.link in self.links:
                return self._went_down(fact.link, fact.reason, now)
            case LinkLeaving() if fact.link in self.links:
                self.links[fact.link].leaving = True
                return [Announce(f"relay {self.address(fact.link)} leaves", "it is restarted")]
            case Away() if fact.link in self.links:
                self._away[fact.link, fact.remote] = now
            case Seen() if fact.link in self.links:
                self._seen[fact.link, fact.remote] = fact.address
            case _:
                pass
        return []

    def _came_up(self, link: Link) -> list[Action]:
        relay = link.wish.relay
        link.up = True
        self._failures.pop(relay, None)
        self._due.pop(relay, None)
        same = [(number, other) for number, other in self.links.items() if other.wish.relay == relay]
        old = [number for number, other in same if other is not link and other.leaving]
        closed = [self._close(number) for number in old]
        where = self.address(link.wish.id)
        return [*closed, Announce(f"linked to relay {where}", "moved" if old else "it let us in")]

    def _went_down(self, number: int, reason: str, now: float) -> list[Action]:
        link = self.links[number]
        relay = link.wish.relay
        closed = self._close(number)
        if not link.up:
            return [closed, *self._failed(relay, reason, now)]
        lost = Announce(f"link to relay {self.address(number)} lost", reason)
        return [closed] if link.leaving else [closed, lost]

    def _forget_away(self, event: Event, now: float) -> None:
        if isinstance(event, PlaneAnswered):
            for place, age in _proved(event.peers or ()):
                if self._away.get(place, now) < now - age:
                    del self._away[place]
        self._away = {place: at for place, at in self._away.items() if now < at + timers.AWAY_FOR}

    def _counted(self, counters: tuple[LinkCounters, ...], now: float) -> list[Action]:
        actions: list[Action] = []
        for entry in counters:
            link = self.links.get(entry.id)
            if link is None:
                continue
            link.counted(entry)
            if entry.state == "down":
                actions += self._went_down(entry.id, "the data plane lost it", now)
        self._choose_home()
        return actions

    def _choose_home(self) -> None:
        up = [link for link in self.links.values() if link.up and not link.leaving]
        costs = ((link.wish.relay, link.cost_ms()) for link in up)
        measured = {relay: cost for relay, cost in costs if cost is not None}
        if not measured:
            return
        best = min(measured, key=lambda relay: measured[relay])
        current = measured.get(self.home or "")
        if current is None or measured[best] + MARGIN_MS + current * MARGIN_SHARE < current:
            self.home = best

    def _dial(self, mark: int, now: float) -> list[Action]:
        wanted = [relay for relay in self._wanted() if not self._has(relay) and relay not in self._dialling]
        ready = [relay for relay in wanted if self._due.get(relay, now) <= now]
        self._dialling.update(ready)
        return [DialRelay(relay, self._known[relay].addresses, mark) for relay in ready]

    def _wanted(self) -> list[str]:
        """Two that work, those that failed last as far as there are no others, and the homes of peers."""
        if self._key is None:
            return []
        order = sorted(self._known, key=lambda relay: (relay != self.home, relay in self._failures))
        working = [relay for relay in order if relay not in self._failures][:WARM]
        missing = WARM - len(working)
        failing = [relay for relay in order if relay in self._failures] if missing else []
        return list(dict.fromkeys([*working, *failing, *self._homes]))

    def _has(self, relay: str) -> bool:
        return any(link.wish.relay == relay and not link.leaving for link in self.links.values())

    def _up(self, relay: str) -> list[int]:
        found = [
            (number, link) for number, link in self.links.items() if link.wish.relay == relay and link.up
        ]
        return [number for number, _ in sorted(found, key=lambda entry: entry[1].leaving)]

    def _is_leaving(self, relay: str, number: int) -> bool:
        """Of a link, its own word; a binding leaves with all links to its relay."""
        ups = [number] if number in self.links else self._up(relay)
        return bool(ups) and all(self.links[up].leaving for up in ups)

    def _slower(self) -> frozenset[int]:
        """Links to relays that forward to us by UDP as well."""
        links = self.links.items()
        return frozenset(number for number, link in links if self.bindings.by(link.wish.relay))

    def _fits(self, wish: RelayLink) -> bool:
        relay = self._known.get(wish.relay)
        return relay is not None and relay.pin == wish.pin

    def _close(self, number: int) -> CloseLink:
        del self.links[number]
        return CloseLink(number)


def place_of(node_key: bytes) -> str:
    """A node's place at any relay, as the plane writes it."""
    address = ipaddress.IPv6Address(bytes([1, 0, 0, 0, 0, 0, 0, 0]) + tag_of(node_key))
    return f"[{address}]:1"


def _proved(counters: Iterable[PeerCounters]) -> list[tuple[Place, float]]:
    """How long ago each relayed path gave an answer."""
    return [
        ((path.socket, path.remote), path.proof_age_s)
        for peer in counters
        for path in peer.paths
        if path.kind == "relay" and path.proof_age_s is not None
    ]


def is_place(remote: str) -> bool:
    """Whether a remote is a place at a relay rather than an endpoint."""
    return remote.startswith(PLACES) and remote.endswith("]:1")
