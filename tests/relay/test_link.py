"""The relay's link to the coordination server, against a small server of this test."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.relay.network import Network, Node, running
from websockets.asyncio.server import ServerConnection, unix_serve

from shore.lab.relayed import NETWORK
from shore.model.relay import RelayConfig
from shore.relay.link import NotOurs, ServerLink
from shore.wire import control, relay, signing

A, B = bytes([1] * 32), bytes([2] * 32)


async def test_who_is_revoked_leaves_at_once_and_stays_out_without_the_server(tmp_path: Path) -> None:
    network = Network(tmp_path)
    machine = Ed25519PrivateKey.generate()
    (tmp_path / "machine.key").write_bytes(machine.private_bytes_raw())
    config = network.config(addresses=("192.0.2.1:443",), udp_addresses=("192.0.2.1:3478",))
    nonce, offered, revoke = os.urandom(32), asyncio.Event(), asyncio.Event()

    async def serve(socket: ServerConnection) -> None:
        root = signing.public_of(network.root)
        await socket.send(control.encode(control.Challenge((1,), nonce, root, ())))
        hello = control.from_node(await socket.recv(decode=False))
        content = control.hello_content(nonce, network.pin, "relay", 1)
        signature = signing.sign(machine, signing.HELLO, content)
        assert hello == control.Hello(signing.public_of(machine), signature, "relay")
        await socket.send(control.encode(control.StandingIs(NETWORK, "member", 0)))
        offering = control.from_node(await socket.recv(decode=False))
        assert offering == control.Offering(config.addresses, config.udp_addresses, config.pin)
        offered.set()
        await revoke.wait()
        await socket.send(control.encode(control.Admitting(root, NETWORK, config.statements, (A,))))
        await socket.wait_closed()

    path = str(tmp_path / "server.sock")
    more = {"addresses": config.addresses, "udp_addresses": config.udp_addresses, "server_socket": path}
    async with unix_serve(serve, path, subprotocols=[control.SUBPROTOCOL]):  # type: ignore[list-item]
        with running(network, **more) as relayed:
            await asyncio.wait_for(offered.wait(), 5)
            a, b = Node(relayed.port, A), Node(relayed.port, B)
            a.admitted(network)
            b.admitted(network)
            revoke.set()
            assert await asyncio.to_thread(a.hear) == (relay.REFUSED, b"this node was revoked")
            b.say(relay.PING, b"12345678")
            assert b.hear() == (relay.PONG, b"12345678")
    kept = msgspec.json.decode((tmp_path / "relay.json").read_bytes(), type=RelayConfig)
    assert kept.revoked == (A,)


def test_a_server_that_the_root_key_does_not_name_hears_nothing_of_the_relay(tmp_path: Path) -> None:
    network, key = Network(tmp_path), Ed25519PrivateKey.generate()
    config = network.config(server_addresses=("192.0.2.1:443",))
    link = ServerLink(tmp_path, config, lambda _config: None)
    named = (network.statement("server", network.pin),)
    challenge = control.Challenge((1,), bytes(32), config.root, named)
    with pytest.raises(NotOurs, match="not the server that the network's root key names"):
        link._hello(challenge, key, bytes(32))
    said = link._hello(challenge, key, network.pin)
    content = control.hello_content(bytes(32), network.pin, "relay", 1)
    assert signing.is_signed(said.machine_key, signing.HELLO, content, said.signature)


def test_a_relay_whose_link_to_the_server_fails_goes_on_and_says_so(tmp_path: Path) -> None:
    network = Network(tmp_path)
    (tmp_path / "machine.key").write_bytes(b"no key")
    with running(network, server_socket=str(tmp_path / "nowhere.sock")) as relayed:
        Node(relayed.port, A).admitted(network)
        assert relayed.metrics()['shore_relay_failures_total{part="link to the server"}'] == 1
        assert relayed.terminate() == 0
