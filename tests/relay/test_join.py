"""Becoming a further relay, by a small server of this test over TLS: who is believed, and what is left."""

import asyncio
import hashlib
import os
import ssl
from pathlib import Path

import msgspec
import pytest
from tests.relay.network import Network
from websockets.asyncio.server import ServerConnection, serve

from shore.lab.relayed import NETWORK
from shore.model.relay import RelayConfig
from shore.relay.join import NotJoined, Plan, join
from shore.wire import control, signing
from shore.wire.token import Token, secret_hash

SECRET = bytes(range(32))


class Server:
    """Says `standing` to who spent the token, or refuses it."""

    def __init__(self, network: Network, standing: str | None) -> None:
        self.network, self.standing = network, standing
        self.offered: list[control.Offering] = []
        network.write(network.config())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(network.directory / "tls.crt", network.directory / "tls.key")

    async def talk(self, socket: ServerConnection) -> None:
        network, nonce = self.network, os.urandom(32)
        root = signing.public_of(network.root)
        statements = (network.statement("server", network.pin),)
        await socket.send(control.encode(control.Challenge((1,), nonce, root, statements)))
        hello = control.from_node(await socket.recv(decode=False))
        assert isinstance(hello, control.Hello)
        content = control.hello_content(nonce, network.pin, "relay", 1)
        assert signing.is_signed(hello.machine_key, signing.HELLO, content, hello.signature)
        await socket.send(control.encode(control.StandingIs(NETWORK, "unknown", 0)))
        said = control.from_node(await socket.recv(decode=False))
        assert isinstance(said, control.Enrol)
        content = control.enrol_content(nonce, secret_hash(SECRET), control.NO_NODE_KEY, "second")
        assert signing.is_signed(hello.machine_key, signing.ENROL, content, said.signature)
        if self.standing is None:
            await socket.send(control.encode(control.Refused("token", "this token was revoked")))
        else:
            standing = msgspec.convert(self.standing, control.Standing)
            await socket.send(control.encode(control.StandingIs(NETWORK, standing, 0)))
        await socket.wait_closed()


async def tried(tmp_path: Path, server: Server, fingerprint: bytes | None = None) -> tuple[Path, str]:
    """Where the state is, and what became of a join there. Raises NotJoined."""
    state = tmp_path / "state"
    root = fingerprint or signing.fingerprint(signing.public_of(server.network.root))
    protocols = [control.SUBPROTOCOL]
    async with serve(server.talk, "127.0.0.1", 0, ssl=server.context, subprotocols=protocols) as serving:  # type: ignore[arg-type]
        port = next(iter(serving.sockets)).getsockname()[1]
        token = Token((f"127.0.0.1:{port}",), root, SECRET)
        plan = Plan("second", ("198.51.100.9", "2001:db8::9"), 8443, 3478, 10)
        return state, await join(state, token, plan)


@pytest.mark.parametrize("standing", ["member", "pending"])
async def test_a_relay_starts_from_what_a_join_leaves(tmp_path: Path, standing: str) -> None:
    network = Network(tmp_path)
    state, said = await tried(tmp_path, Server(network, standing))
    assert said == standing
    assert sorted(os.listdir(state / "relay")) == ["machine.key", "relay.json", "tls.crt", "tls.key"]
    config = msgspec.json.decode((state / "relay" / "relay.json").read_bytes(), type=RelayConfig)
    assert (config.root, config.network) == (signing.public_of(network.root), NETWORK)
    assert config.addresses == ("198.51.100.9:8443", "[2001:db8::9]:8443")
    assert config.udp_addresses == ("198.51.100.9:3478", "[2001:db8::9]:3478")
    assert (config.port, config.stun_port, config.server_socket) == (8443, 3478, None)
    assert config.server_addresses[0].startswith("127.0.0.1:")
    assert config.pin != network.pin


async def test_a_token_of_another_network_is_not_spent_here(tmp_path: Path) -> None:
    other = hashlib.sha256(b"another root").digest()
    with pytest.raises(NotJoined, match="another network's than the token's"):
        await tried(tmp_path, Server(Network(tmp_path), "member"), other)
    assert os.listdir(tmp_path / "state") == []


async def test_who_is_not_named_as_the_server_gets_no_token(tmp_path: Path) -> None:
    network = Network(tmp_path)
    server = Server(network, "member")
    network.statement = lambda role, key: Network.statement(network, role, bytes(32))  # type: ignore[method-assign]
    with pytest.raises(NotJoined, match="not whom the network's root key names"):
        await tried(tmp_path, server)
    assert os.listdir(tmp_path / "state") == []


async def test_a_refusal_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotJoined, match="the server refused: this token was revoked"):
        await tried(tmp_path, Server(Network(tmp_path), None))
    assert os.listdir(tmp_path / "state") == []


async def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    token = Token(("127.0.0.1:1",), bytes(32), SECRET)
    with pytest.raises(NotJoined, match=r"no server of this network at 127.0.0.1:1 within 0 s"):
        async with asyncio.timeout(10):
            await join(tmp_path / "state", token, Plan("second", ("192.0.2.1",), 443, 3478, 0.3))
