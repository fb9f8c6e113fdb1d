"""Where a mesh and the networks around a machine claim the same addresses.

Members have addresses of 100.64.0.0/10, which providers use behind their own NATs (RFC 6598) and Tailscale
for its nodes. Each member's address is a route of its own, so what meets is one address and not two ranges:
the neighbour on a wire of ours that has it cannot be reached any more, and if that is our gateway nothing
can. A Tailscale beside us drops whatever comes from that range by another device than its own, whoever
has which address. And a prefix that a peer leads to may be a wire of ours as well; then it stays one.

Nothing of this ends a tunnel: people are told, in a sentence each.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from shore.core.consent import Network, overlap
from shore.core.reconcile import beyond
from shore.model.config import TunnelConfig
from shore.model.links import Link
from shore.model.netmap import NODE_RANGE_V4
from shore.model.zone import Zone

MOST_TOLD = 4
TAILSCALE = "tailscale"


def collisions(config: TunnelConfig, links: Iterable[Link]) -> tuple[str, ...]:
    """One sentence each, with what to do; none for a tunnel that is of no mesh."""
    if config.zone is None:
        return ()
    there = tuple(link for link in links if link.up)
    told = (*_tailscale(there), *_members(config, there), *_prefixes(config, there))
    return told[:MOST_TOLD]


def _tailscale(links: tuple[Link, ...]) -> Iterator[str]:
    for link in links:
        if link.name.startswith(TAILSCALE) and any(_is_of_range(each) for each in link.addresses):
            yield (
                f"Tailscale on {link.name} drops what comes from {NODE_RANGE_V4} by other devices: reach "
                "nodes by their IPv6 addresses, or `tailscale set --netfilter-mode=nodivert`"
            )


def _members(config: TunnelConfig, links: tuple[Link, ...]) -> Iterator[str]:
    assert config.zone is not None
    ranges = (NODE_RANGE_V4, config.zone.range_v6)
    for link in links:
        for text in (*link.networks, *link.addresses):
            # A thousand members are looked through only where there is something to find.
            if any(overlap(text, each) for each in ranges):
                yield from _members_in(ipaddress.ip_network(text), link.name, config.zone)


def _members_in(network: Network, link: str, zone: Zone) -> Iterator[str]:
    for whole, addresses in zone.hosts:
        name = whole.partition(".")[0]
        for address in map(ipaddress.ip_address, addresses):
            if address.version == network.version and address in network:
                yield (
                    f"{address}, the address of {name}, is in {network} of {link} as well: whoever has it "
                    f"there cannot be reached from here; to have another address, `shore logout` on {name} "
                    "and let it join again"
                )


def _prefixes(config: TunnelConfig, links: tuple[Link, ...]) -> Iterator[str]:
    wires = {network: link.name for link in links for network in link.networks}
    apart = beyond(config)
    for peer in config.peers:
        for prefix in peer.allowed_ips:
            if prefix in wires and prefix in apart:
                wire = wires[prefix]
                yield f"{prefix} is on the wire of {wire} here: it is reached there, and not by {peer.name}"


def _is_of_range(address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.IPv4Network(NODE_RANGE_V4)
