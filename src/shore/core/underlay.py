"""The tunnel's footing on the underlay: links, the listen port, the sockets on it, and where we may be.

Sockets are opened by the shell; here is what is wanted and what is there. The unbound ones come first, as
they decide the port. Bound ones follow the links from then on. When the unbound ones are opened anew, the
bound ones are too: whatever was wrong with a socket may be wrong with all of them.
"""

from collections.abc import Callable, Iterable, Mapping

from shore.core.actions import Action, CloseSocket, MapPort, OpenSockets, OpenUplinkSocket
from shore.core.candidates import Place, endpoint, family_of, host_of, own_candidates
from shore.core.events import SocketsOpened
from shore.core.sightings import Sightings
from shore.core.sockets import Sockets, metered
from shore.model.config import TunnelConfig
from shore.model.desired import Candidate, StunQuery
from shore.model.facts import PathCounters, PeerCounters
from shore.model.links import Link

MOST_QUERIES = 16


class Underlay:
    """Links and sockets of one tunnel."""

    def __init__(self) -> None:
        self.sockets = Sockets()
        self.port = 0
        self.mark = 0
        self.links: tuple[Link, ...] | None = None
        self.opening = False
        # Where gateways show the listen port outside.
        self.granted: tuple[str, ...] = ()
        self.sightings = Sightings()
        # By what the links to relays leave, where that is known.
        self.link_uplinks: Mapping[int, str | None] = {}
        self._asked = MapPort(0, 0)

    def open(self, port: int, why: str) -> list[Action]:
        """Open the unbound sockets, anew if they are there."""
        if self.opening:
            return []
        self.opening = True
        return [OpenSockets(port, self.mark, why)]

    def opened(self, event: SocketsOpened) -> tuple[list[Action], dict[int, int | None]]:
        """They are open. Returns what to close, and for each old socket the one that takes its place."""
        old = self.sockets.unbound
        self.sockets.unbound = {socket.family: socket for socket in event.sockets}
        self.port, self.opening = event.port, False
        heirs = {
            socket.id: heir.id if (heir := self.sockets.unbound.get(family)) else None
            for family, socket in old.items()
        }
        gone = [*old.values(), *self.sockets.drop_uplinks()]
        held = {socket.id for socket in event.sockets}
        return [CloseSocket(socket.id) for socket in gone if socket.id not in held], heirs

    def follow(self, config: TunnelConfig) -> list[Action]:
        """Bring the bound sockets in line with the links, and the gateways with the port."""
        if self.links is None or not self.port or self.opening:
            return []
        missing, closed = self.sockets.follow(config, self.links)
        wish = MapPort(self.port, self.mark) if config.port_mapping else MapPort(0, 0)
        known, self._asked = self._asked, wish
        return [
            *([] if wish == known else [wish]),
            *(CloseSocket(socket.id) for socket in closed),
            *(OpenUplinkSocket(way, self.port, self.mark) for way in missing),
        ]

    def moved(self, links: tuple[Link, ...]) -> bool:
        """Take the links as they are now. Returns whether packets may have to go other ways."""
        previous, self.links = self.links, links
        self.sockets.links_changed()
        moved = previous is not None and routes(previous) != routes(links)
        if moved:
            self.sightings.forget()
            self._asked = MapPort(0, 0)
        return moved

    def leads_on(self) -> bool:
        """Whether there is any way out."""
        return any(link.up and link.addresses for link in self.links or ())

    def uplink_at(self, local: str | None) -> str | None:
        """The link that has this address (`192.0.2.1:51820`)."""
        host = host_of(local or "")
        return next((link.name for link in self.links or () if host in link.addresses), None)

    def queries(
        self, config: TunnelConfig, addresses: Callable[[str], tuple[str, ...]]
    ) -> tuple[StunQuery, ...]:
        """Which STUN servers to ask by which sockets: an address of each family, by each way out."""
        found = []
        for server in config.stun:
            remotes = [endpoint(address, server.port) for address in addresses(server.host)]
            first = {family_of(remote): remote for remote in reversed(remotes)}
            for family, remote in first.items():
                found += [StunQuery(socket.id, remote) for socket in self.sockets.of_family(family)]
        return tuple(found[:MOST_QUERIES])

    def candidates(
        self, counters: Iterable[PeerCounters], queries: tuple[StunQuery, ...] = ()
    ) -> tuple[Candidate, ...]:
        """Where Shore peers may find us."""
        mapped = self.sightings.of(queries)
        return own_candidates(self.links or (), self.port, counters, mapped, self.granted)

    def uplink_of(self, path: PathCounters) -> str | None:
        """The interface that a path leaves by: its socket's, else that of the address seen by the peer."""
        bound = self.sockets.uplink_of(path.socket)
        if bound is not None or path.observed is None:
            return bound
        seen = host_of(path.observed)
        return next((link.name for link in self.links or () if seen in link.addresses), None)

    def uplinks(self, counters: PeerCounters) -> dict[Place, str]:
        """The interfaces that a peer's paths leave by, where they are known."""
        found = {(path.socket, path.remote): self.uplink_of(path) for path in counters.paths}
        return {place: name for place, name in found.items() if name is not None}

    def metered(self, config: TunnelConfig) -> set[int]:
        """Sockets of uplinks that cost money, and links to relays that leave by one."""
        costly = metered(config)
        bound = {socket.id for socket in self.sockets.all() if socket.uplink in costly}
        return bound | {number for number, uplink in self.link_uplinks.items() if uplink in costly}


def is_metered(config: TunnelConfig, uplink: str | None) -> bool:
    """Whether what leaves by this uplink costs money."""
    return uplink in metered(config)


def routes(links: tuple[Link, ...]) -> frozenset[tuple[object, ...]]:
    """What about the links decides where packets can go."""
    return frozenset(
        (link.index, link.up, frozenset(link.addresses), link.default)
        for link in links
        if link.addresses or link.default
    )
