"""`shore nodes` against a server that runs, and what the nodes hear of it."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.coordination.node import Node, invited, join, linked

from shore.cli.main import main
from shore.wire import control


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["nodes", *words])


async def named(name: str) -> dict[str, Any]:
    listed = json.loads((await run("list", "--json")).output)
    (node,) = (node for node in listed["nodes"] if node["name"] == name)
    return node


async def removed(node: Node, node_key: bytes) -> control.Delta:
    change = await node.hear(control.Delta)
    while f"peer:{node_key.hex()}" not in change.removed:
        change = await node.hear(control.Delta)
    return change


async def test_a_revoked_node_is_out_for_peers_and_relays_at_once(server: Path) -> None:
    relay_key = Ed25519PrivateKey.from_private_bytes((server / "relay" / "machine.key").read_bytes())
    async with linked(server) as one, linked(server) as two, linked(server, relay_key) as relay:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        await relay.hello("relay")
        assert (await relay.hear(control.Admitting)).revoked == ()
        assert (await run("revoke", "two")).output == "two is out\n"
        await removed(one, two.node_key)
        assert (await relay.hear(control.Admitting)).revoked == (two.node_key,)
        assert (await two.hear(control.StandingIs)).standing == "revoked"
        assert (await named("two"))["standing"] == "revoked"
    async with linked(server, two.key, two.node_key) as back:
        assert await back.hello() == "revoked"
        await back.present()
        assert (await back.hear(control.Refused)).code == "role"


async def test_a_node_that_waits_is_told_when_it_is_approved(server: Path) -> None:
    database = sqlite3.connect(server / "server" / "server.db", isolation_level=None)
    database.execute("UPDATE networks SET approval = 1")
    database.close()
    async with linked(server) as node:
        assert await node.hello() == "unknown"
        assert await node.enrol(await invited(server), "one") == "pending"
        await node.present()
        assert (await node.hear(control.Refused)).code == "role"
        assert (await run("approve", "one")).output == "one is a member\n"
        assert (await node.hear(control.StandingIs)).standing == "member"
        await node.present()
        await node.hear(control.NetmapIs)


async def test_a_node_whose_key_expired_comes_with_another(server: Path) -> None:
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        old = two.node_key
        assert (await run("expire", "two")).exit_code == 0
        await removed(one, old)
        assert (await two.hear(control.StandingIs)).standing == "expired"
        await two.present()
        assert (await two.hear(control.Refused)).code == "key"
        two.node_key = b"n" * 32
        await two.present()
        await two.hear(control.NetmapIs)
        change = await one.hear(control.Delta)
        assert f"peer:{two.node_key.hex()}" in change.changed
        assert (await named("two"))["standing"] == "member"


async def test_a_name_is_a_label_and_held_once(server: Path) -> None:
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        assert (await run("rename", "two", "attic")).output == "two is attic now\n"
        change = await one.hear(control.Delta)
        while b"attic" not in b"".join(change.changed.values()):
            change = await one.hear(control.Delta)
        for new in ("one", "a b", "A", "-", "x\n"):
            refused = await run("rename", "attic", new)
            assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert (await run("revoke", "nobody")).stderr == 'shore: no node is called "nobody"\n'
        assert (await named("attic"))["online"]


async def test_the_relay_has_no_node_key_that_could_expire(server: Path) -> None:
    refused = await run("expire", "relay-1")
    assert (refused.exit_code, refused.stderr) == (1, "shore: relay-1 is a relay, which has no node key\n")
    assert "relay-1  member  offline  owner  relay\n" in (await run("list")).output
