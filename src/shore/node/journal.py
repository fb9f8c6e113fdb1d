"""The tunnel's log: one JSON line for each announcement, kept in two files of at most 1 MiB.

The log goes with the tunnel. What was announced is also kept in the history of the peer it is about.
"""

import time
from pathlib import Path

import msgspec

from shore.core.actions import Announce
from shore.io.history import History
from shore.model.config import TunnelConfig
from shore.model.history import Change
from shore.model.keys import key_text

LARGEST = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """`at` in seconds of the Unix epoch."""

    at: float
    what: str
    why: str
    peer: str | None = None


class Journal:
    """Appends announcements; a disk that is full loses lines and nothing else."""

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self._history = history

    def prune(self, config: TunnelConfig) -> None:
        """Forget peers that this configuration has not, after a while."""
        self._history.prune([peer.public_key for peer in config.peers], time.time())

    def announce(self, said: Announce) -> None:
        """Write one line."""
        at = round(time.time(), 3)
        self._history.keep(said.public_key, Change(at, said.what, said.why, said.numbers, said.cause))
        peer = None if said.public_key is None else key_text(said.public_key)
        line = msgspec.json.encode(Entry(at, said.what, said.why, peer)) + b"\n"
        try:
            with self._path.open("ab") as file:
                file.write(line)
                full = file.tell() > LARGEST
            if full:
                self._path.replace(self._path.with_suffix(".old"))
        except OSError:
            return
