"""How large datagrams may be on the paths to one peer: one search per path, and what data says about it.

A search (`pmtud`) runs on each path that is alive: for a Shore peer with probes, for a foreign one with echo
requests through the tunnel to its own address, if it has one. What is proved becomes the path's MTU in the
desired state, and that of the primary path the MTU of the peer's routes. A path that a peer was moved to, or
a changed link, is no reason to believe less; it is a reason to verify. So is a path that was found to carry
less than before: what narrowed it may be a link that others of the peer's paths take too, by another family
of addresses. Until that is known, data that comes to take one of those is no larger than on the narrowed
path, which is always safe.
"""

import ipaddress
from collections.abc import Mapping

import msgspec

from shore.core.candidates import Place, family_of
from shore.core.pmtud import Arrivals, MtuAction, PathMtu, Phase, SendProbe
from shore.model.config import PeerConfig
from shore.model.desired import Measurement
from shore.model.facts import Measured, PathCounters

# IP, UDP and WireGuard around a packet.
OVERHEAD = {4: 60, 6: 80}
# Tokens of a path are below this.
TOKENS = 1 << 32


class Ends(msgspec.Struct, frozen=True):
    """Our tunnel address and the peer's."""

    ours: str
    theirs: str


class Sizes:
    """The searches on the paths to one peer."""

    def __init__(self) -> None:
        self._searches: dict[Place, PathMtu] = {}
        self._numbers: dict[Place, int] = {}
        self._seen: dict[Place, tuple[int, int, int, int]] = {}
        self._told: dict[Place, int] = {}
        # What data is cut to while it is in doubt whether a place carries more.
        self._caps: dict[Place, int] = {}
        self._ends: Ends | None = None

    def mtu(self, place: Place, cap: int | None = None) -> int | None:
        """The largest datagram that was proved to get there, IP header included.

        `cap`: no packet in it is to be longer.
        """
        search = self._searches.get(place)
        if search is None or not search.proved:
            return None
        mtu = self._trusted(place, search)
        return mtu if cap is None else min(mtu, cap + OVERHEAD[family_of(place[1])])

    def proved(self) -> dict[Place, int]:
        """The largest datagram that was proved to get to each place."""
        searches = self._searches.items()
        return {place: self._trusted(place, search) for place, search in searches if search.proved}

    def places(self) -> tuple[Place, ...]:
        """Where searches run, or have come to an end."""
        return tuple(self._searches)

    def inner_mtu(self, place: Place) -> int | None:
        """The longest packet that fits into it."""
        mtu = self.mtu(place)
        return None if mtu is None else mtu - OVERHEAD[family_of(place[1])]

    def use_ends(self, ends: Ends | None) -> None:
        """Measure by echo requests between these."""
        self._ends = ends

    def watch(self, places: dict[Place, int], now: float) -> list[tuple[Place, MtuAction]]:
        """These paths are alive; their ceilings are what our device carries."""
        done: list[tuple[Place, MtuAction]] = []
        for place in self._searches.keys() - places.keys():
            del self._searches[place]
            self._caps.pop(place, None)
        for place, ceiling in places.items():
            search = self._searches.get(place)
            if search is None:
                search = self._searches[place] = PathMtu(family_of(place[1]), ceiling)
                self._numbers.setdefault(place, len(self._numbers) + 1)
                actions = search.start(now)
            else:
                actions = search.ceiling_changed(ceiling, now)
            done += [(place, action) for action in actions]
        return done

    def counted(self, paths: tuple[PathCounters, ...], now: float) -> list[tuple[Place, MtuAction]]:
        """What the peer counted of our data may point at a black hole."""
        done: list[tuple[Place, MtuAction]] = []
        for path in paths:
            place = (path.socket, path.remote)
            search = self._searches.get(place)
            totals = (
                path.large_sent,
                path.large_arrived,
                path.data_sent - path.large_sent,
                path.data_arrived - path.large_arrived,
            )
            before = self._seen.get(place, totals)
            self._seen[place] = totals
            grown = [new - old for new, old in zip(totals, before, strict=True)]
            if search is not None and min(grown) >= 0 and max(grown) > 0:
                done += [(place, action) for action in search.arrivals(Arrivals(*grown), now)]
        return done

    def suspected(self, place: Place, now: float) -> list[tuple[Place, MtuAction]]:
        """Large data that goes there vanishes, and small data does not."""
        search = self._searches.get(place)
        return [] if search is None else [(place, action) for action in search.suspected(now)]

    def narrowed(
        self, here: Place, primary: Place | None, uplinks: Mapping[Place, str], now: float
    ) -> list[tuple[Place, MtuAction]]:
        """The path to `here` was found to carry less: others that leave by its uplink may as well."""
        done: list[tuple[Place, MtuAction]] = []
        mtu = self._searches[here].mtu
        for place, search in self._searches.items():
            if place == here or uplinks.get(place) != uplinks.get(here) or search.mtu <= mtu:
                continue
            done += [(place, action) for action in search.suspected(now)]
            if place != primary and search.in_doubt:
                self._caps[place] = mtu
        return done

    def may_explain_loss(self, place: Place, now: float) -> bool:
        """Whether what is lost there now may be lost for its size."""
        search = self._searches.get(place)
        return search is not None and search.may_explain_loss(now)

    def shrank(self, place: Place, now: float) -> bool:
        """Whether the path was found to carry less than before just now."""
        search = self._searches.get(place)
        return search is not None and search.shrank(now)

    def disturbed(self, now: float) -> list[tuple[Place, MtuAction]]:
        """The underlay changed."""
        return [(place, a) for place, search in self._searches.items() for a in search.disturbed(now)]

    def measured(self, fact: Measured, now: float) -> list[tuple[Place, MtuAction]]:
        """A question was answered, or refused by our own device."""
        number, token = divmod(fact.token, TOKENS)
        for place, search in self._searches.items():
            if self._numbers[place] == number:
                answer = search.refused if fact.refused else search.answered
                return self._done(place, search, answer(token, now))
        return []

    def wake(self, now: float) -> list[tuple[Place, MtuAction]]:
        """Do what is due."""
        done: list[tuple[Place, MtuAction]] = []
        for place, search in self._searches.items():
            deadline = search.deadline()
            if deadline is not None and deadline <= now:
                done += self._done(place, search, search.wake(now))
        return done

    def news(self) -> list[tuple[Place, int]]:
        """Searches that came to an end with another MTU than was told before; told once."""
        found = []
        for place, search in self._searches.items():
            settled = search.phase in (Phase.SEARCH_COMPLETE, Phase.ERROR)
            if settled and self._told.get(place) != search.mtu:
                self._told[place] = search.mtu
                found.append((place, search.mtu))
        return found

    def deadline(self) -> float | None:
        """When `wake` is due."""
        deadlines = [search.deadline() for search in self._searches.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def question(self, public_key: bytes, place: Place, probe: SendProbe) -> Measurement:
        """A probe as the plane is asked for it."""
        token = self._numbers[place] * TOKENS + probe.token
        ends = None if self._ends is None else (self._ends.ours, self._ends.theirs)
        return Measurement(public_key, place[0], place[1], probe.size, token, ends)

    def _done(self, place: Place, search: PathMtu, actions: list[MtuAction]) -> list[tuple[Place, MtuAction]]:
        if not search.in_doubt:
            self._caps.pop(place, None)
        return [(place, action) for action in actions]

    def _trusted(self, place: Place, search: PathMtu) -> int:
        """What data there may be as large as."""
        return min(search.mtu, self._caps.get(place, search.mtu))


def ends_of(addresses: tuple[str, ...], peer: PeerConfig) -> Ends | None:
    """Our tunnel address and the peer's own, if its allowed IPs begin with one of the same family."""
    ours = {ipaddress.ip_interface(address).version: address.partition("/")[0] for address in addresses[::-1]}
    for prefix in peer.allowed_ips:
        network = ipaddress.ip_network(prefix)
        if network.num_addresses == 1 and network.version in ours:
            return Ends(ours[network.version], str(network.network_address))
    return None
