"""NAT-PMP (RFC 6886): what a home router is asked for a port by.

    request   version 0, opcode, [zeros 2, internal port 2, external port 2, lifetime 4]
    response  version 0, 128 + opcode, result 2, epoch 4, [...]

All integers are big-endian. Only UDP is mapped here.
"""

import ipaddress
import struct

import msgspec

PORT = 5351
VERSION = 0
ADDRESS, MAP_UDP = 0, 1
ANSWERED = 128
_head = struct.Struct("!BBHI")
_address = struct.Struct("!4s")
_map_request = struct.Struct("!BBHHHI")
_map_answer = struct.Struct("!HHI")

RESULTS = {
    1: "it speaks another version",
    2: "it refuses: port mapping is switched off",
    3: "it has no address of its own yet",
    4: "it is out of ports",
    5: "it does not know the request",
}


class Address(msgspec.Struct, frozen=True):
    """The router's own public address; `epoch` is how many seconds ago it forgot everything."""

    address: str
    epoch: int


class Mapped(msgspec.Struct, frozen=True):
    """A port of ours has one outside, for `lifetime_s`; 0 if it was taken back."""

    internal: int
    external: int
    lifetime_s: int
    epoch: int


class Denied(msgspec.Struct, frozen=True):
    """The router says no, and why."""

    code: int
    reason: str


def ask_address() -> bytes:
    """§3.2."""
    return bytes([VERSION, ADDRESS])


def ask_mapping(internal: int, external: int, lifetime_s: int) -> bytes:
    """§3.3; `external` is a wish, `lifetime_s` 0 (with `external` 0) takes a mapping back."""
    return _map_request.pack(VERSION, MAP_UDP, 0, internal, external, lifetime_s)


def read(answer: bytes) -> Address | Mapped | Denied | None:
    """None for what is no answer of this protocol."""
    if len(answer) < _head.size:
        return None
    version, opcode, result, epoch = _head.unpack_from(answer)
    if version != VERSION or opcode not in (ANSWERED + ADDRESS, ANSWERED + MAP_UDP):
        return None
    if result:
        return Denied(result, RESULTS.get(result, f"result {result}"))
    body = answer[_head.size :]
    if opcode == ANSWERED + ADDRESS and len(body) == _address.size:
        return Address(str(ipaddress.IPv4Address(body)), epoch)
    if opcode == ANSWERED + MAP_UDP and len(body) == _map_answer.size:
        internal, external, lifetime = _map_answer.unpack(body)
        return Mapped(internal, external, lifetime, epoch)
    return None
