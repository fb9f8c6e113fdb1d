"""What outlives a reboot.

STATE/             0700  SHORE_STATE_DIR, else /var/lib/shore
STATE/history/     0700  what changed for each peer (`history`)
STATE/stamps/KEY   0600  the highest stamp of handshakes sent with a key; KEY is the public key in hexadecimal

Losing any of it costs something, and never the start of a tunnel.
"""

import os
from pathlib import Path

import msgspec


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
    file = _stamp_file(public_key)
    for directory in (root(), file.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(msgspec.json.encode(Stamp(sent_until)))
    new.replace(file)


def _stamp_file(public_key: bytes) -> Path:
    return root() / "stamps" / public_key.hex()
