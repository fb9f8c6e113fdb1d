"""The underlay as the host has it: links, their addresses, and which of them lead on."""

from typing import Literal

import msgspec

Family = Literal[4, 6]
# An uplink's name, the index of its device, and a family.
Way = tuple[str, int, Family]


class Link(msgspec.Struct, frozen=True):
    """One interface. `addresses` are plain addresses; `default` names families with a default route."""

    name: str
    index: int
    up: bool
    mtu: int
    addresses: tuple[str, ...] = ()
    default: tuple[int, ...] = ()
