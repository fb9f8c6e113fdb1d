"""Keys to the REST API: 256 bits, shown once, kept as a hash, with the right to read or to write.

    shorekey_ + base64url without padding of 32 random bytes

Whoever may write may read. Lists show the first 8 hex digits of the hash.
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Row, select, update

from shore.coordination.database import Database
from shore.coordination.roll import note
from shore.coordination.schema import api_keys

PREFIX = "shorekey_"
LONGEST = 100

Right = Literal["read", "write"]


class Keyring:
    """All keys that were ever made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, right: Right, words: str, who: str, now: float) -> str:
        """A key, which is kept nowhere; `words` say what it is for."""
        key = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        row = {"hash": _hash(key), "prefix": prefix_of(key), "scope": right, "note": words, "created_at": now}
        async with self._database.writing() as connection:
            await connection.execute(api_keys.insert().values(row))
            await note(connection, now, who, f"made a key to {right}", prefix_of(key))
        return key

    async def keys(self) -> Sequence[Row[Any]]:
        """All of them, newest first."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(api_keys).order_by(api_keys.c.id.desc()))).all()

    async def revoke(self, prefix: str, who: str, now: float) -> None:
        """Nobody comes in with it any more. Raises KeyError."""
        async with self._database.writing() as connection:
            ended = update(api_keys).where(api_keys.c.prefix == prefix).values(revoked_at=now)
            if not (await connection.scalars(ended.returning(api_keys.c.id))).all():
                raise KeyError(prefix)
            await note(connection, now, who, "revoked a key", prefix)

    async def of(self, key: str) -> tuple[str, Right] | None:
        """The prefix of a key that counts, and its right."""
        if len(key) > LONGEST or not key.startswith(PREFIX):
            return None
        this = select(api_keys).where(api_keys.c.hash == _hash(key), api_keys.c.revoked_at.is_(None))
        async with self._database.reading() as connection:
            row = (await connection.execute(this)).one_or_none()
        return None if row is None else (row.prefix, row.scope)


def prefix_of(key: str) -> str:
    """What lists show."""
    return _hash(key).hex()[:8]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
