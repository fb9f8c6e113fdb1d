"""The contract of `shore netcheck --json`: fields may be added, never renamed."""

from typing import Literal

import msgspec

from shore.model.desired import LinkState

Mapping = Literal["none", "endpoint_independent", "endpoint_dependent"]


class RelayCheck(msgspec.Struct, frozen=True):
    """A relay that we are linked to; `rtt_ms` is the link's. `home`: where peers find us."""

    id: str
    address: str
    state: LinkState
    rtt_ms: float | None
    home: bool


class Netcheck(msgspec.Struct, frozen=True):
    """How one tunnel reaches the outside.

    `public_v4` and `public_v6` are where STUN servers saw its sockets within the last minute. `mapping` is
    the NAT's (RFC 4787), `none` where nothing is translated. What is not known is None.
    """

    tunnel: str
    listen_port: int
    public_v4: tuple[str, ...]
    public_v6: tuple[str, ...]
    mapping: Mapping | None
    udp_blocked: bool | None
    port_mapping: bool
    ports_mapped: tuple[str, ...]
    relays: tuple[RelayCheck, ...]
    suggestion: str | None
