"""Watch the underlay: links, addresses and default routes, from netlink.

Events only say that something moved; what is told is a fresh dump, a moment later, so that a burst of
events is one change and a lost event (ENOBUFS) costs nothing. Only what can move packets is listened to: the
neighbours of a busy link come and go for ever, and each dump costs more than all probes of a minute.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import rtnl

from shore.io.host.device import ROUTE_PROTOCOL
from shore.io.tun import GROUP
from shore.model.host import MAIN_TABLE
from shore.model.links import Link
from shore.model.netmap import NODE_RANGE_V4

SETTLE = 0.03
UNIVERSE = 0
FAMILIES = {2: 4, 10: 6}
MOVING = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV6_IFADDR
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_ROUTE
)


async def read_links() -> tuple[Link, ...]:
    """The links that may be underlay: all but loopback and tunnels of Shore."""
    async with AsyncIPRoute() as netlink:
        addresses: dict[int, list[str]] = {}
        networks: dict[int, set[str]] = {}
        async for entry in await netlink.get_addr():
            if entry["scope"] == UNIVERSE:
                addresses.setdefault(entry["index"], []).append(entry.get("address"))
                wire = ipaddress.ip_interface(f"{entry.get('address')}/{entry['prefixlen']}").network
                if wire.num_addresses > 1:
                    networks.setdefault(entry["index"], set()).add(str(wire))
        defaults: dict[int, set[int]] = {}
        async for route in await netlink.get_routes(table=MAIN_TABLE):
            if route["dst_len"] == 0 and route["family"] in FAMILIES:
                for hop in route.get("multipath") or [route]:
                    defaults.setdefault(hop.get("oif") or 0, set()).add(FAMILIES[route["family"]])
        links = [
            Link(
                name=entry.get("ifname"),
                index=entry["index"],
                up=entry.get("operstate") not in ("DOWN", "LOWERLAYERDOWN") and entry["state"] == "up",
                mtu=entry.get("mtu"),
                addresses=tuple(sorted(addresses.get(entry["index"], ()))),
                default=tuple(sorted(defaults.get(entry["index"], ()))),
                networks=tuple(sorted(networks.get(entry["index"], ()))),
            )
            async for entry in await netlink.get_links()
            if entry.get("ifname") != "lo" and entry.get("group") != GROUP
        ]
    return tuple(links)


async def read_taken() -> tuple[str, ...]:
    """What of the mesh's IPv4 range has a route here already, in any table, that is not Shore's."""
    range_v4, found = ipaddress.IPv4Network(NODE_RANGE_V4), set()
    async with AsyncIPRoute() as netlink:
        ours = {entry["index"] async for entry in await netlink.get_links() if entry.get("group") == GROUP}
        async for route in await netlink.get_routes(family=socket.AF_INET):
            if route["proto"] == ROUTE_PROTOCOL or route.get("oif") in ours or not route["dst_len"]:
                continue
            network = ipaddress.IPv4Network(f"{route.get('dst')}/{route['dst_len']}")
            if network.subnet_of(range_v4):
                found.add(str(network))
    return tuple(sorted(found))


async def watch_links(tell: Callable[[tuple[Link, ...]], None]) -> None:
    """Tell the links now and after each change, until cancelled."""
    async with AsyncIPRoute() as events:
        await events.bind(MOVING)
        moved = asyncio.Event()
        moved.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_listen(events, moved))
            while True:
                await moved.wait()
                await asyncio.sleep(SETTLE)
                moved.clear()
                tell(await read_links())


async def _listen(events: AsyncIPRoute, moved: asyncio.Event) -> None:
    while True:
        try:
            async for _ in events.get():
                moved.set()
        except OSError:
            moved.set()
            await asyncio.sleep(SETTLE)
