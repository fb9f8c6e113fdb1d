"""The device's addresses, MTU and routes, by netlink, as the difference to what is there.

Addresses come without the kernel's own prefix route, so that every route through the device is ours and
has the MTU we mean.
"""

import errno
import ipaddress
from typing import Any

from shore.io.netlink import Refused, netlink, refusals
from shore.model.host import MAIN_TABLE, HostPlan, Route

ROUTE_PROTOCOL = 83
NO_PREFIX_ROUTE = 0x200
FAMILIES = {4: 2, 6: 10}


class HostFailed(Exception):
    """One sentence that names the cause and the next step."""


async def apply_device(plan: HostPlan) -> None:
    """Set MTU and addresses, bring the device up, set its routes. Raises HostFailed."""
    async with netlink() as kernel:
        indices = await kernel.link_lookup(ifname=plan.device)
        if not indices:
            raise HostFailed(f"the device {plan.device} is gone")
        index = indices[0]
        try:
            with refusals():
                await kernel.link("set", index=index, mtu=plan.mtu)
                await _set_addresses(kernel, index, plan)
                await kernel.link("set", index=index, state="up")
        except Refused as error:
            raise HostFailed(f"setting up {plan.device} failed: {error}") from None
        await _set_routes(kernel, index, plan.routes)


async def _set_addresses(kernel: Any, index: int, plan: HostPlan) -> None:
    wanted = {_interface(address) for address in plan.addresses}
    present = {
        (entry.get("address"), entry["prefixlen"])
        async for entry in await kernel.get_addr(index=index)
        if entry["scope"] == 0
    }
    for address, prefixlen in present - wanted:
        await kernel.addr("del", index=index, address=address, prefixlen=prefixlen)
    for address, prefixlen in wanted - present:
        # IPv6 would not be usable for a second while it looks for doubles.
        flags = NO_PREFIX_ROUTE | (0x02 if ":" in address else 0)
        await kernel.addr("add", index=index, address=address, prefixlen=prefixlen, flags=flags)


async def _set_routes(kernel: Any, index: int, routes: tuple[Route, ...]) -> None:
    wanted = {(route.prefix, route.table): route for route in routes}
    present: dict[tuple[str, int], Route] = {}
    for family in FAMILIES.values():
        async for entry in await kernel.get_routes(family=family, oif=index):
            if entry["proto"] == ROUTE_PROTOCOL:
                route = _route(entry)
                present[route.prefix, route.table] = route
    for place, route in present.items():
        if place not in wanted:
            await _route_do(kernel, "del", index, route)
    for place, route in wanted.items():
        if present.get(place) != route:
            # Replaced in one step: without a route, packets would leave by another one.
            await _route_do(kernel, "replace" if place in present else "add", index, route)


async def _route_do(kernel: Any, do: str, index: int, route: Route) -> None:
    network = ipaddress.ip_network(route.prefix)
    words: dict[str, Any] = {
        "family": FAMILIES[network.version],
        "dst": route.prefix,
        "oif": index,
        "table": route.table,
        "proto": ROUTE_PROTOCOL,
        "scope": 253 if network.version == 4 else 0,
    }
    if route.mtu is not None:
        words["metrics"] = {"mtu": route.mtu}
    try:
        with refusals():
            await kernel.route(do, **words)
    except Refused as error:
        if do == "del" and error.code in (errno.ESRCH, errno.ENOENT):
            return
        if error.code == errno.EEXIST:
            raise HostFailed(
                f"{route.prefix} is routed through another device already (`ip route show {route.prefix}`): "
                "remove that route, or set `Table = off`"
            ) from None
        raise HostFailed(f"the route to {route.prefix} failed: {error}") from None


def _route(entry: Any) -> Route:
    any_prefix = "0.0.0.0" if entry["family"] == FAMILIES[4] else "::"  # noqa: S104 (a prefix, no bind)
    metrics = entry.get("metrics")
    mtu = metrics.get("mtu") if metrics is not None else None
    return Route(f"{entry.get('dst') or any_prefix}/{entry['dst_len']}", mtu, entry.get("table", MAIN_TABLE))


def _interface(address: str) -> tuple[str, int]:
    interface = ipaddress.ip_interface(address)
    return str(interface.ip), interface.network.prefixlen
