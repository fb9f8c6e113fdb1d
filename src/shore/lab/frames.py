"""Ethernet frames on a wire: how large the packet is, and what a router would do to one that is too large.

    0  destination MAC (6)   6  source MAC (6)   12  EtherType (2)   14  the packet

Nothing here knows of chance or time. A frame that cannot be read passes as it is.
"""

import struct

HEADER = 14
IPV4, IPV6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
UDP, TCP, ICMP, ICMPV6 = 17, 6, 1, 58
NEIGHBOUR_DISCOVERY = range(133, 138)
DF, MF = 0x4000, 0x2000
QUOTED4, QUOTED6 = 548, 1232


def is_neighbour_discovery(frame: bytes) -> bool:
    """ARP, or the ICMPv6 messages that do its work."""
    kind = frame[12:14]
    if kind == ARP:
        return True
    return kind == IPV6 and frame[20] == ICMPV6 and len(frame) > 54 and frame[54] in NEIGHBOUR_DISCOVERY


def packet_size(frame: bytes) -> int:
    """The size of the IP packet in octets; 0 if it is none."""
    kind = frame[12:14]
    if kind == IPV4 and len(frame) >= 34:
        return int.from_bytes(frame[16:18], "big")
    if kind == IPV6 and len(frame) >= 54:
        return 40 + int.from_bytes(frame[18:20], "big")
    return 0


def udp_at(frame: bytes) -> int:
    """Where the UDP header begins; 0 if there is none, as in a later fragment."""
    kind = frame[12:14]
    if kind == IPV4 and len(frame) >= 34 and frame[23] == UDP and not _fragment_offset(frame):
        at = HEADER + (frame[14] & 15) * 4
    elif kind == IPV6 and len(frame) >= 54 and frame[20] == UDP:
        at = HEADER + 40
    else:
        return 0
    return at if len(frame) >= at + 8 else 0


def first_byte(frame: bytes) -> int | None:
    """The first byte of a UDP datagram: in WireGuard the message type."""
    at = udp_at(frame)
    return frame[at + 8] if at and len(frame) > at + 8 else None


def fragments(frame: bytes, mtu: int) -> list[bytes] | None:
    """An IPv4 packet cut to `mtu` (RFC 791); None where its sender or its version forbids that."""
    if frame[12:14] != IPV4 or int.from_bytes(frame[20:22], "big") & DF:
        return None
    length = (frame[14] & 15) * 4
    header, body = frame[HEADER : HEADER + length], frame[HEADER + length : HEADER + packet_size(frame)]
    flags = int.from_bytes(header[6:8], "big")
    step = (mtu - length) // 8 * 8
    cut = []
    for start in range(0, len(body), step):
        piece = body[start : start + step]
        more = MF if start + step < len(body) else flags & MF
        head = bytearray(header)
        head[2:4] = (length + len(piece)).to_bytes(2, "big")
        head[6:8] = (more | (flags & 0x1FFF) + start // 8).to_bytes(2, "big")
        head[10:12] = b"\0\0"
        head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
        cut.append(frame[:HEADER] + bytes(head) + piece)
    return cut


def too_big(frame: bytes, mtu: int) -> bytes | None:
    """The ICMP answer of a router (RFC 1191, RFC 8201) to a packet above `mtu`; None if none is due.

    It comes in the name of the packet's destination, so that no reverse-path filter minds.
    """
    back = frame[6:12] + frame[0:6] + frame[12:14]
    if frame[12:14] == IPV4:
        if frame[23] == ICMP and frame[HEADER + (frame[14] & 15) * 4] not in (0, 8):
            return None
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + frame[HEADER : HEADER + QUOTED4]
        message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, ICMP, 0)
        header += frame[30:34] + frame[26:30]
        return back + header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + message
    if frame[12:14] == IPV6:
        if frame[20] == ICMPV6 and frame[54] < 128:
            return None
        source, destination = frame[38:54], frame[22:38]
        message = struct.pack("!BBHI", 2, 0, 0, mtu) + frame[HEADER : HEADER + QUOTED6 - 48]
        total = checksum(_pseudo6(source, destination, len(message), ICMPV6) + message)
        message = message[:2] + total.to_bytes(2, "big") + message[4:]
        header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 64) + source + destination
        return back + header + message
    return None


def corrupted(frame: bytes, chance: float) -> bytes:
    """One bit of the payload flipped, the one that `chance` in [0, 1) names; a UDP checksum fits again."""
    at = udp_at(frame)
    start = at + 8 if at else HEADER + (40 if frame[12:14] == IPV6 else 20)
    end = HEADER + packet_size(frame)
    if end <= start or end > len(frame):
        return frame
    bit = int(chance * (end - start) * 8)
    changed = bytearray(frame)
    changed[start + bit // 8] ^= 1 << bit % 8
    if at:
        changed[at + 6 : at + 8] = b"\0\0"
        if frame[12:14] == IPV6:
            datagram = bytes(changed[at:end])
            pseudo = _pseudo6(frame[22:38], frame[38:54], len(datagram), UDP)
            changed[at + 6 : at + 8] = (checksum(pseudo + datagram) or 0xFFFF).to_bytes(2, "big")
    return bytes(changed)


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _fragment_offset(frame: bytes) -> int:
    return int.from_bytes(frame[20:22], "big") & 0x1FFF


def _pseudo6(source: bytes, destination: bytes, length: int, protocol: int) -> bytes:
    return source + destination + struct.pack("!II", length, protocol)
