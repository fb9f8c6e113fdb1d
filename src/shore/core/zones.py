"""What follows from a zone without reading a question: the domains that the network's addresses have."""

import ipaddress

from shore.model.netmap import NODE_RANGE_V4
from shore.model.zone import Zone


def reverse_domains(zone: Zone) -> tuple[str, ...]:
    """The domains of the network's addresses turned round, without a dot at their end."""
    second = ipaddress.ip_network(NODE_RANGE_V4)
    octets = {network.network_address.packed[:2] for network in second.subnets(new_prefix=16)}
    v4 = [f"{low}.{high}.in-addr.arpa" for high, low in sorted(octets)]
    v6 = ipaddress.IPv6Network(zone.range_v6)
    digits = v6.network_address.exploded.replace(":", "")[: v6.prefixlen // 4]
    return (*v4, f"{'.'.join(reversed(digits))}.ip6.arpa")
