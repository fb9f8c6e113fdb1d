"""Resolve the names of endpoints.

Usually the host's own resolver is asked. Under a full tunnel that would ask through the tunnel for the way to
its own peer; then the resolvers from before `up` are asked directly, by sockets with the tunnel's mark.
"""

import asyncio
import socket

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from shore.io.sockets import set_mark

ANSWER_WITHIN = 2.0
PORT = 53


class NotResolved(Exception):
    """What the resolver said."""


async def resolve(host: str) -> tuple[str, ...]:
    """Addresses in the order of the host's resolver. Raises NotResolved."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise NotResolved(str(getattr(error, "strerror", None) or error).lower()) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


async def resolve_marked(host: str, servers: tuple[str, ...], mark: int) -> tuple[str, ...]:
    """Ask name servers directly, in turn, past the tunnel. Raises NotResolved."""
    reason = "no name server is known"
    for server in servers:
        try:
            return await asyncio.to_thread(_ask, host, server, mark)
        except (OSError, dns.exception.DNSException, NotResolved) as error:
            reason = f"{server}: {error or type(error).__name__}"
    raise NotResolved(reason)


def _ask(host: str, server: str, mark: int) -> tuple[str, ...]:
    addresses: list[str] = []
    for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
        query = dns.message.make_query(host, kind)
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            set_mark(asking, mark)
            answer = dns.query.udp(query, server, timeout=ANSWER_WITHIN, port=PORT, sock=asking)
        if answer.rcode() != dns.rcode.NOERROR:
            raise NotResolved(dns.rcode.to_text(answer.rcode()).lower())
        addresses += [str(record) for rrset in answer.answer if rrset.rdtype == kind for record in rrset]
    if not addresses:
        raise NotResolved(f"{host} has no address")
    return tuple(dict.fromkeys(addresses))
