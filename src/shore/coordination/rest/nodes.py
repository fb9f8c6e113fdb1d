"""Nodes: listed, approved, revoked, renamed, made to draw another key, and what they may lead to."""

from collections.abc import Awaitable
from typing import Any

import msgspec
from sqlalchemy import Row

from shore.coordination.mesh import Mesh
from shore.coordination.names import valid_name
from shore.coordination.repository import Repository
from shore.coordination.rest.route import Asked, Route, wrong
from shore.coordination.roll import NotChanged, standing
from shore.core.consent import unfit
from shore.model.netmap import NODE_RANGE_V4
from shore.wire.server import Nodes, NodeShown, Rename, Routes


async def list_nodes(asked: Asked) -> Nodes:
    """List the nodes, those that are out included."""
    rows = await asked.mesh.repository.roll.nodes()
    by_token = await _token_prefixes(asked.mesh.repository)
    return Nodes(tuple(_shown(row, by_token, asked.mesh, asked.now) for row in rows))


async def approve_node(asked: Asked) -> NodeShown:
    """Let in a node that waits for it."""
    return await _changed(asked, asked.mesh.repository.roll.approve(*_who(asked)))


async def revoke_node(asked: Asked) -> NodeShown:
    """Put a node out, for good: peers and relays are told at once."""
    row = await _found(asked, asked.mesh.repository.roll.revoke(*_who(asked)))
    asked.mesh.out(row, asked.now)
    return await _show(asked, row)


async def expire_node(asked: Asked) -> NodeShown:
    """Have a node draw another key; the one that it has counts no more."""
    return await _changed(asked, asked.mesh.repository.roll.expire(*_who(asked)))


async def rename_node(asked: Asked) -> NodeShown:
    """Call a node otherwise."""
    said: Rename = asked.body
    if not valid_name(said.name):
        raise wrong(422, "a name has small letters, digits and hyphens, at most 63")
    name, who, now = _who(asked)
    return await _changed(asked, asked.mesh.repository.roll.rename(name, said.name, who, now))


async def route_node(asked: Asked) -> NodeShown:
    """Say which prefixes beyond its addresses a node may lead to, and which no longer."""
    said: Routes = asked.body
    ranges = (NODE_RANGE_V4, asked.mesh.founded.range_v6)
    for prefix in said.approve:
        if (why := unfit(prefix, ranges)) is not None:
            raise wrong(422, why)
    name, who, now = _who(asked)
    return await _changed(asked, asked.mesh.repository.roll.lead(name, said.approve, said.revoke, who, now))


def _who(asked: Asked) -> tuple[str, str, float]:
    return asked.path["name"], asked.who, asked.now


async def _changed(asked: Asked, change: Awaitable[Row[Any]]) -> NodeShown:
    row = await _found(asked, change)
    asked.mesh.changed(row, asked.now)
    return await _show(asked, row)


async def _found(asked: Asked, change: Awaitable[Row[Any]]) -> Row[Any]:
    try:
        return await change
    except KeyError:
        raise wrong(404, f"no node is called {msgspec.json.encode(asked.path['name']).decode()}") from None
    except NotChanged as error:
        raise wrong(409, str(error)) from None


async def _show(asked: Asked, row: Row[Any]) -> NodeShown:
    return _shown(row, await _token_prefixes(asked.mesh.repository), asked.mesh, asked.now)


async def _token_prefixes(repository: Repository) -> dict[int, str]:
    return {row.id: row.prefix for row in await repository.tokens()}


def _shown(row: Row[Any], by_token: dict[int, str], mesh: Mesh, now: float) -> NodeShown:
    return NodeShown(
        name=row.name,
        role=row.role,
        standing=standing(row, now),
        online=mesh.is_online(row.id),
        addresses=tuple(address for address in (row.v4, row.v6) if address is not None),
        user=row.user,
        tags=tuple(row.tags),
        node_key=row.node_key,
        token=by_token.get(row.token),
        ephemeral=row.ephemeral,
        enrolled_at=row.enrolled_at,
        expires_at=row.expires_at,
        advertised=tuple(row.advertised),
        approved=tuple(row.prefixes),
    )


ROUTES = (
    Route("GET", "/nodes", "read", list_nodes, Nodes),
    Route("POST", "/nodes/{name}/approve", "write", approve_node, NodeShown),
    Route("POST", "/nodes/{name}/revoke", "write", revoke_node, NodeShown),
    Route("POST", "/nodes/{name}/expire", "write", expire_node, NodeShown),
    Route("POST", "/nodes/{name}/rename", "write", rename_node, NodeShown, Rename),
    Route("POST", "/nodes/{name}/routes", "write", route_node, NodeShown, Routes),
)
