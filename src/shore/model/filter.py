"""Policy, compiled for one node: what its data plane lets in (DESIGN.md §8).

Rules are a union; what no rule names is refused. Answers need no rule: TCP is judged by its first SYN, UDP
by a table of flows that went out, ICMP errors by the packet that they quote.
"""

from typing import Annotated, Literal

import msgspec

Protocol = Literal["tcp", "udp", "icmp"] | Annotated[int, msgspec.Meta(ge=0, le=255)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Ports(msgspec.Struct, frozen=True):
    """A protocol and its ports, both ends included; all of them where it has none. None: every protocol."""

    protocol: Protocol | None = None
    first: Port = 0
    last: Port = 65535


class Rule(msgspec.Struct, frozen=True):
    """From any of `sources` to any of `destinations` (prefixes), at any of `ports`."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: tuple[Ports, ...]
