"""TCP connections that others opened to us: those of ports that somebody listens on."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

import msgspec

FILES = {4: "tcp", 6: "tcp6"}
ESTABLISHED, LISTEN = "01", "0A"


class Connection(msgspec.Struct, frozen=True):
    """One connection, as plain addresses and ports."""

    version: int
    local: str
    local_port: int
    remote: str
    remote_port: int


def incoming_connections() -> list[Connection]:
    """Those that are open now, in our network namespace; loopback is left out."""
    tables = {version: Path(f"/proc/self/net/{file}").read_text() for version, file in FILES.items()}
    listening = _listening(tables.values())
    return [
        connection for version, table in tables.items() for connection in parse(table, version, listening)
    ]


def parse(table: str, version: int, listening: set[int]) -> list[Connection]:
    """Read /proc/net/tcp or tcp6; IPv4 inside IPv6 is told as IPv4."""
    found = []
    for fields in _rows(table):
        if fields[3] != ESTABLISHED:
            continue
        (local, local_port), (remote, remote_port) = _place(fields[1]), _place(fields[2])
        if local_port in listening and not remote.is_loopback:
            real = 4 if local.version == 4 else version
            found.append(Connection(real, str(local), local_port, str(remote), remote_port))
    return found


def _listening(tables: Iterable[str]) -> set[int]:
    return {_place(fields[1])[1] for table in tables for fields in _rows(table) if fields[3] == LISTEN}


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()[1:]]


def _place(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """`0100007F:0050`: words of 32 bits in the machine's order."""
    words, port = text.split(":")
    raw = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, int(port, 16)
