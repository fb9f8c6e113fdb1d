"""Packet sockets that hear what a firewall of this host may drop (docs/protocol/probe.md, "Overheard").

One per family, over all devices. A classic BPF program lets through UDP whose payload begins as a sealed
probe message does, and is locked, so that the data plane, which gets the socket, hears nothing else.
"""

import contextlib
import ctypes
import socket
import struct

SO_ATTACH_FILTER, SO_LOCK_FILTER = 26, 44
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
SEALED = 0x83

# Instruction, jump if true, jump if false, operand (linux/filter.h).
Instruction = tuple[int, int, int, int]
LOAD_BYTE, LOAD_HALF, LOAD_BYTE_AT_X = 0x30, 0x28, 0x50
LOAD_X_HEADER_LENGTH = 0xB1
JUMP_EQUAL, JUMP_ANY_BIT = 0x15, 0x45
RETURN = 0x06
WHOLE = 0xFFFF

FILTERS: dict[int, tuple[Instruction, ...]] = {
    4: (
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_EQUAL, 0, 6, socket.IPPROTO_UDP),
        (LOAD_HALF, 0, 0, 6),
        # More fragments, or not the first.
        (JUMP_ANY_BIT, 4, 0, 0x3FFF),
        (LOAD_X_HEADER_LENGTH, 0, 0, 0),
        (LOAD_BYTE_AT_X, 0, 0, 8),
        (JUMP_EQUAL, 0, 1, SEALED),
        (RETURN, 0, 0, WHOLE),
        (RETURN, 0, 0, 0),
    ),
    6: (
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_EQUAL, 0, 3, socket.IPPROTO_UDP),
        (LOAD_BYTE, 0, 0, 48),
        (JUMP_EQUAL, 0, 1, SEALED),
        (RETURN, 0, 0, WHOLE),
        (RETURN, 0, 0, 0),
    ),
}


def open_ear(family: int) -> socket.socket | None:
    """One for IPv4 (4) or IPv6 (6); None where we have no right to (CAP_NET_RAW)."""
    try:
        opened = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETHERTYPES[family])
        )
    except OSError:
        return None
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in FILTERS[family])
    room = ctypes.create_string_buffer(program)
    attached = struct.pack("HxxxxxxP", len(FILTERS[family]), ctypes.addressof(room))
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
        opened.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    except OSError:
        opened.close()
        return None
    # What came before the filter.
    with contextlib.suppress(BlockingIOError):
        while True:
            opened.recv(1)
    return opened
