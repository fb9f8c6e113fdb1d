"""From a configuration to what the host should look like.

In a mesh, a prefix beyond the members' addresses may hold places of the underlay as well: the very peer that
leads there, a relay, the server. Such prefixes have a table of their own, which the marked datagrams of the
tunnel's sockets never ask, so that the tunnel never carries itself. There the longest prefix decides between
the mesh and the wires of this machine, and a wire where both are equal: who sits at home reaches his printer
without a way round.
"""

import ipaddress
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from shore.core.consent import is_default, overlap
from shore.core.resolving import reverse_domains
from shore.model.config import TunnelConfig
from shore.model.host import MAIN_TABLE, Aside, Behind, FullTunnel, HostPlan, Route, SplitNames
from shore.model.links import Link
from shore.model.netmap import NODE_RANGE_V4

DEFAULT_MTU = 1420
LEAST_MTU = 1280
MOST_MTU = 65535
FULL_TUNNEL_TABLE = 51820
# Each tunnel has a table of its own above this number ("SH").
ASIDE_TABLES = 0x53480000


def mtu_of(config: TunnelConfig, inner: Mapping[bytes, int]) -> int:
    """The TUN's MTU: what the file says, else WireGuard's usual 1420, or more where a path was proved to
    carry more; never too small for IPv6.

    A smaller MTU of the file caps the routes instead.
    """
    return max(config.mtu or max(DEFAULT_MTU, *inner.values(), 0), LEAST_MTU)


def assumed_mtu(config: TunnelConfig) -> int:
    """The longest packet on a path of which nothing is proved."""
    return max(config.mtu or DEFAULT_MTU, LEAST_MTU)


def fwmark_of(config: TunnelConfig) -> int:
    """The mark of what leaves the tunnel's sockets, 0 for none."""
    if config.fwmark:
        return config.fwmark
    return FULL_TUNNEL_TABLE if _full_families(config) or beyond(config) else 0


def beyond(config: TunnelConfig) -> frozenset[str]:
    """Prefixes that peers of a mesh lead to, beyond the addresses of members; default routes apart."""
    if config.zone is None or config.table != "auto" or not config.host_managed:
        return frozenset()
    range_v6 = config.zone.range_v6
    prefixes = (prefix for peer in config.peers for prefix in peer.allowed_ips)
    return frozenset(each for each in prefixes if not is_default(each) and not is_a_members(each, range_v6))


def host_plan(config: TunnelConfig, inner: Mapping[bytes, int], links: Iterable[Link] = ()) -> HostPlan:
    """What wg-quick would do with the file.

    `inner` is the longest packet that peers' paths carry, `links` are those of the machine.
    """
    mtu = config.mtu or DEFAULT_MTU
    families = _full_families(config)
    connected = [_network(address) for address in config.addresses if not _is_host(address)]
    allowed = [
        (prefix, _route_mtu(prefix, min(config.mtu or MOST_MTU, inner.get(peer.public_key, mtu))))
        for peer in config.peers
        for prefix in peer.allowed_ips
    ]
    routes = [Route(prefix, mtu, MAIN_TABLE) for prefix in connected]
    apart = beyond(config)
    aside = _aside(config, apart, links) if apart else None
    if config.table == "auto":
        routes += [
            Route(prefix, size, MAIN_TABLE)
            for prefix, size in allowed
            if not is_default(prefix) and prefix not in apart
        ]
        routes += [
            Route(prefix, size, aside.table)
            for prefix, size in allowed
            if aside is not None and prefix in apart and prefix not in aside.local
        ]
    elif config.table != "off":
        routes += [Route(prefix, size, config.table) for prefix, size in allowed]
    mark = fwmark_of(config)
    full = min((size for prefix, size in allowed if is_default(prefix)), default=mtu)
    return HostPlan(
        device=config.name,
        addresses=config.addresses,
        mtu=mtu_of(config, inner),
        routes=_one_each(routes),
        full_tunnel=FullTunnel(families, mark, mark, full) if families else None,
        dns_servers=config.dns_servers,
        dns_search=config.dns_search,
        names=split_names(config),
        aside=aside,
        behind=_behind(config),
    )


def split_names(config: TunnelConfig) -> SplitNames | None:
    """Where the names of a mesh are asked for: at the device's own IPv4 address."""
    own = (ipaddress.ip_interface(address).ip for address in config.addresses)
    server = next((str(address) for address in own if address.version == 4), None)
    if config.zone is None or server is None:
        return None
    return SplitNames(server, config.zone.suffix, (config.zone.suffix, *reverse_domains(config.zone)))


def uncovered_family(config: TunnelConfig) -> int | None:
    """The family that goes past a full tunnel of the other one."""
    families = _full_families(config)
    return None if len(families) != 1 else {4: 6, 6: 4}[families[0]]


def _aside(config: TunnelConfig, apart: frozenset[str], links: Iterable[Link]) -> Aside:
    wires = dict.fromkeys(network for link in links if link.up for network in link.networks)
    local = [wire for wire in wires if any(overlap(wire, prefix) == wire for prefix in apart)]
    number = ASIDE_TABLES | zlib.crc32(config.name.encode()) & 0xFFFF
    families = sorted({6 if ":" in prefix else 4 for prefix in apart})
    return Aside(number, fwmark_of(config), tuple(families), tuple(sorted(local)))


def _behind(config: TunnelConfig) -> Behind | None:
    if config.zone is None or not config.advertised:
        return None
    return Behind((NODE_RANGE_V4, config.zone.range_v6), config.advertised)


def _full_families(config: TunnelConfig) -> tuple[int, ...]:
    if config.table != "auto" or not config.host_managed:
        return ()
    prefixes = {prefix for peer in config.peers for prefix in peer.allowed_ips if is_default(prefix)}
    return tuple(sorted({ipaddress.ip_network(prefix).version for prefix in prefixes}))


def _one_each(routes: list[Route]) -> tuple[Route, ...]:
    """A prefix has one route in a table; the one of a peer counts more than that of an address."""
    return tuple({(route.prefix, route.table): route for route in routes}.values())


def _route_mtu(prefix: str, mtu: int) -> int:
    """A route of IPv6 is never narrower than IPv6 allows."""
    return max(mtu, LEAST_MTU) if ":" in prefix else mtu


@lru_cache(4096)
def is_a_members(prefix: str, range_v6: str) -> bool:
    """Whether it lies in the mesh's ranges."""
    return any(overlap(prefix, each) == prefix for each in (NODE_RANGE_V4, range_v6))


def _network(address: str) -> str:
    return str(ipaddress.ip_interface(address).network)


def _is_host(address: str) -> bool:
    return ipaddress.ip_interface(address).network.num_addresses == 1
