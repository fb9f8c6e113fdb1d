"""Questions about the names of a mesh: bytes in, bytes out.

A node answers by itself for two kinds of names, whether it knows them or not: those under the network's
suffix, and the addresses of the network turned round (100.64.0.0/10, which RFC 7793 keeps off the public
resolvers, and the network's own IPv6 range). None of them is ever asked for elsewhere: what is not in the
table does not exist, and says so for a few seconds only, as a node may join at any time. Every other name is
somebody else's to know; of such a question nothing is looked at but its name.

Whoever asks is a program of this machine, or pretends to be. What is no question gets no answer, so that two
name servers never talk to each other for ever; a question that cannot be read gets a header that says so.
An answer that does not fit the asker's datagrams is cut, and says that (TC); the asker comes again by TCP.
"""

import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
import msgspec

from shore.core.zones import reverse_domains
from shore.model.zone import Zone

# Seconds that others may keep what we say.
KNOWN_FOR = 30
UNKNOWN_FOR = 5
# RFC 1035 §4.2.1, and what fits every path without pieces (DNS flag day 2020).
PLAIN_SIZE = 512
MOST_SIZE = 1232
STREAM_SIZE = 65535
HEADER = struct.Struct("!6H")
# Bits of the header's second word: QR, and what a reply repeats (opcode, RD).
IS_REPLY, REPEATED = 0x8000, 0x7900


class Answer(msgspec.Struct, frozen=True):
    """Say this."""

    reply: bytes


class AskUpstream(msgspec.Struct, frozen=True):
    """Somebody else knows: pass the bytes on."""


class Ignore(msgspec.Struct, frozen=True):
    """Say nothing."""


Decision = Answer | AskUpstream | Ignore


class Directory:
    """A zone, ready for questions."""

    def __init__(self, zone: Zone) -> None:
        self._suffix = dns.name.from_text(zone.suffix)
        self._reversed = tuple(dns.name.from_text(domain) for domain in reverse_domains(zone))
        self._hosts = {dns.name.from_text(name): addresses for name, addresses in zone.hosts}
        self._owners = {
            dns.reversename.from_address(address): dns.name.from_text(name)
            for name, addresses in zone.hosts
            for address in addresses
        }

        self._between = self._on_the_way()

    def decide(self, question: bytes, *, stream: bool = False) -> Decision:
        """What becomes of a question that came in a datagram, or on a `stream`."""
        if len(question) < HEADER.size or HEADER.unpack_from(question)[1] & IS_REPLY:
            return Ignore()
        try:
            asked = dns.message.from_wire(question, question_only=True)
            if asked.opcode() != dns.opcode.QUERY:
                return Answer(failure(question, dns.rcode.NOTIMP))
            if len(asked.question) != 1:
                return Answer(failure(question, dns.rcode.FORMERR))
            apex = self._apex(asked.question[0].name)
            if apex is None:
                return AskUpstream()
            return Answer(self._reply(dns.message.from_wire(question), apex, stream))
        except (dns.exception.DNSException, ValueError):
            return Answer(failure(question, dns.rcode.FORMERR))

    def _apex(self, name: dns.name.Name) -> dns.name.Name | None:
        """The domain of ours that the name is in."""
        ours = (domain for domain in (self._suffix, *self._reversed) if name.is_subdomain(domain))
        return next(ours, None)

    def _reply(self, query: dns.message.Message, apex: dns.name.Name, stream: bool) -> bytes:
        reply = dns.message.make_response(query, recursion_available=True, our_payload=MOST_SIZE)
        (asked,) = query.question
        if query.edns > 0:
            reply.set_rcode(dns.rcode.BADVERS)
        elif asked.rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
            reply.set_rcode(dns.rcode.REFUSED)
        else:
            self._fill(reply, asked.name, asked.rdtype, apex)
        most = min(max(query.payload, PLAIN_SIZE), MOST_SIZE) if query.edns >= 0 else PLAIN_SIZE
        return _encoded(reply, STREAM_SIZE if stream else most)

    def _fill(
        self,
        reply: dns.message.Message,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        apex: dns.name.Name,
    ) -> None:
        reply.flags |= dns.flags.AA
        records = self._records(name, apex)
        for record in records:
            if kind in (record.rdtype, dns.rdatatype.ANY):
                place = reply.find_rrset(reply.answer, name, dns.rdataclass.IN, record.rdtype, create=True)
                place.add(record, KNOWN_FOR)
        if not reply.answer:
            reply.authority.append(dns.rrset.from_rdata(apex, UNKNOWN_FOR, _authority(apex)))
            if not records and name not in self._between:
                reply.set_rcode(dns.rcode.NXDOMAIN)

    def _records(self, name: dns.name.Name, apex: dns.name.Name) -> list[dns.rdata.Rdata]:
        records = [_record(address) for address in self._hosts.get(name, ())]
        if (owner := self._owners.get(name)) is not None:
            records.append(dns.rdata.from_text("IN", "PTR", owner.to_text()))
        if name == apex:
            records.append(_authority(apex))
        return records

    def _on_the_way(self) -> set[dns.name.Name]:
        """Names of which others are part, so that they exist too (RFC 8020), below our domains."""
        between: set[dns.name.Name] = set()
        for name in (*self._hosts, *self._owners):
            above = name.parent()
            while above not in between and self._apex(above) not in (None, above):
                between.add(above)
                above = above.parent()
        return between


def failure(question: bytes, code: dns.rcode.Rcode) -> bytes:
    """A reply that says what went wrong, to a question of which only the header may be readable."""
    number, flags, *_ = HEADER.unpack_from(question)
    return HEADER.pack(number, IS_REPLY | flags & REPEATED | 0x80 | code, 0, 0, 0, 0)


def is_reply_to(question: bytes, reply: bytes) -> bool:
    """Whether what came back has the question's number and asks the same; the case of letters counts."""
    if len(reply) < HEADER.size:
        return False
    number, flags, count, *_ = HEADER.unpack_from(reply)
    if number != HEADER.unpack_from(question)[0] or not flags & IS_REPLY:
        return False
    # One that failed may leave the question out.
    end = HEADER.size + question_size(question)
    return (count == 0 and flags & 0xF != 0) or reply[HEADER.size : end] == question[HEADER.size : end]


def question_size(question: bytes) -> int:
    """Bytes of the one question after the header; it has been read before."""
    (asked,) = dns.message.from_wire(question, question_only=True).question
    return len(asked.name.to_wire() or b"") + 4


def _encoded(reply: dns.message.Message, most: int) -> bytes:
    try:
        return reply.to_wire(max_size=most)
    except dns.exception.TooBig:
        reply.flags |= dns.flags.TC
        reply.answer.clear()
        reply.authority.clear()
        return reply.to_wire(max_size=most)


def _record(address: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text("IN", "AAAA" if ":" in address else "A", address)


def _authority(apex: dns.name.Name) -> dns.rdata.Rdata:
    text = f"{apex} nobody.invalid. 1 3600 600 86400 {UNKNOWN_FOR}"
    return dns.rdata.from_text("IN", "SOA", text)
