"""Keys to this API. They are made over the local socket alone: a key makes no keys."""

import msgspec

from shore.coordination.keyring import prefix_of
from shore.coordination.rest.route import Asked, Route, wrong
from shore.wire.server import KeyAsk, KeyMade, Keys, KeyShown


async def make_key(asked: Asked) -> KeyMade:
    """Make a key, which is shown once."""
    said: KeyAsk = asked.body
    key = await asked.mesh.repository.keyring.make(said.right, said.note, asked.who, asked.now)
    return KeyMade(key, prefix_of(key))


async def list_keys(asked: Asked) -> Keys:
    """List the keys, newest first."""
    rows = await asked.mesh.repository.keyring.keys()
    return Keys(
        tuple(
            KeyShown(row.prefix, row.scope, row.note, row.created_at, row.revoked_at is not None)
            for row in rows
        )
    )


async def revoke_key(asked: Asked) -> KeyShown:
    """Let nobody in by this key any more."""
    prefix = asked.path["prefix"]
    try:
        await asked.mesh.repository.keyring.revoke(prefix, asked.who, asked.now)
    except KeyError:
        raise wrong(404, f"no key begins with {msgspec.json.encode(prefix).decode()}") from None
    (shown,) = [key for key in (await list_keys(asked)).keys if key.prefix == prefix][:1]
    return shown


ROUTES = (
    Route("GET", "/keys", "root", list_keys, Keys),
    Route("POST", "/keys", "root", make_key, KeyMade, KeyAsk),
    Route("DELETE", "/keys/{prefix}", "root", revoke_key, KeyShown),
)
