"""STUN binding (RFC 8489), the server's side: a request in, its sender's address out.

header:     type u16, length u16, magic cookie u32, transaction 12
attribute:  type u16, length u16, value, padded to 4 bytes
"""

import ipaddress
import struct

COOKIE = 0x2112A442
REQUEST, SUCCESS = 0x0001, 0x0101
XOR_MAPPED_ADDRESS = 0x0020
HEADER = struct.Struct("!HHI12s")


def is_request(datagram: bytes) -> bool:
    """Whether this is a binding request, whole."""
    if len(datagram) < HEADER.size:
        return False
    kind, length, cookie, _ = HEADER.unpack_from(datagram)
    return (kind, cookie) == (REQUEST, COOKIE) and length == len(datagram) - HEADER.size and length % 4 == 0


def response(request: bytes, host: str, port: int) -> bytes:
    """The answer to a binding request of this source: 32 bytes for IPv4, 44 for IPv6."""
    transaction = request[8:20]
    address = ipaddress.ip_address(host)
    mask = (COOKIE.to_bytes(4, "big") + transaction)[: len(address.packed)]
    masked = bytes(a ^ b for a, b in zip(address.packed, mask, strict=True))
    value = struct.pack("!BBH", 0, 1 if address.version == 4 else 2, port ^ COOKIE >> 16) + masked
    attribute = struct.pack("!HH", XOR_MAPPED_ADDRESS, len(value)) + value
    return HEADER.pack(SUCCESS, len(attribute), COOKIE, transaction) + attribute
