"""The relay's frames and UDP messages (docs/protocol/relay.md).

frame:  type u8, length u24 big-endian, content
UDP:    type u8, zeros 3, tag 8, ...
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from shore.model.netmap import Signed

PATH = "/shore/v1/relay"
UPGRADE = "shore-relay/1"
EXPORTER = b"EXPORTER-shore-relay-v1"
EXPORTER_LENGTH = 32
TAG_LENGTH = 8
HEADER_LENGTH = 4
MOST_CONTENT = 65536
MOST_DATAGRAM = 65507

PROVE, SEND, PING, PONG, WHERE = 0x01, 0x02, 0x03, 0x04, 0x05
WELCOME, RECEIVE, AWAY, GOAWAY, REFUSED, SEEN = 0x11, 0x12, 0x13, 0x14, 0x15, 0x16

BIND: Final = 0x91
CHALLENGE: Final = 0x92
ANSWER: Final = 0x93
BOUND: Final = 0x94
FORWARD, FORWARDED = 0x95, 0x96
UDP_HEADER_LENGTH = 12
CONTROL_LENGTH = 48
NONCE = slice(12, 20)
COOKIE = slice(20, 32)
MAC_LENGTH = 16
BOUND_S = 120

ControlType = Literal[0x91, 0x92, 0x93, 0x94]


class Welcome(msgspec.Struct, frozen=True):
    """What a stream may do. `rate` in bytes a second, 0 for no limit; `ticket` is the key of the UDP side."""

    observed: str
    ticket: bytes
    rate: int = 0
    udp: tuple[str, ...] = ()


class BrokenStream(Exception):
    """Not ours to read: the stream must end."""


class Frames:
    """Bytes in, (type, content) out."""

    def __init__(self) -> None:
        self._inbox = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the frames that are whole now, known or not. Raises BrokenStream."""
        inbox = self._inbox
        inbox += data
        at = 0
        try:
            while len(inbox) - at >= HEADER_LENGTH:
                length = int.from_bytes(inbox[at + 1 : at + HEADER_LENGTH], "big")
                if length > MOST_CONTENT:
                    raise BrokenStream(f"a frame of {length} bytes")
                end = at + HEADER_LENGTH + length
                if len(inbox) < end:
                    return
                yield inbox[at], bytes(inbox[at + HEADER_LENGTH : end])
                at = end
        finally:
            del inbox[:at]


def frame(kind: int, *content: bytes) -> bytes:
    """One frame of these parts."""
    length = sum(map(len, content))
    return b"".join((bytes([kind]), length.to_bytes(3, "big"), *content))


def prove(admission: Signed, signature: bytes) -> bytes:
    """The content of `prove`."""
    encoded = msgspec.msgpack.encode(admission)
    return len(encoded).to_bytes(2, "big") + encoded + signature


def proof(content: bytes) -> tuple[Signed, bytes]:
    """Admission and signature. Raises ValueError."""
    length = int.from_bytes(content[:2], "big")
    encoded, signature = content[2 : 2 + length], content[2 + length :]
    try:
        admission = msgspec.msgpack.decode(encoded, type=Signed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("an admission that cannot be read") from None
    if len(content) < 2 or len(encoded) != length or len(signature) != 64:
        raise ValueError("a proof that is cut")
    return admission, signature


def proved(pin: bytes, exporter: bytes) -> bytes:
    """What the signature in `prove` covers."""
    return pin + exporter


def seen(tag: bytes, observed: str) -> bytes:
    """The content of `seen`: the address of `observed` (`address:port`), as IPv6."""
    address = ipaddress.ip_address(observed.rpartition(":")[0].strip("[]"))
    packed = b"\0" * 10 + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    return tag + packed


def tag_of(node_key: bytes) -> bytes:
    """By which frames name a node: 8 bytes."""
    return hashlib.sha256(b"shore tag v1\0" + node_key).digest()[:TAG_LENGTH]


def control(kind: ControlType, tag: bytes, nonce: bytes, body: bytes, ticket: bytes) -> bytes:
    """A UDP message of 48 bytes; `body` is the cookie, or what else stands there, at most 12 bytes."""
    message = bytes([kind, 0, 0, 0]) + tag + nonce + body.ljust(12, b"\0")
    return message + _mac(ticket, message)


def is_from(ticket: bytes, message: bytes) -> bool:
    """Whether a message of 48 bytes was made with this ticket."""
    if len(message) != CONTROL_LENGTH:
        return False
    return hmac.compare_digest(_mac(ticket, message[:-MAC_LENGTH]), message[-MAC_LENGTH:])


def cookie(secret: bytes, host: bytes, port: int, tag: bytes) -> bytes:
    """12 bytes that only who receives at this address can know. `host` is the address, packed."""
    return hmac.digest(secret, host + port.to_bytes(2, "big") + tag, "sha256")[:12]


def forwarded(kind: int, tag: bytes, datagram: bytes) -> bytes:
    """`forward` or `forwarded`."""
    return bytes([kind, 0, 0, 0]) + tag + datagram


def _mac(ticket: bytes, message: bytes) -> bytes:
    return hmac.digest(ticket, message, "sha256")[:MAC_LENGTH]
