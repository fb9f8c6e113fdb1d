"""What outlives a reboot.

STATE/             0700  SHORE_STATE_DIR, else /var/lib/shore; 0711 where a network was founded
STATE/history/     0700  what changed for each peer (`history`)
STATE/stamps/KEY   0600  the highest stamp of handshakes sent with a key; KEY is the public key in hexadecimal
STATE/lifetimes    0600  how long the NATs of the networks we were in remember a mapping; the newest 64

Losing any of it costs something, and never the start of a tunnel.
"""

import os
from pathlib import Path

import msgspec

from shore.model.links import Lifetime

MOST_LIFETIMES = 64


class Stamp(msgspec.Struct, frozen=True):
    """`sent_until` in seconds of the Unix epoch."""

    sent_until: float


def root() -> Path:
    """The directory of everything that outlives a reboot."""
    return Path(os.environ.get("SHORE_STATE_DIR", "/var/lib/shore"))


def read_stamp(public_key: bytes) -> float:
    """The highest stamp sent with this key, 0.0 if none is known."""
    try:
        return msgspec.json.decode(_stamp_file(public_key).read_bytes(), type=Stamp).sent_until
    except (OSError, msgspec.DecodeError):
        return 0.0


def write_stamp(public_key: bytes, sent_until: float) -> None:
    """Keep it, whole or not at all. Raises OSError."""
    write(_stamp_file(public_key), msgspec.json.encode(Stamp(sent_until)))


def read_lifetimes() -> tuple[Lifetime, ...]:
    """What is known of NATs, the oldest first."""
    try:
        return msgspec.json.decode(_lifetimes_file().read_bytes(), type=tuple[Lifetime, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def write_lifetime(lifetime: Lifetime) -> None:
    """Keep it beside those of other networks. Raises OSError."""
    others = [known for known in read_lifetimes() if known.network != lifetime.network]
    write(_lifetimes_file(), msgspec.json.encode([*others, lifetime][-MOST_LIFETIMES:]))


def write(file: Path, content: bytes) -> None:
    """Whole or not at all; the newest of several writers wins. Raises OSError."""
    for directory in (root(), file.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    new.replace(file)


def _lifetimes_file() -> Path:
    return root() / "lifetimes"


def _stamp_file(public_key: bytes) -> Path:
    return root() / "stamps" / public_key.hex()
