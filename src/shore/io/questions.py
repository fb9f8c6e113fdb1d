"""Ask one name server for the addresses of a name, past the tunnel."""

import socket

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from shore.io.resolver import NotResolved
from shore.io.sockets import set_mark

ANSWER_WITHIN = 2.0
PORT = 53


def ask(host: str, server: str, mark: int) -> tuple[str, ...]:
    """Addresses, IPv6 first; blocks for 2 s a family at most. Raises NotResolved."""
    addresses: list[str] = []
    try:
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            addresses += _records(dns.message.make_query(host, kind), server, mark)
    except (OSError, dns.exception.DNSException) as error:
        raise NotResolved(str(error) or type(error).__name__) from None
    if not addresses:
        raise NotResolved(f"{host} has no address")
    return tuple(dict.fromkeys(addresses))


def _records(query: dns.message.Message, server: str, mark: int) -> list[str]:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        set_mark(asking, mark)
        answer = dns.query.udp(query, server, timeout=ANSWER_WITHIN, port=PORT, sock=asking)
    if answer.rcode() != dns.rcode.NOERROR:
        raise NotResolved(dns.rcode.to_text(answer.rcode()).lower())
    kind = query.question[0].rdtype
    return [str(record) for rrset in answer.answer if rrset.rdtype == kind for record in rrset]
