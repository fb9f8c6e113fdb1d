"""The default gateways of this machine, and which address of ours each of them sees."""

import socket

import msgspec

from shore.io.links import FAMILIES, UNIVERSE
from shore.io.netlink import netlink
from shore.model.host import MAIN_TABLE
from shore.model.links import Family

UNICAST = 1


class Gateway(msgspec.Struct, frozen=True):
    """The next hop of a default route, by this uplink; `client` is our address there."""

    uplink: str
    index: int
    family: Family
    address: str
    client: str


async def read_gateways() -> tuple[Gateway, ...]:
    """Those of the main table, the first of each uplink and family; none where no address of ours fits."""
    async with netlink() as kernel:
        names = {link["index"]: link.get("ifname") async for link in await kernel.get_links()}
        addresses: dict[tuple[int, int], str] = {}
        async for entry in await kernel.get_addr():
            if entry["scope"] == UNIVERSE and entry["family"] in FAMILIES:
                addresses.setdefault((entry["index"], FAMILIES[entry["family"]]), entry.get("address"))
        found: dict[tuple[int, int], Gateway] = {}
        async for route in await kernel.get_routes(table=MAIN_TABLE):
            if route["dst_len"] or route["family"] not in FAMILIES or route["type"] != UNICAST:
                continue
            family: Family = 4 if route["family"] == socket.AF_INET else 6
            for hop in route.get("multipath") or [route]:
                index, address = hop.get("oif"), hop.get("gateway")
                client = addresses.get((index, family))
                if address is not None and client is not None and index in names:
                    gateway = Gateway(names[index], index, family, address, client)
                    found.setdefault((index, family), gateway)
    return tuple(found.values())
