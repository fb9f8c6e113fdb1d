"""Dialogues of a further relay with a server that runs: it comes by a token of its own kind, and goes."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from tests.coordination.node import Node, join, linked
from websockets.exceptions import ConnectionClosed

from shore.coordination.repository import Invitation, Repository
from shore.io import serverapi
from shore.model.netmap import Admission, Relay
from shore.wire import control, signing
from shore.wire.token import secret_hash

PLACES = (("198.51.100.9:443",), ("198.51.100.9:3478",))
PIN = bytes(range(32))


async def invited(state: Path, role: str) -> bytes:
    """The secret of a new token of this role."""
    repository = Repository(f"sqlite+aiosqlite:///{state}/server/server.db")
    invitation = msgspec.convert({"lifetime_s": None, "role": role}, Invitation)
    made = await repository.invite(invitation, "root", 0.0)
    await repository.close()
    return made


async def offered(relay: Node, state: Path, name: str = "second") -> None:
    """Become a relay, and tell where."""
    assert await relay.hello("relay") == "unknown"
    assert await relay.enrol(await invited(state, "relay"), name) == "member"
    await relay.hear(control.Admitting)
    await relay.say(control.Offering(*PLACES, PIN))


async def delta_of(node: Node, record: str) -> control.Delta:
    """The next delta that has to do with a record."""
    while True:
        delta = await node.hear(control.Delta)
        if record in (*delta.changed, *delta.removed):
            return delta


async def test_a_relay_that_came_by_its_token_is_told_to_all_who_are_admitted_to_it(server: Path) -> None:
    async with linked(server) as node, linked(server, node_key=control.NO_NODE_KEY) as relay:
        await join(node, server, "one")
        assert list((await node.hear(control.Admissions)).admissions) == ["relay-1"]
        await offered(relay, server)
        delta = await delta_of(node, "relay:second")
        shown = msgspec.msgpack.decode(delta.changed["relay:second"], type=Relay)
        assert shown == Relay("second", PIN, *PLACES)
        admissions = (await node.hear(control.Admissions)).admissions
        assert sorted(admissions) == ["relay-1", "second"]
        admission = signing.unseal(admissions["second"], signing.ADMISSION, Admission)
        assert (admission.relay, admission.node_key) == (PIN, node.node_key)


async def test_a_relay_keeps_the_pin_that_it_was_first_known_by(server: Path) -> None:
    async with linked(server) as node, linked(server, node_key=control.NO_NODE_KEY) as relay:
        await join(node, server, "one")
        await offered(relay, server)
        await delta_of(node, "relay:second")
        await relay.say(control.Offering(("203.0.113.9:443",), (), bytes(32)))
        moved = await delta_of(node, "relay:second")
        shown = msgspec.msgpack.decode(moved.changed["relay:second"], type=Relay)
        assert shown == Relay("second", PIN, ("203.0.113.9:443",))


async def test_a_relay_that_is_revoked_is_removed_from_netmaps_and_its_link_ends(server: Path) -> None:
    async with linked(server) as node, linked(server, node_key=control.NO_NODE_KEY) as relay:
        await join(node, server, "one")
        await offered(relay, server)
        await delta_of(node, "relay:second")
        await asyncio.to_thread(serverapi.ask, "POST", "/api/v1/nodes/second/revoke")
        assert (await relay.hear(control.StandingIs)).standing == "revoked"
        with pytest.raises(ConnectionClosed):
            await relay.hear(control.StandingIs)
        assert (await delta_of(node, "relay:second")).removed == ("relay:second",)
        async with linked(server, relay.key, control.NO_NODE_KEY) as again:
            assert await again.hello("relay") == "revoked"
            await again.say(control.Offering(*PLACES, PIN))
        async with linked(server) as later:
            assert "relay:second" not in (await join(later, server, "two")).records


@pytest.mark.parametrize(("role", "kind"), [("relay", "node"), ("node", "relay")])
async def test_a_token_lets_in_its_own_kind_alone(server: Path, role: control.Membership, kind: str) -> None:
    secret = await invited(server, kind)
    node_key = control.NO_NODE_KEY if role == "relay" else os.urandom(32)
    async with linked(server, node_key=node_key) as wrong:
        assert await wrong.hello(role) == "unknown"
        content = control.enrol_content(wrong.nonce, secret_hash(secret), node_key, "x")
        said = control.Enrol(secret, node_key, "x", signing.sign(wrong.key, signing.ENROL, content))
        await wrong.say(said)
        refused = await wrong.hear(control.Refused)
        assert (refused.code, f"lets in a {kind}, not a {role}" in refused.reason) == ("token", True)
    # It was not spent.
    right_key = control.NO_NODE_KEY if kind == "relay" else os.urandom(32)
    async with linked(server, node_key=right_key) as right:
        assert await right.hello("relay" if kind == "relay" else "node") == "unknown"
        assert await right.enrol(secret, "y") == "member"
