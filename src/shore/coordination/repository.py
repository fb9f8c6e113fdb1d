"""What is written down: tokens and who was enrolled with them.

A token is spent by an UPDATE that finds it unspent, in the transaction that makes the node, so of many that
come at once one wins on any database, and where the rest of the enrolment fails the token is whole again.
"""

import secrets
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

import msgspec
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shore.coordination import names
from shore.coordination.database import Database
from shore.coordination.keyring import Keyring
from shore.coordination.roll import Roll, is_key_known, note, put_out
from shore.coordination.schema import networks, nodes, policies, relays, tokens
from shore.wire.token import secret_hash, secret_prefix


class NotEnrolled(Exception):
    """Why not, in one sentence."""


class Invitation(msgspec.Struct, frozen=True):
    """What a token gives to who comes with it."""

    user: str = "owner"
    tags: tuple[str, ...] = ()
    reusable: bool = False
    ephemeral: bool = False
    lifetime_s: float | None = 3600.0
    role: Literal["node", "relay"] = "node"


class Repository:
    """What a database holds; `roll` has the members, `keyring` the keys to the REST API."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.roll = Roll(self.database)
        self.keyring = Keyring(self.database)

    async def close(self) -> None:
        """Let go of the database."""
        await self.database.close()

    async def invite(self, invitation: Invitation, who: str, now: float) -> bytes:
        """Make a token; its secret, which is nowhere kept."""
        secret = secrets.token_bytes(32)
        lifetime = invitation.lifetime_s
        row = {
            "hash": secret_hash(secret),
            "prefix": secret_prefix(secret),
            "user": invitation.user,
            "tags": list(invitation.tags),
            "reusable": invitation.reusable,
            "ephemeral": invitation.ephemeral,
            "role": invitation.role,
            "created_at": now,
            "expires_at": None if lifetime is None else now + lifetime,
        }
        async with self.database.writing() as connection:
            await connection.execute(tokens.insert().values(row))
            await note(connection, now, who, "invited", str(row["prefix"]))
        return secret

    async def tokens(self) -> Sequence[Row[Any]]:
        """All of them, newest first."""
        async with self.database.reading() as connection:
            return (await connection.execute(select(tokens).order_by(tokens.c.id.desc()))).all()

    async def prefix_of(self, secret: bytes) -> str | None:
        """The prefix of the token that has this secret, whatever became of it."""
        async with self.database.reading() as connection:
            found = await connection.scalar(
                select(tokens.c.prefix).where(tokens.c.hash == secret_hash(secret))
            )
            return None if found is None else str(found)

    async def revoke_token(self, prefix: str, with_nodes: bool, who: str, now: float) -> tuple[Row[Any], ...]:
        """Nobody comes in with it any more; the nodes that are out with it."""
        async with self.database.writing() as connection:
            found = (await connection.scalars(select(tokens.c.id).where(tokens.c.prefix == prefix))).all()
            if not found:
                raise KeyError(prefix)
            ended = update(tokens).where(tokens.c.id.in_(found), tokens.c.revoked_at.is_(None))
            await connection.execute(ended.values(revoked_at=now))
            await note(connection, now, who, "revoked token", prefix)
            if not with_nodes:
                return ()
            theirs = select(nodes.c.id).where(nodes.c.token.in_(found), nodes.c.revoked_at.is_(None))
            numbers = (await connection.scalars(theirs)).all()
            return tuple([await put_out(connection, number, now) for number in numbers])

    async def policy(self) -> str:
        """The file in force."""
        async with self.database.reading() as connection:
            last = select(policies.c.text).order_by(policies.c.id.desc()).limit(1)
            return (await connection.scalar(last)) or "{}"

    async def save_policy(self, text: str, who: str, now: float) -> None:
        """Keep what is in force from now, beside what was."""
        async with self.database.writing() as connection:
            row = {"text": text, "saved_at": now, "saved_by": who[:63]}
            await connection.execute(policies.insert().values(row))
            await note(connection, now, who, "set the policy", "")

    async def enrol(
        self,
        machine_key: bytes,
        node_key: bytes,
        secret: bytes,
        name: str,
        now: float,
        *,
        avoid: Collection[IPv4Network] = (),
    ) -> Row[Any]:
        """Spend the token and make the node, or neither; nothing is verified here. Raises NotEnrolled.

        Its address is in none of `avoid`.
        """
        async with self.database.writing() as connection:
            token = await _spend(connection, secret, "node", now)
            await _refuse_known(connection, machine_key, node_key)
            network = (await connection.execute(select(networks))).one()
            taken = (await connection.execute(select(nodes.c.name, nodes.c.v4))).all()
            try:
                v4 = names.draw_v4({row.v4 for row in taken}, secrets.randbelow, avoid)
                given = names.unique(names.label(name), {row.name for row in taken})
            except names.NoRoom as error:
                raise NotEnrolled(str(error)) from None
            lifetime = None if token.tags else network.node_key_lifetime_s
            row = {
                "machine_key": machine_key,
                "node_key": node_key,
                "role": "node",
                "name": given,
                "v4": str(v4),
                "v6": str(names.v6_of(v4, IPv6Network(network.range_v6))),
                "user": token.user,
                "tags": token.tags,
                "prefixes": [],
                "token": token.id,
                "ephemeral": token.ephemeral,
                "enrolled_at": now,
                "expires_at": None if lifetime is None else now + lifetime,
                "approved_at": None if network.approval else now,
            }
            made: Row[Any] = (await connection.execute(nodes.insert().values(row).returning(nodes))).one()
            await note(connection, now, given, "enrolled", token.prefix)
            return made

    async def enrol_relay(self, machine_key: bytes, secret: bytes, name: str, now: float) -> Row[Any]:
        """The same for a relay, which has neither node key nor addresses here. Raises NotEnrolled."""
        async with self.database.writing() as connection:
            token = await _spend(connection, secret, "relay", now)
            await _refuse_known(connection, machine_key, None)
            network = (await connection.execute(select(networks))).one()
            taken = set((await connection.scalars(select(nodes.c.name))).all())
            taken |= set((await connection.scalars(select(relays.c.id))).all())
            given = names.unique(names.label(name), taken)
            row = {
                "machine_key": machine_key,
                "role": "relay",
                "name": given,
                "user": token.user,
                "tags": token.tags,
                "prefixes": [],
                "token": token.id,
                "ephemeral": False,
                "enrolled_at": now,
                "approved_at": None if network.approval else now,
            }
            made: Row[Any] = (await connection.execute(nodes.insert().values(row).returning(nodes))).one()
            await note(connection, now, given, "enrolled as a relay", token.prefix)
            return made


async def _spend(connection: AsyncConnection, secret: bytes, role: str, now: float) -> Row[Any]:
    this = tokens.c.hash == secret_hash(secret)
    fresh = tokens.c.reusable | tokens.c.spent_at.is_(None)
    alive = tokens.c.expires_at.is_(None) | (tokens.c.expires_at > now)
    whole = (fresh, alive, tokens.c.revoked_at.is_(None), tokens.c.role == role)
    spending = update(tokens).where(this, *whole).values(spent_at=now).returning(tokens)
    token: Row[Any] | None = (await connection.execute(spending)).one_or_none()
    if token is None:
        found = (await connection.execute(select(tokens).where(this))).one_or_none()
        raise NotEnrolled(_why_not(found, role, now))
    return token


def _why_not(token: Row[Any] | None, role: str, now: float) -> str:
    if token is None:
        return "this network does not know that token"
    if token.role != role:
        command = "shore up --join" if token.role == "node" else "shore relay --join"
        return f"this token lets in a {token.role}, not a {role}: `{command}`"
    if token.revoked_at is not None:
        return "this token was revoked"
    if token.expires_at is not None and token.expires_at <= now:
        return "this token has expired: ask for a new one (`shore invite`)"
    return "this token was used before: ask for a new one (`shore invite`)"


async def _refuse_known(connection: AsyncConnection, machine_key: bytes, node_key: bytes | None) -> None:
    if (await connection.scalars(select(nodes.c.id).where(nodes.c.machine_key == machine_key))).first():
        raise NotEnrolled("this machine is enrolled already")
    if node_key is not None and await is_key_known(connection, node_key):
        raise NotEnrolled("this node key belongs to another, or was revoked")
