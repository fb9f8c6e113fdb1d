"""The roll of members: what becomes of a node once it was enrolled.

A node key that is out stays out: it was revoked, replaced or expired by hand, or its node left. Relays are
told those of the last `LEASE_S`, as no admission is good for longer. A node that is revoked keeps its row, so
that its machine key never comes back; one that left loses it, and its name and addresses are free.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shore.coordination.database import Database
from shore.coordination.schema import audit, networks, nodes, relays, revoked_keys
from shore.model.netmap import LEASE_S, Standing


class NotChanged(Exception):
    """Why it cannot be so. One sentence."""


class Roll:
    """All nodes of the network, by what people call them or by their machine keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def nodes(self) -> Sequence[Row[Any]]:
        """All of them, those that are out included."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(nodes).order_by(nodes.c.id))).all()

    async def of_machine(self, machine_key: bytes) -> Row[Any] | None:
        """The node of this machine, if it was enrolled."""
        async with self._database.reading() as connection:
            this = select(nodes).where(nodes.c.machine_key == machine_key)
            return (await connection.execute(this)).one_or_none()

    async def keys_out(self, now: float) -> tuple[bytes, ...]:
        """Node keys whose admissions may still be good, and shall not be."""
        async with self._database.reading() as connection:
            late = select(revoked_keys.c.node_key).where(revoked_keys.c.at > now - LEASE_S)
            return tuple((await connection.scalars(late)).all())

    async def approve(self, name: str, who: str, now: float) -> Row[Any]:
        """A node that waits is let in. Raises KeyError."""
        async with self._database.writing() as connection:
            row = await _named(connection, name)
            await note(connection, now, who, "approved", name)
            return await _set(connection, row.id, approved_at=row.approved_at or now)

    async def revoke(self, name: str, who: str, now: float) -> Row[Any]:
        """A node is out, for good. Raises KeyError."""
        async with self._database.writing() as connection:
            row = await _named(connection, name)
            await note(connection, now, who, "revoked", name)
            return await put_out(connection, row.id, now)

    async def advertise(self, number: int, prefixes: tuple[str, ...], now: float) -> Row[Any] | None:
        """A node says what it would lead to, in place of what it said before; None if it is no more."""
        async with self._database.writing() as connection:
            row = (await connection.execute(select(nodes).where(nodes.c.id == number))).one_or_none()
            if row is None:
                return None
            await note(connection, now, row.name, "advertises", ", ".join(prefixes) or "nothing")
            return await _set(connection, number, advertised=list(prefixes))

    async def lead(
        self, name: str, approve: tuple[str, ...], revoke: tuple[str, ...], who: str, now: float
    ) -> Row[Any]:
        """A node may lead to other prefixes. A prefix has one node. Raises KeyError, NotChanged."""
        async with self._database.writing() as connection:
            row = await _named(connection, name)
            if row.role != "node":
                raise NotChanged(f"{name} is a relay, which leads to nothing")
            others = select(nodes).where(nodes.c.id != row.id, nodes.c.revoked_at.is_(None))
            for other in (await connection.execute(others)).all():
                for prefix in set(approve) & set(other.prefixes):
                    raise NotChanged(
                        f"{other.name} leads to {prefix} already: `shore nodes routes {other.name} "
                        f"--revoke {prefix}` first"
                    )
            for missing in [prefix for prefix in revoke if prefix not in row.prefixes]:
                raise NotChanged(f"{missing} was not approved of {name}")
            kept = [prefix for prefix in row.prefixes if prefix not in revoke]
            for what, prefixes in (("may lead to", approve), ("may not lead to", revoke)):
                for prefix in prefixes:
                    await note(connection, now, who, f"{what} {prefix}", name)
            return await _set(connection, row.id, prefixes=list(dict.fromkeys((*kept, *approve))))

    async def rename(self, name: str, new: str, who: str, now: float) -> Row[Any]:
        """A node is called otherwise. Raises KeyError, NotChanged."""
        async with self._database.writing() as connection:
            row = await _named(connection, name)
            held = await connection.scalar(select(nodes.c.id).where(nodes.c.name == new))
            if held not in (None, row.id):
                raise NotChanged(f"there is a {new} already")
            await note(connection, now, who, f"renamed to {new}", name)
            return await _set(connection, row.id, name=new)

    async def expire(self, name: str, who: str, now: float) -> Row[Any]:
        """A node's key counts no more; the node has to draw another. Raises KeyError, NotChanged."""
        async with self._database.writing() as connection:
            row = await _named(connection, name)
            if row.node_key is None:
                raise NotChanged(f"{name} is a relay, which has no node key")
            await _key_out(connection, row.node_key, now)
            await note(connection, now, who, "expired", name)
            return await _set(connection, row.id, expires_at=now)

    async def rekey(self, number: int, node_key: bytes, now: float) -> Row[Any]:
        """A node has drawn another key, which lives from now. Raises NotChanged."""
        async with self._database.writing() as connection:
            row = (await connection.execute(select(nodes).where(nodes.c.id == number))).one()
            if await is_key_known(connection, node_key):
                raise NotChanged("that node key belongs to another, or is out")
            await _key_out(connection, row.node_key, now)
            lifetime = None if row.tags else await connection.scalar(select(networks.c.node_key_lifetime_s))
            await note(connection, now, row.name, "drew another key", row.name)
            expires_at = None if lifetime is None else now + lifetime
            return await _set(connection, number, node_key=node_key, expires_at=expires_at)

    async def leave(self, number: int, now: float) -> None:
        """A node is no member any more, and may be one again."""
        async with self._database.writing() as connection:
            row = (await connection.execute(select(nodes).where(nodes.c.id == number))).one_or_none()
            if row is None:
                return
            if row.node_key is not None:
                await _key_out(connection, row.node_key, now)
            await connection.execute(delete(relays).where(relays.c.node == number))
            await connection.execute(delete(nodes).where(nodes.c.id == number))
            await note(connection, now, row.name, "left", row.name)

    async def offer(
        self,
        number: int,
        places: tuple[tuple[str, ...], tuple[str, ...]],
        pin: bytes | None,
        now: float,
    ) -> Row[Any] | None:
        """A relay tells where it is, by TLS and by UDP; its record, which a pin begins and none changes."""
        async with self._database.writing() as connection:
            told = {"addresses": list(places[0]), "udp_addresses": list(places[1])}
            there = update(relays).where(relays.c.node == number).values(told).returning(relays)
            row: Row[Any] | None = (await connection.execute(there)).one_or_none()
            if row is not None or pin is None:
                return row
            node = (await connection.execute(select(nodes).where(nodes.c.id == number))).one_or_none()
            if node is None or standing(node, now) != "member":
                return None
            first = {"id": node.name, "node": number, "pin": pin, **told}
            await note(connection, now, node.name, "offered a relay", node.name)
            made: Row[Any] = (await connection.execute(insert(relays).values(first).returning(relays))).one()
            return made


def standing(row: Row[Any] | None, now: float) -> Standing:
    """What a machine is to the network."""
    if row is None:
        return "unknown"
    if row.revoked_at is not None:
        return "revoked"
    if row.approved_at is None:
        return "pending"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "member"


async def put_out(connection: AsyncConnection, number: int, now: float) -> Row[Any]:
    """Revoke a node, once."""
    row: Row[Any] = (await connection.execute(select(nodes).where(nodes.c.id == number))).one()
    if row.revoked_at is not None:
        return row
    if row.node_key is not None:
        await _key_out(connection, row.node_key, now)
    return await _set(connection, number, revoked_at=now)


async def is_key_known(connection: AsyncConnection, node_key: bytes) -> bool:
    """Whether a node has this key, or had it."""
    held = select(nodes.c.id).where(nodes.c.node_key == node_key)
    out = select(revoked_keys).where(revoked_keys.c.node_key == node_key)
    return bool((await connection.scalars(held)).first() or (await connection.scalars(out)).first())


async def note(connection: AsyncConnection, now: float, who: str, what: str, about: str) -> None:
    """Write down who did what."""
    row = {"at": now, "who": who[:63], "what": what[:63], "about": about[:200]}
    await connection.execute(audit.insert().values(row))


async def _named(connection: AsyncConnection, name: str) -> Row[Any]:
    row: Row[Any] | None = (await connection.execute(select(nodes).where(nodes.c.name == name))).one_or_none()
    if row is None:
        raise KeyError(name)
    return row


async def _set(connection: AsyncConnection, number: int, **values: object) -> Row[Any]:
    changed = update(nodes).where(nodes.c.id == number).values(**values).returning(nodes)
    row: Row[Any] = (await connection.execute(changed)).one()
    return row


async def _key_out(connection: AsyncConnection, node_key: bytes, now: float) -> None:
    there = select(revoked_keys.c.node_key).where(revoked_keys.c.node_key == node_key)
    if (await connection.scalars(there)).first() is None:
        await connection.execute(insert(revoked_keys).values(node_key=node_key, at=now))
