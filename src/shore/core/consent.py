"""What its owner lets a mesh do to this machine (docs/mesh.md, "Networks behind a node, and consent").

A netmap is a server's word, and servers get into other hands. So a prefix beyond the members' addresses is
routed to a peer only where it lies in one that this machine's owner accepted, a default route only where
exactly that was, and what holds addresses of the mesh itself never.

The other way round, what comes in from the mesh goes to this node's own addresses, and to the networks behind
it that its owner said it leads to. The server's rules may let in less, never more: else who speaks for the
server would reach whatever this machine forwards to.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from shore.model.filter import Rule
from shore.model.netmap import NODE_RANGE_V4

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_accepted(prefix: str, accepted: tuple[str, ...], ranges: tuple[str, ...]) -> bool:
    """Whether a peer may be what this prefix is routed to; `ranges` are those of the mesh."""
    if unfit(prefix, ranges) is not None:
        return False
    if is_default(prefix):
        return prefix in accepted
    consents = (consent for consent in accepted if not is_default(consent))
    return any(overlap(prefix, consent) == prefix for consent in consents)


def unfit(prefix: str, ranges: tuple[str, ...] = (NODE_RANGE_V4,)) -> str | None:
    """Why no node can lead to this prefix: one sentence; None if one can."""
    try:
        network = _network(prefix)
    except ValueError:
        return f"`{prefix}` is no prefix such as 10.1.0.0/24 or fd77::/64"
    if str(network) != prefix:
        return f"`{prefix}` is written {network}"
    if is_default(prefix):
        return None
    if any(overlap(prefix, each) for each in ranges):
        return f"{prefix} holds addresses of the mesh itself"
    if network.is_multicast or network.is_loopback or network.is_link_local:
        return f"{prefix} never leaves the wire that it is on"
    return None


def confined(rules: tuple[Rule, ...], own: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules as far as they are about these prefixes."""
    made = ((rule, _parts(rule.destinations, own)) for rule in rules)
    return tuple(
        rule if parts == rule.destinations else msgspec.structs.replace(rule, destinations=parts)
        for rule, parts in made
        if parts
    )


def overlap(one: str, other: str) -> str | None:
    """What two prefixes have in common, which is one of them or nothing."""
    first, second = _network(one), _network(other)
    if isinstance(first, ipaddress.IPv4Network) and isinstance(second, ipaddress.IPv4Network):
        return one if first.subnet_of(second) else other if second.subnet_of(first) else None
    if isinstance(first, ipaddress.IPv6Network) and isinstance(second, ipaddress.IPv6Network):
        return one if first.subnet_of(second) else other if second.subnet_of(first) else None
    return None


def is_default(prefix: str) -> bool:
    """Whether it is the whole of a family."""
    return prefix.endswith("/0")


@lru_cache(1024)
def _parts(destinations: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_common(destinations, own)))


def _common(some: Iterable[str], others: tuple[str, ...]) -> Iterator[str]:
    for one in some:
        for other in others:
            part = overlap(one, other)
            if part is not None:
                yield part


@lru_cache(4096)
def _network(prefix: str) -> Network:
    return ipaddress.ip_network(prefix)
