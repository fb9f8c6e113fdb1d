"""The underlay as the host has it: links, their addresses, and which of them lead on."""

from typing import Literal

import msgspec

Family = Literal[4, 6]
# An uplink's name, the index of its device, and a family.
Way = tuple[str, int, Family]
# By which packets leave: an uplink's name, None for the kernel's own choice, and a family.
Exit = tuple[str | None, Family]


class Link(msgspec.Struct, frozen=True):
    """One interface. `addresses` are plain addresses; `default` names families with a default route;
    `networks` are the prefixes on its wire, as its addresses say."""

    name: str
    index: int
    up: bool
    mtu: int
    addresses: tuple[str, ...] = ()
    default: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()


class Lifetime(msgspec.Struct, frozen=True):
    """A mapping of this network's NAT lived for `lives_s` (0: none was seen to live), and not for `dies_s`.

    A network is named by what we look like from outside and by our own addresses in it.
    """

    network: str
    lives_s: int
    dies_s: int | None = None
