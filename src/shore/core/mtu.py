"""The MTU of every path and every route of a tunnel: who is measured, by what, and what follows.

The plane is asked about sizes for all peers together, so that one budget of questions serves them. What is
found out is a path's MTU in the desired state, and the MTU of the routes to the peer whose packets take it.
"""

from shore.core.actions import Action, Announce, Measure
from shore.core.candidates import Place
from shore.core.peer import PeerRecord
from shore.core.pmtud import MtuAction, SendProbe, UsePathMtu
from shore.core.reconcile import assumed_mtu, mtu_of
from shore.core.sizes import ends_of
from shore.core.underlay import Underlay
from shore.model.config import TunnelConfig
from shore.model.facts import Measured, PeerCounters, Swallowed


class Mtus:
    """Searches of all peers. `peers` is the heart's own table, read afresh each time."""

    def __init__(self, peers: dict[bytes, PeerRecord], underlay: Underlay) -> None:
        self._peers = peers
        self._underlay = underlay
        self._owners: int | None = None
        # When each peer's searches are due.
        self._due: dict[bytes, float] = {}

    def known(self, config: TunnelConfig, peer: PeerRecord, place: Place, now: float) -> list[Action]:
        """A peer has answered from a place for the first time, or again."""
        peer.primary = place
        ends = None if peer.acquainted else ends_of(config.addresses, peer.config)
        peer.sizes.use_ends(ends)
        if not peer.acquainted and ends is None:
            return []
        # Of a Shore peer, counters say which of its other paths are alive.
        others = peer.sizes.places() if peer.acquainted else ()
        alive = {each: self._ceiling(each) for each in (*others, place)}
        return self._do(peer.config.public_key, peer.sizes.watch(alive, now), now)

    def counted(self, entry: PeerCounters, now: float) -> list[Action]:
        """Fresh counters of a peer: where it is; of a Shore peer, which paths live and what arrived."""
        peer = self._peers.get(entry.public_key)
        if peer is None:
            return []
        if entry.socket is not None and entry.endpoint is not None:
            peer.primary = (entry.socket, entry.endpoint)
        if not entry.probed:
            return []
        alive = {
            (path.socket, path.remote): self._ceiling((path.socket, path.remote))
            for path in entry.paths
            if path.kind == "direct" and (path.state in ("live", "held") or path.primary)
        }
        direct = tuple(path for path in entry.paths if path.kind == "direct")
        peer.sizes.use_ends(None)
        seen = peer.sizes.counted(direct, now)
        return self._do(entry.public_key, [*seen, *peer.sizes.watch(alive, now)], now)

    def told(self, fact: Measured | Swallowed, now: float) -> list[Action]:
        """A question was answered, or large data vanishes."""
        peer = self._peers.get(fact.public_key)
        if peer is None:
            return []
        if isinstance(fact, Swallowed):
            found = peer.sizes.suspected((fact.socket, fact.remote), now)
        else:
            found = peer.sizes.measured(fact, now)
        return self._do(fact.public_key, found, now)

    def disturbed(self, now: float) -> list[Action]:
        """The underlay changed."""
        return [a for key, peer in self._peers.items() for a in self._do(key, peer.sizes.disturbed(now), now)]

    def wake(self, now: float) -> list[Action]:
        """Do what is due."""
        return [a for key in self.due(now) for a in self._do(key, self._peers[key].sizes.wake(now), now)]

    def due(self, now: float) -> list[bytes]:
        """The peers that `wake` has something to do for."""
        return [key for key, due in self._due.items() if due <= now and key in self._peers]

    def deadline(self) -> float | None:
        """When `wake` is due."""
        return min((due for key, due in self._due.items() if key in self._peers), default=None)

    def device_changed(self, config: TunnelConfig | None, mtu: int) -> None:
        """The device has another MTU. Ours follows from the paths; an owner's is a cap."""
        self._owners = None if config is not None and config.host_managed else mtu

    def device(self, config: TunnelConfig) -> int:
        """The TUN's MTU."""
        return self._owners or mtu_of(config, self.routes())

    def assumed(self, config: TunnelConfig) -> int:
        """The longest packet on a path of which nothing is proved."""
        return self._owners or assumed_mtu(config)

    def cap(self, config: TunnelConfig) -> int | None:
        """The longest packet that may be sent on any path."""
        return self._owners or config.mtu

    def routes(self) -> dict[bytes, int]:
        """The longest packet to each peer whose path is known, for its routes."""
        found = {}
        for key, peer in self._peers.items():
            inner = peer.inner_mtu()
            if inner is not None:
                found[key] = inner
        return found

    def _ceiling(self, place: Place) -> int:
        """What our own device carries: that of the uplink, else the largest there is."""
        uplink = self._underlay.sockets.uplink_of(place[0])
        links = [link for link in self._underlay.links or () if link.up and link.addresses]
        own = [link.mtu for link in links if link.name == uplink]
        return max(own or [link.mtu for link in links], default=1500)

    def _do(self, key: bytes, wanted: list[tuple[Place, MtuAction]], now: float) -> list[Action]:
        peer = self._peers[key]
        sizes = peer.sizes
        for place, action in [*wanted]:
            if isinstance(action, UsePathMtu) and sizes.shrank(place, now):
                wanted += sizes.narrowed(place, peer.primary, peer.uplinks, now)
        probes = [(place, action) for place, action in wanted if isinstance(action, SendProbe)]
        questions = tuple(sizes.question(key, place, probe) for place, probe in probes)
        said = [self._said(key, place, mtu) for place, mtu in sizes.news()]
        deadline = sizes.deadline()
        if deadline is None:
            self._due.pop(key, None)
        else:
            self._due[key] = deadline
        return [Measure(questions), *said] if questions else [*said]

    def _said(self, key: bytes, place: Place, mtu: int) -> Announce:
        where = self._underlay.sockets.words(place)
        return Announce(f"path MTU {mtu} to {where}", "the search is over", key, {"mtu": float(mtu)}, "mtu")
