"""What one tunnel wants of the host: device, addresses, routes, rules, names, filter."""

import msgspec

MAIN_TABLE = 254


class Route(msgspec.Struct, frozen=True):
    """One route through the device, with its own MTU in bytes."""

    prefix: str
    mtu: int | None = None
    table: int = MAIN_TABLE


class FullTunnel(msgspec.Struct, frozen=True):
    """The default route goes through the tunnel, for the families named (4, 6)."""

    families: tuple[int, ...]
    table: int
    fwmark: int
    mtu: int


class Aside(msgspec.Struct, frozen=True):
    """A table that packets of these families without the mark ask first; it passes on what is `local`."""

    table: int
    fwmark: int
    families: tuple[int, ...]
    local: tuple[str, ...] = ()


class Behind(msgspec.Struct, frozen=True):
    """Prefixes that this node leads `members` to; they come there under its own address."""

    members: tuple[str, ...]
    prefixes: tuple[str, ...]


class SplitNames(msgspec.Struct, frozen=True):
    """The resolver at `server`, an address of the device, is asked for `domains` and for nothing else.

    `search` completes short names; it is one of the domains.
    """

    server: str
    search: str
    domains: tuple[str, ...]


class HostPlan(msgspec.Struct, frozen=True):
    """The host state of one tunnel, whole and idempotent; applied by `shore.io.host`."""

    device: str
    addresses: tuple[str, ...]
    mtu: int
    routes: tuple[Route, ...]
    full_tunnel: FullTunnel | None = None
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    names: SplitNames | None = None
    aside: Aside | None = None
    behind: Behind | None = None
