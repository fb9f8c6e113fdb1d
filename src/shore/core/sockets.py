"""Which sockets a tunnel has: one unbound one per family, one per uplink and family, and extra ones.

The unbound sockets of the listen port are always there: the kernel's own routing is the path of last
resort, and the only one that a foreign peer needs. An *uplink* gets sockets of its own, bound to the
device, so that each way out is a path by itself. They are the interfaces that the configuration names,
else those with a default route where there are two or more: a single one is what the unbound socket uses
anyway. A device that comes back with another index is another device, and its sockets are opened again.
"""

from collections.abc import Collection, Mapping

from shore.model.config import TunnelConfig
from shore.model.desired import Socket
from shore.model.links import Family, Link, Way


class Sockets:
    """The open ones by what they are for; extra ones belong to their peers."""

    def __init__(self) -> None:
        self.unbound: dict[int, Socket] = {}
        self.uplinks: dict[Way, Socket] = {}
        # Addresses of relays, by link.
        self.relays: Mapping[int, str] = {}
        # Links to relays that can be reached by UDP as well.
        self.slower: Collection[int] = ()
        # Bindings to relays over IPv6.
        self.narrow: Collection[int] = ()
        self._asked: set[Way] = set()
        self._failed: set[Way] = set()
        self._ways: tuple[TunnelConfig, tuple[Link, ...], list[Way]] | None = None

    def adopt(self, sockets: tuple[Socket, ...]) -> None:
        """Those that a running plane holds; the index of an uplink is learnt with the next links."""
        for socket in sockets:
            if socket.uplink is None:
                self.unbound.setdefault(socket.family, socket)
            else:
                self.uplinks[(socket.uplink, 0, socket.family)] = socket

    def all(self) -> tuple[Socket, ...]:
        """Every one that no peer owns."""
        return (*self.unbound.values(), *self.uplinks.values())

    def of_family(self, family: int) -> list[Socket]:
        """Where a Shore peer's paths begin: the uplinks' sockets if there are any, else the unbound one."""
        bound = [socket for (_, _, its_family), socket in self.uplinks.items() if its_family == family]
        unbound = self.unbound.get(family)
        return bound or ([unbound] if unbound else [])

    def uplink_of(self, number: int) -> str | None:
        """The uplink that a socket is bound to."""
        for socket in self.uplinks.values():
            if socket.id == number:
                return socket.uplink
        return None

    def words(self, place: tuple[int, str]) -> str:
        """A socket and a remote endpoint, as people call that path."""
        if place[0] in self.relays:
            return f"relay {self.relays[place[0]]}"
        uplink = self.uplink_of(place[0])
        return f"{place[1]} via {uplink}" if uplink else place[1]

    def follow(self, config: TunnelConfig, links: tuple[Link, ...]) -> tuple[list[Way], list[Socket]]:
        """The links as they are now. Returns which ways to open, and which sockets to close."""
        wanted = self._wanted(config, links)
        for (name, index, family), socket in list(self.uplinks.items()):
            known = next((way for way in wanted if way[0] == name and way[2] == family), None)
            if index == 0 and known is not None:
                del self.uplinks[(name, index, family)]
                self.uplinks[known] = socket
        closed = [self.uplinks.pop(way) for way in list(self.uplinks) if way not in wanted]
        self._asked &= set(wanted)
        tried = self._asked | self._failed
        missing = [way for way in wanted if way not in self.uplinks and way not in tried]
        self._asked |= set(missing)
        return missing, closed

    def _wanted(self, config: TunnelConfig, links: tuple[Link, ...]) -> list[Way]:
        # Asked after every event, and another answer takes other links or another configuration.
        if self._ways is None or self._ways[0] is not config or self._ways[1] is not links:
            self._ways = (config, links, ways(config, links))
        return self._ways[2]

    def opened(self, way: Way, socket: Socket) -> bool:
        """A way's socket is open. False if nobody wants it any more."""
        if way not in self._asked:
            return False
        self._asked.discard(way)
        self.uplinks[way] = socket
        return True

    def failed(self, way: Way) -> None:
        """It could not be opened; the next change of links tries again."""
        self._asked.discard(way)
        self._failed.add(way)

    def links_changed(self) -> None:
        """What failed may work now."""
        self._failed.clear()

    def drop_uplinks(self) -> list[Socket]:
        """Forget the bound ones, to be opened anew; returns them."""
        dropped = list(self.uplinks.values())
        self.uplinks, self._asked = {}, set()
        return dropped


def ways(config: TunnelConfig, links: tuple[Link, ...]) -> list[Way]:
    """Uplinks that are up, with each family that they have an address of."""
    named = {uplink.name for uplink in config.uplinks}
    found: list[Way] = []
    for link in links:
        if not link.up or (named and link.name not in named):
            continue
        families = {_family(address) for address in link.addresses}
        if not named:
            families &= set(link.default)
        found += [(link.name, link.index, family) for family in _ordered(families)]
    if not named and len({name for name, _, _ in found}) < 2:
        return []
    return found


def metered(config: TunnelConfig) -> set[str]:
    """Names of uplinks that cost money."""
    return {uplink.name for uplink in config.uplinks if uplink.metered}


def _ordered(families: set[Family]) -> list[Family]:
    return sorted(families)


def _family(address: str) -> Family:
    return 6 if ":" in address else 4
