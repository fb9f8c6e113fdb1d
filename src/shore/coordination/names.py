"""What a new member is called and where it lives in the network.

Names are labels of RFC 1123, once each: the second `kitchen` is `kitchen-2`. IPv4 addresses come from
100.64.0.0/10 (RFC 6598), drawn and not counted, so that two networks seldom meet in one address; never .0 or
.255, which some systems treat as broadcast, and never 100.100.100.100, where a Tailscale beside us resolves
names. The IPv6 address is the same number in the network's own /48 (RFC 4193).
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from shore.model.netmap import NODE_RANGE_V4

LONGEST_NAME = 63
RANGE = IPv4Network(NODE_RANGE_V4)
TAKEN = (IPv4Network("100.100.100.0/24"),)
TRIES, TRIES_PAST_AVOIDED = 10_000, 500
MOST_AVOIDED = 64
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class NoRoom(Exception):
    """The network has no address or name left. One sentence."""


def valid_name(name: str) -> bool:
    """Whether it is a label that we give as it is."""
    return _LABEL.fullmatch(name) is not None


def label(asked: str) -> str:
    """The nearest label to what was asked for (`Kitchen PC.lan`: `kitchen-pc`), or `node`."""
    first = asked.lower().split(".")[0]
    plain = re.sub(r"[^a-z0-9]+", "-", first).strip("-")[:LONGEST_NAME].rstrip("-")
    return plain or "node"


def unique(name: str, taken: Collection[str]) -> str:
    """The name, or the first of `name-2`, `name-3` that nobody has."""
    if name not in taken:
        return name
    for number in range(2, len(taken) + 3):
        ending = f"-{number}"
        candidate = name[: LONGEST_NAME - len(ending)].rstrip("-") + ending
        if candidate not in taken:
            return candidate
    raise NoRoom(f"there is no name left that begins with {name}")


def usable(address: IPv4Address) -> bool:
    """Whether a node may be given it."""
    last = int(address) & 255
    return address in RANGE and last not in (0, 255) and not any(address in block for block in TAKEN)


def within_range(prefixes: Iterable[str]) -> tuple[IPv4Network, ...]:
    """Which of the prefixes an address can avoid: those in our range that leave room beside them."""
    found: dict[IPv4Network, None] = {}
    for prefix in prefixes:
        with contextlib.suppress(ValueError):
            network = IPv4Network(prefix)
            if network.subnet_of(RANGE) and network != RANGE:
                found[network] = None
    return tuple(found)[:MOST_AVOIDED]


def draw_v4(
    taken: Collection[str], below: Callable[[int], int], avoid: Collection[IPv4Network] = ()
) -> IPv4Address:
    """An address nobody has, in none of `avoid` if any other can be found; `below` is uniform in [0, n).

    Raises NoRoom.
    """
    for tries, shunned in ((TRIES_PAST_AVOIDED, avoid), (TRIES, ())):
        for _ in range(tries):
            address = RANGE[below(RANGE.num_addresses)]
            free = usable(address) and str(address) not in taken
            if free and not any(address in network for network in shunned):
                return address
    raise NoRoom("the network has no address left")


def v6_of(v4: IPv4Address, range_v6: IPv6Network) -> IPv6Address:
    """The same node in the network's own range."""
    return range_v6[int(v4) - int(RANGE.network_address) + 1]


def draw_range_v6(chance: bytes) -> IPv6Network:
    """A /48 of fd00::/8 from 5 bytes of chance (RFC 4193 §3.2)."""
    return IPv6Network(((0xFD << 120) | (int.from_bytes(chance[:5]) << 80), 48))
