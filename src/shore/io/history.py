"""The last changes of each peer, kept over restarts and reboots.

STATE/history/TUNNEL/KEY.jsonl   0600  a peer's; KEY is its public key in hexadecimal
STATE/history/TUNNEL/all.jsonl   0600  what concerned every peer

A change is a line at the end of a file. Once a file has twice as many lines as are kept, it is written anew
with the newest of them. A disk that is full loses lines and nothing else; a line that was cut short is left
out by whoever reads. The file of a peer that was removed from the configuration is kept for a month after its
last change: people ask why they removed it, or add it again.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import msgspec

from shore.io import state
from shore.model.history import Change

KEPT = 1000
REMOVED_KEPT_S = 30 * 86400.0
_decoder = msgspec.json.Decoder(Change)


class History:
    """The changes of one tunnel's peers."""

    def __init__(self, tunnel: str) -> None:
        self._directory = state.root() / "history" / tunnel
        self._lines: dict[Path, int] = {}

    def keep(self, public_key: bytes | None, change: Change) -> None:
        """Append a change of a peer, or of all of them."""
        file = self._file(public_key)
        with contextlib.suppress(OSError):
            self._append(file, msgspec.json.encode(change) + b"\n")
            if self._lines[file] >= 2 * KEPT:
                self._lines[file] = KEPT
                _write(file.with_suffix(".new"), b"".join(_lines(file)[-KEPT:]), os.O_TRUNC)
                file.with_suffix(".new").replace(file)

    def read(self, public_key: bytes) -> tuple[Change, ...]:
        """The last changes that concerned a peer, oldest first. Raises PermissionError."""
        changes = []
        for line in _lines(self._file(public_key)) + _lines(self._file(None)):
            with contextlib.suppress(msgspec.DecodeError):
                changes.append(_decoder.decode(line))
        return tuple(sorted(changes, key=lambda change: change.at)[-KEPT:])

    def peers(self) -> list[bytes]:
        """Whose changes are kept."""
        found = []
        for file in sorted(self._directory.glob("*.jsonl")):
            with contextlib.suppress(ValueError):
                found.append(bytes.fromhex(file.stem))
        return found

    def prune(self, configured: Collection[bytes], now: float) -> None:
        """Delete what is kept of peers that were removed long ago; `now` in seconds of the Unix epoch."""
        for public_key in set(self.peers()) - set(configured):
            file = self._file(public_key)
            with contextlib.suppress(OSError):
                if now - file.stat().st_mtime > REMOVED_KEPT_S:
                    file.unlink()
                    self._lines.pop(file, None)

    def _append(self, file: Path, line: bytes) -> None:
        if file not in self._lines:
            for directory in (file.parent.parent, file.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = _lines(file)
            self._lines[file] = len(lines)
            if lines and not lines[-1].endswith(b"\n"):
                line = b"\n" + line
        try:
            _write(file, line, os.O_APPEND)
        except OSError:
            # Whatever of it was written is found out about with the next line.
            del self._lines[file]
            raise
        self._lines[file] += 1

    def _file(self, public_key: bytes | None) -> Path:
        return self._directory / f"{'all' if public_key is None else public_key.hex()}.jsonl"


def tunnels_kept() -> list[str]:
    """Names of the tunnels of which something is kept. Raises PermissionError."""
    try:
        return sorted(entry.name for entry in (state.root() / "history").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _write(file: Path, text: bytes, how: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text)


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
