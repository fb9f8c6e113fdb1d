"""A brain in a mesh: its membership decides who the peers are, the heart how they are reached.

Netmaps become configurations of the tunnel; only the newest is put in force. What peers say through the
server becomes events of the heart, and where this node may be found goes the other way. A node key that was
drawn anew is used once the network knows it.
"""

import asyncio
import random
import time

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore import _native
from shore.core import events
from shore.core import member_events as on
from shore.core.actions import Announce
from shore.core.membership import Membership
from shore.core.mesh import tunnel_config
from shore.core.reconcile import fwmark_of
from shore.core.underlay import is_metered
from shore.io import identity as kept
from shore.io.control import ControlLink
from shore.io.identity import Identity
from shore.model.status import LinkStatus
from shore.node.brain import Brain, NotConfigured, Spawn
from shore.node.latest import Latest
from shore.wire import signing
from shore.wire.control import SignalKind

LOOK_EVERY = 0.5
CLOCK_EVERY = 30.0
MOST_RELAYS = 2


class Mesh:
    """The membership of one brain; `run` it once the tunnel is up."""

    def __init__(self, brain: Brain, identity: Identity, spawn: Spawn, *, restarted: bool) -> None:
        """`restarted`: no data plane of before lives, and peers should know. Raises NotTaken."""
        config = brain.node.config
        assert config is not None
        assert config.admission_key is not None
        self._admission_seed = config.admission_key
        admission = signing.public_of(Ed25519PrivateKey.from_private_bytes(config.admission_key))
        membership = Membership(identity.member(admission), identity.held, random.random)
        self._brain = brain
        self._identity = identity
        self._restarted = restarted
        self._drawn: bytes | None = None
        self._wanted: Latest[on.Use] = Latest(self._put_in_force)
        self._link = ControlLink(membership, spawn, self._perform, self._mark, identity.network.proxy)
        spawn(self._wanted.run())
        self._used: on.Use | None = None
        brain.links, brain.call = self._links, self._call
        brain.tell_peers, brain.accept, brain.advertise = self._tell_peers, self._accept, self._advertise

    async def run(self) -> None:
        """Hold the link and tell it how we are, until cancelled."""
        self._link.tell(on.Begun(time.time()))
        if self._restarted:
            self._link.tell(on.SignalAsked(None, "restarted"))
        read_at = time.monotonic()
        try:
            while True:
                self._link.tell(self._whereabouts())
                await asyncio.sleep(LOOK_EVERY)
                if time.monotonic() - read_at >= CLOCK_EVERY:
                    read_at = time.monotonic()
                    self._link.tell(on.ClockRead(time.time()))
        finally:
            self._link.close()

    def _call(self, peer: bytes) -> None:
        self._link.tell(on.SignalAsked(peer, "call_me_maybe", self._brain.node.candidates()))

    def _tell_peers(self, kind: SignalKind) -> None:
        self._link.tell(on.SignalAsked(None, kind, self._brain.node.candidates()))

    def _accept(self, prefixes: tuple[str, ...]) -> None:
        self._brain.announce("prefixes accepted", ", ".join(prefixes) or "none")
        self._consent(msgspec.structs.replace(self._identity.network, accepted=prefixes))

    def _advertise(self, prefixes: tuple[str, ...]) -> None:
        self._brain.announce("prefixes advertised", ", ".join(prefixes) or "none")
        self._consent(msgspec.structs.replace(self._identity.network, advertised=prefixes))

    def _consent(self, network: kept.Network) -> None:
        """Our owner wants something else of the network; the server hears of it with the next look."""
        self._identity = msgspec.structs.replace(self._identity, network=network)
        if self._used is not None:
            self._wanted.put(self._used)

    def links_moved(self) -> None:
        """The underlay changed."""
        self._link.tell(on.LinksMoved())

    def _whereabouts(self) -> on.Moved:
        node, netmap = self._brain.node, self._link.membership.netmap
        relays = () if netmap is None else tuple(relay.id for relay in netmap.relays)
        return on.Moved(node.candidates(), relays[:MOST_RELAYS], self._identity.network.advertised)

    def _perform(self, action: on.Action) -> None:
        match action:
            case on.Use():
                self._used = action
                self._wanted.put(action)
            case on.Keep():
                self._keep(action)
            case on.KeepAdmissions():
                self._keep_admissions(action)
            case on.Deliver():
                self._deliver(action)
            case on.DrawKey():
                self._draw_key()
            case Announce():
                self._brain.announce(action.what, action.why)
            case _:
                pass

    def _deliver(self, said: on.Deliver) -> None:
        if said.candidates:
            self._brain.tell(events.PeerCalled(said.peer, said.candidates))
        if said.kind != "call_me_maybe":
            self._brain.tell(events.RenewAsked(said.peer))

    def _keep(self, action: on.Keep) -> None:
        try:
            kept.keep_netmap(action.held)
        except OSError as error:
            self._brain.announce("netmap not kept", f"{error.filename}: {(error.strerror or '').lower()}")

    def _keep_admissions(self, action: on.KeepAdmissions) -> None:
        admitted = kept.Admitted(action.node_key, self._admission_seed, action.admissions)
        try:
            kept.keep_admitted(admitted)
        except OSError as error:
            self._brain.announce("admissions not kept", f"{error.filename}: {(error.strerror or '').lower()}")

    def _draw_key(self) -> None:
        drawn = kept.new_node_key()
        try:
            kept.keep_node_key(drawn)
        except OSError as error:
            self._brain.announce(
                "node key not renewed", f"{error.filename}: {(error.strerror or '').lower()}"
            )
            return
        self._drawn = drawn
        self._link.tell(on.KeyDrawn(_native.public_key(drawn)))

    async def _put_in_force(self, use: on.Use) -> None:
        config = self._brain.node.config
        if config is None:
            return
        if self._drawn is not None and _native.public_key(self._drawn) == use.netmap.self.node_key:
            config = msgspec.structs.replace(config, private_key=self._drawn)
            self._drawn = None
            self._brain.announce("node key renewed", "the old one expires")
        wanted = tunnel_config(
            config,
            use.netmap,
            time=use.time,
            admissions=use.admissions,
            accepted=self._identity.network.accepted,
            advertised=self._identity.network.advertised,
        )
        if wanted == self._brain.node.config:
            return
        mark = self._mark()
        try:
            await self._brain.reload(wanted)
        except NotConfigured as error:
            self._brain.announce("netmap not in force", str(error))
        if self._mark() != mark:
            # What our link sends goes another way now, maybe to nowhere.
            self._link.tell(on.LinksMoved())

    def _links(self, now: float) -> tuple[LinkStatus, ...]:
        held = self._link.membership
        address = held.address or next(iter(held.addresses()), "")
        node = self._brain.node
        uplink = node.underlay.uplink_at(held.local)
        costly = held.state == "up" and node.config is not None and is_metered(node.config, uplink)
        return (LinkStatus("server", address, held.state, held.rtt_ms, now - held.since, costly),)

    def _mark(self) -> int:
        return 0 if self._brain.node.config is None else fwmark_of(self._brain.node.config)
