"""`python -m shore.lab.nameserver ADDRESS`: every name has this one IPv4 address.

It says `ready` when it listens.
"""

import socket
import sys

import dns.message
import dns.rdatatype
import dns.rrset

PORT = 53


def main() -> None:
    """Answer until killed."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", PORT))
    print("ready", flush=True)
    while True:
        query, asker = server.recvfrom(4096)
        answer = dns.message.make_response(dns.message.from_wire(query))
        (asked,) = answer.question
        if asked.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(asked.name, 5, "IN", "A", sys.argv[1]))
        server.sendto(answer.to_wire(), asker)


if __name__ == "__main__":
    main()
