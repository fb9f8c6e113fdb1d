"""PCP (RFC 6887), MAP and ANNOUNCE: the port mapping of IPv4 NATs and the pinhole of IPv6 firewalls.

    request   version 2, opcode, zeros 2, lifetime 4, client address 16
    response  version 2, 128 + opcode, zero 1, result 1, lifetime 4, epoch 4, zeros 12
    MAP       nonce 12, protocol 1, zeros 3, internal port 2, external port 2, external address 16

All integers are big-endian; IPv4 addresses are mapped (::ffff:a.b.c.d). Only UDP is mapped here. A nonce
belongs to a mapping for its life: who does not know it cannot take the mapping over.
"""

import ipaddress
import struct

import msgspec

PORT = 5351
VERSION = 2
ANNOUNCE, MAP = 0, 1
ANSWERED = 128
UDP = 17
NONCE_LENGTH = 12
LONGEST = 1100
_request = struct.Struct("!BBHI16s")
_answer = struct.Struct("!BBBBII12s")
_map = struct.Struct("!12sB3sHH16s")

RESULTS = {
    1: "it speaks another version",
    2: "it refuses: port mapping is switched off",
    3: "it found the request malformed",
    4: "it does not know the request",
    5: "it does not know an option",
    6: "it found an option malformed",
    7: "it has a network failure",
    8: "it is out of resources",
    9: "it does not map this protocol",
    10: "we have as many mappings as we may",
    11: "it cannot give what was asked",
    12: "another NAT stands between it and us",
    13: "it is out of peers",
}
UNSUPPORTED_VERSION = 1


class Mapped(msgspec.Struct, frozen=True):
    """A port of ours has one outside, for `lifetime_s`; `epoch` in the server's own seconds."""

    nonce: bytes
    internal: int
    external: int
    address: str
    lifetime_s: int
    epoch: int


class Announced(msgspec.Struct, frozen=True):
    """The server is there; `epoch` in its own seconds."""

    epoch: int


class Denied(msgspec.Struct, frozen=True):
    """It says no, and for how long that is meant."""

    code: int
    reason: str
    lifetime_s: int


def ask_announce(client: str) -> bytes:
    """§14.1: is anybody there? `client` is the address that this is sent from."""
    return _request.pack(VERSION, ANNOUNCE, 0, 0, _packed(client))


def ask_mapping(client: str, nonce: bytes, internal: int, external: int, lifetime_s: int) -> bytes:
    """§11.1; `external` is a wish (0: any), `lifetime_s` 0 takes the mapping back."""
    anywhere = "::" if ipaddress.ip_address(client).version == 6 else "0.0.0.0"  # noqa: S104 (a wish, no bind)
    head = _request.pack(VERSION, MAP, 0, lifetime_s, _packed(client))
    return head + _map.pack(nonce, UDP, bytes(3), internal, external, _packed(anywhere))


def read(answer: bytes) -> Mapped | Announced | Denied | None:
    """None for what is no answer of this protocol, as is that of a router that knows NAT-PMP only."""
    if not _answer.size <= len(answer) <= LONGEST or len(answer) % 4:
        return None
    version, opcode, _, result, lifetime, epoch, _ = _answer.unpack_from(answer)
    if version != VERSION or opcode not in (ANSWERED + ANNOUNCE, ANSWERED + MAP):
        return None
    if result:
        return Denied(result, RESULTS.get(result, f"result {result}"), lifetime)
    if opcode == ANSWERED + ANNOUNCE:
        return Announced(epoch)
    return _mapped(answer[_answer.size :], lifetime, epoch)


def _mapped(body: bytes, lifetime: int, epoch: int) -> Mapped | None:
    if len(body) < _map.size:
        return None
    nonce, protocol, _, internal, external, address = _map.unpack_from(body)
    return Mapped(nonce, internal, external, _text(address), lifetime, epoch) if protocol == UDP else None


def _packed(address: str) -> bytes:
    parsed = ipaddress.ip_address(address)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def _text(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
