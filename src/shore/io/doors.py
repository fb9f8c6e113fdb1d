"""The ports of a network's server and relay, opened as root and handed to programs that could not open them.

One TCP and one UDP socket for each family; where a port is taken, who holds it is named.
"""

import contextlib
import errno
import socket
from pathlib import Path

BACKLOG = 512
LISTENING = "0A"
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class DoorShut(Exception):
    """A port cannot be opened. One sentence."""


def open_doors(port: int, stun_port: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """Listening TCP sockets and bound UDP sockets, both on every address. Raises DoorShut."""
    opened: list[socket.socket] = []
    try:
        for kind, number in (("tcp", port), ("udp", stun_port)):
            opened += _open_both(kind, number)
    except DoorShut:
        for door in opened:
            door.close()
        raise
    streams = [door for door in opened if door.type == socket.SOCK_STREAM]
    return streams, [door for door in opened if door not in streams]


def holder(kind: str, port: int) -> str | None:
    """`name (PID)` of a process that holds a port of `tcp` or `udp`, as far as we may see."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(kind, port)}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in inodes for link in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text().strip()} ({directory.name})"
    return None


def _open_both(kind: str, port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(_NoFamily):
                opened.append(_open(kind, family, port))
    except OSError as error:
        for door in opened:
            door.close()
        raise DoorShut(_why(error, kind, port)) from None
    return opened


def _open(kind: str, family: socket.AddressFamily, port: int) -> socket.socket:
    try:
        door = socket.socket(family, KINDS[kind])
    except OSError as error:
        raise _NoFamily from error
    try:
        if family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == "tcp":
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("", port))
        if kind == "tcp":
            door.listen(BACKLOG)
    except OSError as error:
        door.close()
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            raise _NoFamily from error
        raise
    return door


class _NoFamily(Exception):
    """This machine has no IPv6."""


def _inodes(kind: str, port: int) -> set[str]:
    inodes = set()
    for table in (kind, f"{kind}6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and (kind == "udp" or words[3] == LISTENING):
                    inodes.add(words[9])
    return inodes


def _why(error: OSError, kind: str, port: int) -> str:
    what = f"{kind.upper()} port {port}"
    other = "--port" if kind == "tcp" else "--stun-port"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"no right to open {what}: run as root"
    if error.errno != errno.EADDRINUSE:
        return f"opening {what} failed: {(error.strerror or '').lower()}"
    by = holder(kind, port)
    return f"{what} is taken{'' if by is None else f' by {by}'}: stop what holds it, or give another {other}"
