"""The flight recorder of a wire: the latest frames at both ends, written as pcapng when somebody asks.

A frame that enters and leaves is there twice, one that was swallowed only where it entered; so a capture says
what the wire did. Interface 0 and 1 are the ends. Format: draft-ietf-opsawg-pcapng, section, interface and
enhanced packet blocks, nanoseconds.
"""

import struct
from collections import deque
from pathlib import Path

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
ETHERNET = 1
IF_NAME, IF_TSRESOL = 2, 9
NANOSECONDS = 9


class Recorder:
    """Keeps the latest `most` frames, each cut to `snap` octets."""

    def __init__(self, names: tuple[str, str], *, most: int = 20_000, snap: int = 160) -> None:
        self._names = names
        self._snap = snap
        self._kept: deque[tuple[int, int, int, bytes]] = deque(maxlen=most)

    def keep(self, end: int, frame: bytes, at_ns: int) -> None:
        """A frame was seen at an end, at a Unix time in nanoseconds."""
        self._kept.append((at_ns, end, len(frame), frame[: self._snap]))

    def write(self, path: Path) -> int:
        """Write what is kept, return how many frames that were. Raises OSError."""
        with path.open("wb") as file:
            file.write(_block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
            for name in self._names:
                options = _option(IF_NAME, name.encode()) + _option(IF_TSRESOL, bytes([NANOSECONDS]))
                head = struct.pack("<HHI", ETHERNET, 0, self._snap)
                file.write(_block(INTERFACE, head + options + _option(0, b"")))
            for at_ns, end, length, kept in self._kept:
                head = struct.pack("<IIIII", end, at_ns >> 32, at_ns & 0xFFFFFFFF, len(kept), length)
                file.write(_block(PACKET, head + kept + _padding(kept)))
        return len(self._kept)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + _padding(value)


def _padding(octets: bytes) -> bytes:
    return b"\0" * (-len(octets) % 4)
