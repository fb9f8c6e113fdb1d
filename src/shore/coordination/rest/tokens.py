"""Join tokens: made, listed, revoked."""

from typing import Any

import msgspec
from sqlalchemy import Row

from shore.coordination.repository import Invitation
from shore.coordination.rest.route import Asked, Route, wrong
from shore.wire.server import Invite, Invited, Out, Tokens, TokenShown, TokenState
from shore.wire.signing import fingerprint
from shore.wire.token import Token, secret_prefix, token_text


async def invite(asked: Asked) -> Invited:
    """Make a join token, which is shown once."""
    said: Invite = asked.body
    tags = tuple(tag.removeprefix("tag:") for tag in said.tags)
    invitation = Invitation(said.user, tags, said.reusable, said.ephemeral, said.lifetime_s, said.role)
    secret = await asked.mesh.repository.invite(invitation, asked.who, asked.now)
    founded = asked.mesh.founded
    token = token_text(Token(founded.addresses, fingerprint(founded.root), secret))
    expires_at = None if said.lifetime_s is None else asked.now + said.lifetime_s
    return Invited(token, secret_prefix(secret), expires_at)


async def list_tokens(asked: Asked) -> Tokens:
    """List the join tokens, newest first."""
    rows = await asked.mesh.repository.tokens()
    return Tokens(tuple(_shown(row, asked.now) for row in rows))


async def revoke_token(asked: Asked) -> Out:
    """Let nobody in by this token any more, and with `with_nodes` put out who came by it."""
    prefix, with_nodes = asked.path["prefix"], asked.query.get("with_nodes", "").lower() in ("true", "1")
    try:
        rows = await asked.mesh.repository.revoke_token(prefix, with_nodes, asked.who, asked.now)
    except KeyError:
        raise wrong(404, f"no token begins with {msgspec.json.encode(prefix).decode()}") from None
    for row in rows:
        asked.mesh.out(row, asked.now)
    return Out(tuple(row.name for row in rows))


def _shown(row: Row[Any], now: float) -> TokenShown:
    state: TokenState = "open"
    if row.revoked_at is not None:
        state = "revoked"
    elif row.spent_at is not None and not row.reusable:
        state = "spent"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    return TokenShown(
        row.prefix,
        state,
        row.user,
        tuple(row.tags),
        row.reusable,
        row.ephemeral,
        row.created_at,
        row.expires_at,
        row.role,
    )


ROUTES = (
    Route("GET", "/tokens", "read", list_tokens, Tokens),
    Route("POST", "/tokens", "write", invite, Invited, Invite),
    Route("DELETE", "/tokens/{prefix}", "write", revoke_token, Out, query=("with_nodes",)),
)
