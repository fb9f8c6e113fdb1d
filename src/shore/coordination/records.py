"""The records of one netmap and their digest, kept as they change.

The digest is over the hashes of ids and records in ascending order of ids (docs/protocol/control.md), so the
hashes are kept in that order in one piece: a change costs what changed, and one pass over 64 bytes a record.
Where many come or go at once, the piece is made anew. Of the last `KEPT` versions only the names of what
changed are kept, as a delta is made of what is true now.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping

KEPT = 8
WIDTH = 64
MANY = 32


class Records:
    """Of one node. `content` is by id; `version` and `digest` are the latest."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.version = 0
        self.digest = b""
        self._ids: list[str] = []
        self._hashes = bytearray()
        self._steps: dict[int, tuple[bytes, frozenset[str]]] = {}

    def change(
        self,
        changed: Mapping[str, bytes],
        removed: Collection[str],
        hashes: Callable[[str, bytes], bytes],
    ) -> frozenset[str]:
        """Take what is new; the ids of what really is."""
        news = {key for key, value in changed.items() if self.content.get(key) != value}
        gone = {key for key in removed if key in self.content and key not in changed}
        # One by one: to subtract the keys that are there would walk all of them.
        came = sum(key not in self.content for key in news)
        if len(gone) + came > MANY:
            self._take_many({key: changed[key] for key in news}, gone, hashes)
        else:
            self._take_few({key: changed[key] for key in news}, gone, hashes)
        return frozenset(news | gone)

    def step(self, version: int, ids: frozenset[str]) -> None:
        """What changed is this version."""
        self.version, self.digest = version, hashlib.sha256(self._hashes).digest()
        # Nobody holds what was before the first.
        self._steps[version] = (self.digest, ids if self._steps else frozenset())
        if len(self._steps) > KEPT:
            del self._steps[next(iter(self._steps))]

    def since(self, version: int) -> tuple[bytes, frozenset[str]] | None:
        """The digest of that version, and the ids of what changed after it; None if it is not known."""
        if version not in self._steps:
            return None
        later = [ids for step, (_, ids) in self._steps.items() if step > version]
        return self._steps[version][0], frozenset().union(*later)

    def _take_few(
        self, news: dict[str, bytes], gone: Collection[str], hashes: Callable[[str, bytes], bytes]
    ) -> None:
        for key in gone:
            del self.content[key]
            at = bisect_left(self._ids, key)
            del self._ids[at]
            del self._hashes[at * WIDTH : (at + 1) * WIDTH]
        for key, value in news.items():
            at = bisect_left(self._ids, key)
            end = at
            if key in self.content:
                end = at + 1
            else:
                self._ids.insert(at, key)
            self._hashes[at * WIDTH : end * WIDTH] = hashes(key, value)
            self.content[key] = value

    def _take_many(
        self, news: dict[str, bytes], gone: Collection[str], hashes: Callable[[str, bytes], bytes]
    ) -> None:
        for key in gone:
            del self.content[key]
        self.content.update(news)
        self._ids = sorted(self.content)
        self._hashes = bytearray(b"".join(hashes(key, self.content[key]) for key in self._ids))


def hashes_of(key: str, record: bytes) -> bytes:
    """What a record adds to the digest."""
    return hashlib.sha256(key.encode()).digest() + hashlib.sha256(record).digest()
