"""The names of a mesh: what this node's own resolver answers for."""

import msgspec


class Zone(msgspec.Struct, frozen=True):
    """The `suffix` of all names (`shore.internal`), the network's own IPv6 range, and the addresses of each
    node by its whole name (`laptop.shore.internal`)."""

    suffix: str
    range_v6: str
    hosts: tuple[tuple[str, tuple[str, ...]], ...]
