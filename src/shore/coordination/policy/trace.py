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
    names = tuple(sorted(member.name for member in members)[:MOST_NAMED])
    raise Unknown(f"no member is called `{word}` or has that address{meant(word, names)}")


def _is_address(word: str, member: Member) -> bool:
    try:
        return str(ipaddress.ip_address(word)) in member.addresses
    except ValueError:
        return False


MOST_NAMED = 8
