"""The default route through the tunnel, and everything that must not go there.

    32000  lookup 51821                  what is on the same wire: prefixes of the other devices
    32001  not fwmark 51820 lookup 51820 default dev wg0, then unreachable default

Unmarked packets never reach the main table, so that a route which arrives later (0.0.0.0/1 from a DHCP
server, say) moves nothing into the clear, and a device that is gone means unreachable. The tunnel's own
sockets carry the mark. Connections that came in from outside are answered the way they came: their
conntrack mark is set when they arrive, and marks their replies. Those that were open before are found among
the sockets of listening ports.
"""

import hashlib
import ipaddress
import subprocess
from pathlib import Path
from typing import Any

from shore.io.host.device import FAMILIES, ROUTE_PROTOCOL, HostFailed
from shore.io.host.incoming import Connection, incoming_connections
from shore.io.netlink import Refused, netlink, refusals
from shore.model.host import MAIN_TABLE, FullTunnel, HostPlan

BYPASS_PRIORITY, TUNNEL_PRIORITY = 32000, 32001
INVERT = 0x2
UNREACHABLE = 7
LAST_METRIC = 4_000_000_000
KERNEL = 2
LINK_SCOPE = 253
# A prefix that claims more of the internet than this is no wire of ours.
SHORTEST_ON_LINK = {4: 8, 6: 16}
SRC_VALID_MARK = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark")


def bypass_table(full: FullTunnel) -> int:
    """The table of what is on the same wire."""
    return full.table + 1


async def apply_full_tunnel(plan: HostPlan, full: FullTunnel) -> None:
    """Set marks, tables, then rules. Idempotent. Raises HostFailed."""
    _apply_nft(plan, full)
    async with netlink() as kernel:
        index = (await kernel.link_lookup(ifname=plan.device))[0]
        try:
            with refusals():
                for version in full.families:
                    await _sync_bypass(kernel, version, index, bypass_table(full))
                    await _default_routes(kernel, version, index, full)
                    await _rules(kernel, version, full)
        except Refused as error:
            raise HostFailed(f"the full tunnel of {plan.device} failed: {error}") from None


async def refuse_second() -> None:
    """There is room for one full tunnel in a network namespace. Raises HostFailed."""
    async with netlink() as kernel:
        for family in FAMILIES.values():
            async for rule in await kernel.get_rules(family=family):
                if rule.get("priority") == TUNNEL_PRIORITY:
                    raise HostFailed(
                        "another full tunnel is up here: take it down, "
                        "or run `shore cleanup` if nobody runs it"
                    )


async def remove_full_tunnel(device: str, table: int) -> None:
    """Take back rules first, then tables and marks; nothing happens where there is nothing."""
    async with netlink() as kernel:
        for family in FAMILIES.values():
            for priority, number in ((TUNNEL_PRIORITY, table), (BYPASS_PRIORITY, table + 1)):
                async for rule in await kernel.get_rules(family=family):
                    if (rule.get("priority"), rule.get("table")) == (priority, number):
                        await kernel.rule("del", family=family, priority=priority, table=number)
            for number in (table, table + 1):
                await kernel.flush_routes(family=family, table=number)
    _remove_nft(device)


async def _default_routes(kernel: Any, version: int, index: int, full: FullTunnel) -> None:
    common: dict[str, Any] = {
        "family": FAMILIES[version],
        "dst": "0.0.0.0/0" if version == 4 else "::/0",
        "table": full.table,
        "proto": ROUTE_PROTOCOL,
    }
    scope = LINK_SCOPE if version == 4 else 0
    await kernel.route("replace", **common, oif=index, scope=scope, metrics={"mtu": full.mtu})
    await kernel.route("replace", **common, type=UNREACHABLE, priority=LAST_METRIC)


async def _rules(kernel: Any, version: int, full: FullTunnel) -> None:
    family = FAMILIES[version]
    present = {
        (rule.get("priority"), rule.get("table")) async for rule in await kernel.get_rules(family=family)
    }
    wanted: tuple[dict[str, Any], ...] = (
        {"priority": BYPASS_PRIORITY, "table": bypass_table(full)},
        {"priority": TUNNEL_PRIORITY, "table": full.table, "fwmark": full.fwmark, "flags": INVERT},
    )
    for rule in wanted:
        if (rule["priority"], rule["table"]) not in present:
            await kernel.rule("add", family=family, **rule)


async def _sync_bypass(kernel: Any, version: int, own: int, table: int) -> None:
    """Make the table hold exactly the on-link prefixes of the other devices."""
    family = FAMILIES[version]
    main = [route async for route in await kernel.get_routes(family=family, table=MAIN_TABLE)]
    wanted = {_place(route) for route in main if _is_on_link(route, version, own)}
    present = {_place(route) async for route in await kernel.get_routes(family=family, table=table)}
    for do, routes in (("del", present - wanted), ("add", wanted - present)):
        for destination, length, index in routes:
            await kernel.route(
                do,
                family=family,
                dst=f"{destination}/{length}",
                oif=index,
                table=table,
                proto=ROUTE_PROTOCOL,
                scope=LINK_SCOPE if version == 4 else 0,
            )


def _place(route: Any) -> tuple[str, int, int]:
    return route.get("dst"), route["dst_len"], route.get("oif")


def _is_on_link(route: Any, version: int, own: int) -> bool:
    return (
        route["proto"] in (KERNEL, ROUTE_PROTOCOL)
        and route.get("gateway") is None
        and route.get("oif") not in (None, own)
        and route["dst_len"] >= SHORTEST_ON_LINK[version]
    )


# Marks.


def _apply_nft(plan: HostPlan, full: FullTunnel) -> None:
    name = _table_name(plan.device)
    digest = hashlib.sha256(_script(plan, full, "", []).encode()).hexdigest()[:12]
    listed = subprocess.run(
        ["nft", "list", "chain", "inet", name, f"plan-{digest}"], capture_output=True, check=False
    )
    # The connections that were open before `up` are known to the table that is there already.
    if listed.returncode != 0:
        script = _script(plan, full, digest, incoming_connections())
        done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostFailed(f"nft refused the marks of {plan.device}: {done.stderr.strip().splitlines()[0]}")
    SRC_VALID_MARK.write_text("1")


def _remove_nft(device: str) -> None:
    subprocess.run(["nft", "delete", "table", "inet", _table_name(device)], capture_output=True, check=False)


def _script(plan: HostPlan, full: FullTunnel, digest: str, connections: list[Connection]) -> str:
    name, mark = _table_name(plan.device), full.fwmark
    addresses = [ipaddress.ip_interface(address).ip for address in plan.addresses]
    lines = [f"table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]
    if digest:
        # An empty chain, named so that the next apply can tell whether these are its marks.
        lines.append(f"chain plan-{digest} {{ }}")
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        lines.append(f"set incoming{version} {{ type {kind} . inet_service . {kind} . inet_service;")
        elements = ", ".join(
            f"{one.local} . {one.local_port} . {one.remote} . {one.remote_port}"
            for one in connections
            if one.version == version
        )
        lines += [f"elements = {{ {elements} }}" if elements else "", "}"]
    lines.append("chain spoofed { type filter hook prerouting priority raw;")
    for address in addresses:
        ip = "ip" if address.version == 4 else "ip6"
        lines.append(f'iifname != "{plan.device}" {ip} daddr {address} fib saddr type != local drop')
    lines += ["}", "chain arriving { type filter hook prerouting priority mangle;"]
    lines.append(f'iifname {{ "lo", "{plan.device}" }} return')
    lines += [
        f"ip daddr . tcp dport . ip saddr . tcp sport @incoming4 ct mark set {mark}",
        f"ip6 daddr . tcp dport . ip6 saddr . tcp sport @incoming6 ct mark set {mark}",
        f"ct state new fib daddr type local ct mark set {mark}",
        f"ct mark {mark} meta mark set {mark}",
        "}",
        "chain leaving { type route hook output priority mangle;",
        f"meta mark {mark} ct mark set {mark}",
        f"ip saddr . tcp sport . ip daddr . tcp dport @incoming4 ct mark set {mark}",
        f"ip6 saddr . tcp sport . ip6 daddr . tcp dport @incoming6 ct mark set {mark}",
        f"ct mark {mark} meta mark set {mark}",
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _table_name(device: str) -> str:
    return f"shore-{device}"
