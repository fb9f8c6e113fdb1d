"""Protocols and ports, as they are written: `*`, `22`, `80-443`, `22,80-443`, `tcp:443`, `icmp:*`.

Without a protocol, ports are those of TCP and UDP, and ping comes with them, as in Tailscale's language;
`*` alone is everything.
"""

from shore.coordination.policy.document import Value, listed
from shore.model.filter import Ports, Protocol

ALL = (Ports(),)
LAST_PORT = 65535


def of_grant(entry: Value) -> tuple[Ports, ...]:
    """An entry of a grant's `ip`. Raises PolicyError."""
    written = entry.text()
    protocol, colon, ports = written.rpartition(":")
    if not colon and (written in NUMBERS or written in PORTED):
        raise entry.wrong(f"`{written}` names no ports: write `{written}:*`")
    return of_protocol(entry, ports, protocol if colon else None)


def of_protocol(entry: Value, ports: str, protocol: str | None) -> tuple[Ports, ...]:
    """Ports of one protocol, or of none in particular. Raises PolicyError."""
    named = None if protocol is None else _protocol(entry, protocol)
    if ports == "*":
        return (Ports(named),)
    if named is not None and named not in ("tcp", "udp", PORTED["sctp"]):
        raise entry.wrong(f"`{protocol}` has no ports: write `*` in place of `{ports}`")
    ranges = [_range(entry, part) for part in ports.split(",")]
    if named is not None:
        return tuple(Ports(named, first, last) for first, last in ranges)
    both: tuple[Protocol, ...] = ("tcp", "udp")
    return (*(Ports(each, first, last) for each in both for first, last in ranges), Ports("icmp"))


def united(ports: list[Ports]) -> tuple[Ports, ...]:
    """Each once, and nothing beside everything."""
    return ALL if Ports() in ports else tuple(dict.fromkeys(ports))


def cover(ports: tuple[Ports, ...], protocol: Protocol, port: int | None) -> bool:
    """Whether a first packet of that protocol to that port is among them."""
    number = NUMBERS.get(str(protocol), protocol)
    return any(
        each.protocol in (None, protocol, number) and (port is None or each.first <= port <= each.last)
        for each in ports
    )


def protocol_of(word: str) -> Protocol | None:
    """`tcp`, `gre` or a number; None if it is neither."""
    known = NUMBERS | PORTED
    if word in known:
        return known[word]
    if word.isascii() and word.isdecimal() and int(word) <= 255:
        return BY_NUMBER.get(int(word), int(word))
    return None


def words(ports: tuple[Ports, ...]) -> str:
    """`tcp 22, udp 53`."""
    return ", ".join(_word(each) for each in ports)


def _word(ports: Ports) -> str:
    name = "every protocol" if ports.protocol is None else str(ports.protocol)
    if (ports.first, ports.last) == (0, LAST_PORT):
        return name
    one = ports.first == ports.last
    return f"{name} {ports.first}" if one else f"{name} {ports.first}-{ports.last}"


def _protocol(entry: Value, word: str) -> Protocol | None:
    if word == "*":
        return None
    protocol = protocol_of(word)
    if protocol is None:
        known = listed(tuple(sorted(NUMBERS | PORTED)))
        raise entry.wrong(f"`{word}` is no protocol: there is {known}, or a number up to 255")
    return protocol


def _range(entry: Value, written: str) -> tuple[int, int]:
    first, dash, last = written.strip().partition("-")
    last = last if dash else first
    numbers = [int(end) if end.isascii() and end.isdecimal() else -1 for end in (first, last)]
    if not 0 <= numbers[0] <= numbers[1] <= LAST_PORT:
        raise entry.wrong(f"`{written}` is no port: write one such as `22`, a range such as `80-443`, or `*`")
    return numbers[0], numbers[1]


PORTED: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": 132}
NUMBERS: dict[str, Protocol] = {
    "icmp": "icmp",
    "ipv6-icmp": 58,
    "igmp": 2,
    "ipv4": 4,
    "ip-in-ip": 4,
    "egp": 8,
    "igp": 9,
    "gre": 47,
    "esp": 50,
    "ah": 51,
}
BY_NUMBER: dict[int, Protocol] = {6: "tcp", 17: "udp", 1: "icmp"}
