"""Answers of a node's own name server: the names of its network, and who has an address of it (RFC 1035).

What lies under the network's suffix, or in one of its address ranges, is answered here and nowhere else: such
a name never leaves the machine. Everything else is somebody else's to answer.
"""

import ipaddress
from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import msgspec

LIVES_S = 5
LARGEST_PLAIN = 512
LARGEST = 1232


class Zone(msgspec.Struct, frozen=True):
    """Addresses by whole name (`laptop.shore.internal`), the suffix, and the network's address ranges."""

    suffix: str
    ranges: tuple[str, ...]
    addresses: Mapping[str, tuple[str, ...]]


def answer(query: bytes, zone: Zone, *, largest: int | None = None) -> bytes | None:
    """The answer to a query that is ours; None where it is somebody else's. Raises ValueError for nonsense.

    `largest` None: what the query allows; an answer that is longer is cut, and says so.
    """
    try:
        asked = dns.message.from_wire(query)
    except dns.exception.DNSException as error:
        raise ValueError(f"no query: {error}") from None
    if asked.flags & dns.flags.QR or len(asked.question) != 1:
        raise ValueError("no query of one question")
    reply = _reply(asked, zone)
    if reply is None:
        return None
    allowed = min(max(asked.payload, LARGEST_PLAIN), LARGEST) if largest is None else largest
    return reply.to_wire(max_size=allowed)


def _reply(asked: dns.message.Message, zone: Zone) -> dns.message.Message | None:
    (question,) = asked.question
    name = question.name.canonicalize()
    if name.is_subdomain(dns.name.from_text(zone.suffix)):
        known = zone.addresses.get(name.to_text(omit_final_dot=True))
        found = None if known is None else _records(question, known)
    else:
        address = _reversed(name)
        if address is None or not any(address in ipaddress.ip_network(own) for own in zone.ranges):
            return None
        found = _pointers(question, zone, str(address))
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.flags |= dns.flags.AA
    apex = name == dns.name.from_text(zone.suffix)
    if found is None and not apex:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    reply.answer = found or []
    return reply


def _records(question: dns.rrset.RRset, addresses: tuple[str, ...]) -> list[dns.rrset.RRset]:
    kinds = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}
    wanted = [text for text in addresses if kinds[ipaddress.ip_address(text).version] == question.rdtype]
    return [dns.rrset.from_text(question.name, LIVES_S, "IN", question.rdtype, *wanted)] if wanted else []


def _pointers(question: dns.rrset.RRset, zone: Zone, address: str) -> list[dns.rrset.RRset] | None:
    names = [f"{name}." for name, known in zone.addresses.items() if address in known]
    if not names:
        return None
    if question.rdtype != dns.rdatatype.PTR:
        return []
    return [dns.rrset.from_text(question.name, LIVES_S, "IN", dns.rdatatype.PTR, *names)]


def _reversed(name: dns.name.Name) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(dns.reversename.to_address(name))
    except (dns.exception.DNSException, ValueError):
        return None
