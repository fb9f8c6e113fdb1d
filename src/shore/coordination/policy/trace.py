"""Which line lets a packet in, or that none does."""

import ipaddress

from shore.coordination.members import Member
from shore.coordination.policy.document import meant
from shore.coordination.policy.policy import Policy
from shore.coordination.policy.ports import LAST_PORT, protocol_of
from shore.wire.policy import Trace


class Unknown(Exception):
    """What was asked about is no member, port or protocol. One sentence."""


def trace(
    policy: Policy,
    members: tuple[Member, ...],
    source: str,
    destination: str,
    *,
    port: int,
    protocol: str = "tcp",
) -> Trace:
    """Ask about two members, by name or address; `port` counts where the protocol has any. Raises Unknown."""
    known = protocol_of(protocol)
    if known is None:
        raise Unknown(f"`{protocol}` is no protocol such as tcp, udp or icmp")
    if not 0 <= port <= LAST_PORT:
        raise Unknown(f"{port} is no port")
    from_, to = _member(source, members), _member(destination, members)
    at = port if known in ("tcp", "udp", 132) else None
    what = f"{from_.name} reach {to.name} by {protocol}" + ("" if at is None else f" {at}")
    line = policy.line_for(from_, to, known, at)
    if line is None:
        return Trace(False, f"no line lets {what}")
    return Trace(True, f"line {line.number} lets {what}", line.number, line.words)


def _member(word: str, members: tuple[Member, ...]) -> Member:
    for member in members:
        if word == member.name or _is_address(word, member):
            return member
    if (router := _router(word, members)) is not None:
        return Member(0, f"{word} behind {router.name}", "", ("",), (word,))
    names = tuple(sorted(member.name for member in members)[:MOST_NAMED])
    raise Unknown(f"no member is called `{word}` or has that address{meant(word, names)}")


def _router(word: str, members: tuple[Member, ...]) -> Member | None:
    """Who leads to an address, by the longest prefix."""
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return None
    led = [
        (ipaddress.ip_network(prefix).prefixlen, member)
        for member in members
        for prefix in member.prefixes
        if address in ipaddress.ip_network(prefix)
    ]
    return max(led, key=lambda each: each[0], default=(0, None))[1]


def _is_address(word: str, member: Member) -> bool:
    try:
        return str(ipaddress.ip_address(word)) in member.addresses
    except ValueError:
        return False


MOST_NAMED = 8
