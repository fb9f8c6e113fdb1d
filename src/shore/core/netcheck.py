"""What `shore netcheck` says: our public endpoints, the NAT before us, the relays, and one suggestion.

Nothing is measured for it: the tunnel knows all of it from what it does anyway.
"""

from shore.core.candidates import family_of
from shore.core.node import Node
from shore.core.underlay import seen_by
from shore.model.netcheck import Mapping, Netcheck, RelayCheck


def netcheck(node: Node, now: float) -> Netcheck:
    """One tunnel; needs a configured node."""
    config = node.config
    if config is None:
        raise ValueError("netcheck of a node without configuration")
    sightings, granted = node.underlay.sightings, node.underlay.granted
    seen = sightings.fresh(now)
    counters = node.counters.values()
    mapping = node.underlay.mapping(counters, now)
    blocked = False if seen_by(counters) else sightings.is_blocked(now)
    relays = _relays(node)
    return Netcheck(
        tunnel=config.name,
        listen_port=node.listen_port,
        public_v4=tuple(one for one in seen if family_of(one) == 4),
        public_v6=tuple(one for one in seen if family_of(one) == 6),
        mapping=mapping,
        udp_blocked=blocked,
        port_mapping=config.port_mapping,
        ports_mapped=granted,
        relays=relays,
        suggestion=_suggestion(node, mapping, blocked, relays),
    )


def _relays(node: Node) -> tuple[RelayCheck, ...]:
    known = node.relays.links
    return tuple(
        RelayCheck(
            known[entry.id].wish.relay,
            node.relays.address(entry.id),
            entry.state,
            entry.rtt_ms,
            known[entry.id].wish.relay == node.relays.home,
        )
        for entry in (node.answer.links if node.answer else ())
        if entry.id in known
    )


def _suggestion(
    node: Node, mapping: Mapping | None, blocked: bool | None, relays: tuple[RelayCheck, ...]
) -> str | None:
    config = node.config
    assert config is not None
    if config.relays and not any(relay.state == "up" for relay in relays):
        return "no relay lets us in: let TCP out to the relays' addresses, port 443"
    if blocked:
        return "no UDP comes back, so everything goes by relays: let UDP out and its answers in"
    if mapping == "endpoint_dependent" and not node.underlay.granted:
        wish = "switch on UPnP, NAT-PMP or PCP there" if config.port_mapping else "set `#@ PortMapping = on`"
        return (
            f"the router shows each peer another port: {wish}, "
            f"or forward UDP port {node.listen_port} to this machine"
        )
    if not config.stun:
        return "no STUN server is known: name one by `#@ Stun = host:port` to learn what we look like"
    return None
