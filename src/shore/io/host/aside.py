"""Routes for everything but the tunnel's own datagrams, in a table of their own.

    31999  not fwmark 51820 lookup T     prefixes that peers lead to; `throw` for what is on a wire of ours

A prefix behind a peer may hold places of the underlay too: the peer's own address there, a relay, the server.
What the tunnel's sockets send carries the mark and goes by the main table as before, so the tunnel never
carries itself. Networks on a wire of this machine are thrown back to the main table, which knows them better.
"""

from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from shore.io.host.device import FAMILIES, ROUTE_PROTOCOL, HostFailed
from shore.model.host import Aside

PRIORITY = 31999
INVERT = 0x2
THROW = 9
# A route that is about to take the place of what is thrown back stands beside it for a moment.
THROW_METRIC = 1


async def apply_aside(aside: Aside) -> None:
    """Set what is thrown back, then the rules. Idempotent; the routes are the device's. Raises HostFailed."""
    async with AsyncIPRoute() as netlink:
        try:
            for version, family in FAMILIES.items():
                if version in aside.families:
                    await _sync_thrown(netlink, family, aside, version)
                    await _rule(netlink, family, aside)
                else:
                    await _leave(netlink, family, aside.table)
        except NetlinkError as error:
            raise HostFailed(f"routes beside the main table failed: {error.args[-1]}") from None


async def remove_aside(table: int) -> None:
    """Take it all back; nothing happens where there is nothing."""
    async with AsyncIPRoute() as netlink:
        for family in FAMILIES.values():
            await _leave(netlink, family, table)


async def _leave(netlink: AsyncIPRoute, family: int, table: int) -> None:
    async for rule in await netlink.get_rules(family=family):
        if (rule.get("priority"), rule.get("table")) == (PRIORITY, table):
            await netlink.rule("del", family=family, priority=PRIORITY, table=table)
    await netlink.flush_routes(family=family, table=table)


async def _sync_thrown(netlink: AsyncIPRoute, family: int, aside: Aside, version: int) -> None:
    wanted = {prefix for prefix in aside.local if (":" in prefix) == (version == 6)}
    present = {
        f"{route.get('dst')}/{route['dst_len']}"
        async for route in await netlink.get_routes(family=family, table=aside.table)
        if route["type"] == THROW
    }
    for do, prefixes in (("del", present - wanted), ("add", wanted - present)):
        for prefix in prefixes:
            words: dict[str, Any] = {"family": family, "dst": prefix, "table": aside.table}
            await netlink.route(do, **words, type=THROW, priority=THROW_METRIC, proto=ROUTE_PROTOCOL)


async def _rule(netlink: AsyncIPRoute, family: int, aside: Aside) -> None:
    async for rule in await netlink.get_rules(family=family):
        if (rule.get("priority"), rule.get("table")) == (PRIORITY, aside.table):
            if rule.get("fwmark") == aside.fwmark:
                return
            await netlink.rule("del", family=family, priority=PRIORITY, table=aside.table)
    await netlink.rule(
        "add", family=family, priority=PRIORITY, table=aside.table, fwmark=aside.fwmark, flags=INVERT
    )
