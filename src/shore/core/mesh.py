"""From a netmap to the configuration of a tunnel.

A netmap says who is there; this machine's owner says what they may be here (`consent`). A peer owns its
addresses, and of the prefixes beyond them only those that were accepted. A peer whose lease has run out is
left out. The relays tell us by STUN what we look like from there, as each relay is a
server of its own: two of them show whether our NAT has one mapping for all. What a person set for a peer of
this machine alone stays.
"""

import contextlib
from collections.abc import Iterator, Mapping

import msgspec

from shore.core.actions import Call, TellPeers
from shore.core.candidates import sound_ones
from shore.core.consent import confined, is_accepted
from shore.core.events import PeerCalled, RenewAsked, SprayAsked
from shore.core.member_events import Deliver, SignalAsked
from shore.model.config import Endpoint, PeerConfig, RelayConfig, TunnelConfig
from shore.model.desired import Candidate
from shore.model.netmap import NODE_RANGE_V4, Netmap, Peer, Signed
from shore.model.zone import Zone
from shore.wire.control import SignalKind
from shore.wire.wgconf import parse_endpoint


def tunnel_config(
    base: TunnelConfig,
    netmap: Netmap,
    *,
    time: float,
    admissions: Mapping[str, Signed],
    accepted: tuple[str, ...] = (),
    advertised: tuple[str, ...] = (),
) -> TunnelConfig:
    """The configuration that the netmap makes of `base`, which has the keys and what people set.

    What admits us to a relay stays until the server says otherwise, as it goes by the same key.
    `time` in Unix seconds judges leases; `accepted` are prefixes that may be routed to peers, `advertised`
    those that this node leads to.
    """
    ranges = (NODE_RANGE_V4, netmap.names.range_v6)
    addresses = tuple(_host(address) for address in netmap.self.addresses)
    before = {peer.public_key: peer for peer in base.peers}
    peers = tuple(
        _peer(peer, before.get(peer.node_key), accepted, ranges)
        for peer in netmap.peers
        if time < peer.lease_until
    )
    known = {relay.id: relay.admission for relay in base.relays if relay.admission is not None} | dict(
        admissions
    )
    relays = tuple(
        RelayConfig(relay.id, relay.pin, relay.addresses, relay.udp_addresses, known.get(relay.id))
        for relay in netmap.relays
    )
    return msgspec.structs.replace(
        base,
        addresses=addresses,
        peers=peers,
        relays=relays,
        stun=tuple(dict.fromkeys(_servers(netmap))),
        port_mapping=True,
        advertised=advertised,
        approved=netmap.self.prefixes,
        filter=confined(netmap.filter.rules, (*addresses, *advertised)),
        mesh=netmap.names.suffix,
        zone=zone(netmap, time),
    )


def word_to_peers(config: TunnelConfig | None, kind: SignalKind) -> list[TellPeers]:
    """What is said to all peers, where a server can pass it on."""
    return [] if config is None or config.mesh is None else [TellPeers(kind)]


def call_to(call: Call, own: tuple[Candidate, ...]) -> SignalAsked:
    """What a peer is told through the server."""
    if call.aim is None:
        return SignalAsked(call.public_key, "call_me_maybe", own)
    return SignalAsked(call.public_key, "spray", (Candidate(call.aim, "peer_reflexive"),))


def meant_by(said: Deliver) -> list[PeerCalled | SprayAsked | RenewAsked]:
    """What a peer's word through the server means."""
    candidates = sound_ones(said.candidates)
    if said.kind == "spray":
        return [SprayAsked(said.peer, aim.endpoint) for aim in candidates[:1]]
    called = [PeerCalled(said.peer, candidates)] if candidates else []
    return [*called, *([] if said.kind == "call_me_maybe" else [RenewAsked(said.peer)])]


def lease_ends(netmap: Netmap, time: float) -> float | None:
    """When the next lease of a peer runs out, in Unix seconds."""
    return min((peer.lease_until for peer in netmap.peers if peer.lease_until > time), default=None)


def changed_keys(before: Netmap, after: Netmap) -> list[Peer]:
    """Peers that had another key under the same name."""
    keys = {peer.name: peer.node_key for peer in before.peers}
    return [peer for peer in after.peers if keys.get(peer.name, peer.node_key) != peer.node_key]


def zone(netmap: Netmap, time: float) -> Zone:
    """The addresses of every node by its whole name, our own included."""
    suffix = netmap.names.suffix
    known = {peer.name: peer.addresses for peer in netmap.peers if time < peer.lease_until}
    known[netmap.self.name] = netmap.self.addresses
    hosts = tuple((f"{name}.{suffix}", addresses) for name, addresses in sorted(known.items()))
    return Zone(suffix, netmap.names.range_v6, hosts)


def _servers(netmap: Netmap) -> Iterator[Endpoint]:
    """The relays answer STUN on their UDP addresses; one that is no endpoint is passed over."""
    for relay in netmap.relays:
        for address in relay.udp_addresses:
            with contextlib.suppress(ValueError):
                yield parse_endpoint(address)


def _peer(
    peer: Peer, before: PeerConfig | None, accepted: tuple[str, ...], ranges: tuple[str, ...]
) -> PeerConfig:
    own = tuple(_host(address) for address in peer.addresses)
    beyond = tuple(prefix for prefix in peer.prefixes if is_accepted(prefix, accepted, ranges))
    return PeerConfig(
        peer.node_key,
        allowed_ips=(*own, *beyond),
        name=peer.name,
        redundancy="auto" if before is None else before.redundancy,
        candidates=sound_ones(peer.candidates),
        relays=peer.relays,
    )


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"
