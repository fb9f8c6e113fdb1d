"""Dialogues of nodes with a server that runs: keys that are replaced, nodes that leave."""

import asyncio
import os
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.coordination.node import invited, join, linked
from websockets.exceptions import ConnectionClosed

from shore.coordination import link
from shore.model.netmap import Head, Relay, Self
from shore.wire import control, signing
from shore.wire.token import secret_hash


async def test_a_relay_has_one_id_everywhere(server: Path) -> None:
    async with linked(server) as node:
        whole = await join(node, server, "one")
        admissions = (await node.hear(control.Admissions)).admissions
        relay = msgspec.msgpack.decode(whole.records["relay:relay-1"], type=Relay)
        assert list(admissions) == [relay.id] == ["relay-1"]


async def test_an_address_is_drawn_past_what_is_in_use_around_who_joins(server: Path) -> None:
    avoid = ("100.64.0.0/11", "100.96.0.0/12", "100.64.0.0/10", "nonsense")
    async with linked(server) as node:
        await node.hello()
        secret = await invited(server)
        content = control.enrol_content(node.nonce, secret_hash(secret), node.node_key, "one")
        signature = signing.sign(node.key, signing.ENROL, content)
        await node.say(control.Enrol(secret, node.node_key, "one", signature, avoid))
        await node.hear(control.StandingIs)
        await node.present()
        itself = msgspec.msgpack.decode((await node.hear(control.NetmapIs)).records["self"], type=Self)
    assert ip_address(itself.addresses[0]) in ip_network("100.112.0.0/12")


async def test_a_new_node_key_replaces_the_old_for_all(server: Path) -> None:
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        old, two.node_key = two.node_key, os.urandom(32)
        await two.present()
        itself = await two.hear(control.NetmapIs)
        while msgspec.msgpack.decode(itself.records["self"], type=Self).node_key == old:
            itself = control.NetmapIs(itself.head, (await two.hear(control.Delta)).changed)
        change = await one.hear(control.Delta)
        while f"peer:{old.hex()}" not in change.removed:
            change = await one.hear(control.Delta)
        assert f"peer:{two.node_key.hex()}" in change.changed
        two.node_key = old
        await two.present()
        assert (await two.hear(control.Refused)).code == "key"
        two.node_key = one.node_key
        await two.present()
        assert (await two.hear(control.Refused)).code == "key"


async def test_who_holds_the_newest_is_told_admissions_alone(server: Path) -> None:
    async with linked(server) as node:
        whole = await join(node, server, "one")
        await node.hear(control.Admissions)
        head = signing.unseal(whole.head, signing.NETMAP, Head)
        node.said.clear()
        await node.present((head.epoch, head.version))
        await node.hear(control.Admissions)
        assert node.said == []
        await node.present((0, 0))
        assert (await node.hear(control.NetmapIs)).records == whole.records


async def test_who_leaves_is_removed_and_may_come_again(server: Path) -> None:
    key = Ed25519PrivateKey.generate()
    async with linked(server) as one, linked(server, key) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        await two.leave()
        assert (await two.hear(control.StandingIs)).standing == "unknown"
        change = await one.hear(control.Delta)
        while f"peer:{two.node_key.hex()}" not in change.removed:
            change = await one.hear(control.Delta)
        with pytest.raises((ConnectionClosed, TimeoutError)):
            await two.hear(control.NetmapIs)
    async with linked(server, key) as again:
        await join(again, server, "two")


async def test_nobody_leaves_for_another(server: Path) -> None:
    async with linked(server) as one:
        await join(one, server, "one")
        other = signing.sign(Ed25519PrivateKey.generate(), signing.LEAVE, one.nonce)
        await one.say(control.Leave(other))
        assert (await one.hear(control.Refused)).code == "signature"


async def test_nobody_finishes_the_enrolment_of_another_and_its_token_stays_whole(server: Path) -> None:
    secret = await invited(server)
    async with linked(server) as one:
        assert await one.hello() == "unknown"
        content = control.enrol_content(one.nonce, secret_hash(secret), one.node_key, "one")
        other = signing.sign(Ed25519PrivateKey.generate(), signing.ENROL, content)
        await one.say(control.Enrol(secret, one.node_key, "one", other))
        assert (await one.hear(control.Refused)).code == "signature"
        swapped = signing.sign(one.key, signing.ENROL, content)
        await one.say(control.Enrol(secret, os.urandom(32), "one", swapped))
        assert (await one.hear(control.Refused)).code == "signature"
        assert await one.enrol(secret, "one") == "member"


async def test_a_newer_link_of_the_same_machine_ends_the_older(server: Path) -> None:
    async with linked(server) as old:
        await join(old, server, "one")
        async with linked(server, old.key, old.node_key) as new:
            assert await new.hello() == "member"
            with pytest.raises(ConnectionClosed):
                await old.hear(control.Refused)
            await new.present()
            await new.hear(control.NetmapIs)


async def test_a_node_is_no_relay(server: Path) -> None:
    async with linked(server) as node:
        await join(node, server, "one")
        async with linked(server, node.key) as posing:
            await posing.greet("relay")
            assert (await posing.hear(control.Refused)).code == "role"
            assert posing.said == []


async def test_a_relay_becomes_no_node(server: Path) -> None:
    seed = (server / "relay" / "machine.key").read_bytes()
    async with linked(server) as node:
        await join(node, server, "one")
        async with linked(server, Ed25519PrivateKey.from_private_bytes(seed)) as posing:
            await posing.greet("node")
            assert (await posing.hear(control.Refused)).code == "role"
            await posing.present()
            assert (await posing.hear(control.Refused)).code == "role"
            assert posing.said == []


async def test_a_node_is_not_told_what_relays_are_after_its_hello_was_refused(server: Path) -> None:
    async with linked(server) as node:
        await join(node, server, "one")
        async with linked(server, node.key, bytes(32)) as posing:
            await posing.greet("relay")
            assert (await posing.hear(control.Refused)).code == "role"
            await posing.present()
            assert (await posing.hear(control.Refused)).code == "role"
            assert posing.said == []


async def test_the_relay_is_told_whom_to_let_in_as_soon_as_it_is_known(server: Path) -> None:
    seed = (server / "relay" / "machine.key").read_bytes()
    async with linked(server, Ed25519PrivateKey.from_private_bytes(seed)) as relay:
        assert await relay.hello("relay") == "member"
        assert (await relay.hear(control.Admitting)).revoked == ()
        async with linked(server) as node:
            await join(node, server, "one")
            await node.leave()
            async with asyncio.timeout(5):
                assert (await relay.hear(control.Admitting)).revoked == (node.node_key,)


async def test_who_does_not_say_who_it_is_may_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELLO_WITHIN_S", 0.05)
    founded = SimpleNamespace(pin=bytes(32), root=bytes(32), statements=())
    mesh, socket = Mock(founded=founded), AsyncMock()

    async def pings() -> bytes:
        return await asyncio.sleep(0.01, control.encode(control.Ping(1)))

    socket.receive_bytes = Mock(side_effect=pings)
    async with asyncio.timeout(5):
        await link.Link(socket, mesh).live()
    assert socket.receive_bytes.call_count > 1
