"""Dialogues with the server as it runs: a process of its own, a unix socket, real WebSockets."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, unix_connect

from shore.coordination.found import found
from shore.coordination.repository import Invitation, Repository
from shore.wire import control, signing
from shore.wire.token import secret_hash


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen(64)
    words = ("-m", "shore.coordination", "serve", "--state", str(tmp_path))
    fd = listener.fileno()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, "--control-fd", str(fd), pass_fds=(fd,), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b'{"is": "started"}\n'
    yield tmp_path
    process.terminate()
    async with asyncio.timeout(5):
        assert await process.wait() in (0, -15)


async def read(link: ClientConnection) -> control.FromServer | None:
    async with asyncio.timeout(5):
        received = await link.recv()
    assert isinstance(received, bytes)
    return control.from_server(received)


async def test_a_machine_joins_and_is_told_its_netmap(path: Path) -> None:
    repository = Repository(f"sqlite+aiosqlite:///{path}/server/server.db")
    secret = await repository.invite(Invitation(lifetime_s=None), "root", 0.0)
    await repository.close()
    key, node_key, admission_key = Ed25519PrivateKey.generate(), os.urandom(32), os.urandom(32)
    uri = f"ws://localhost{control.PATH}"
    async with unix_connect(
        str(path / "control.sock"), uri, subprotocols=[control.SUBPROTOCOL], max_size=None
    ) as link:
        challenge = await read(link)
        assert isinstance(challenge, control.Challenge)
        nonce, now = challenge.nonce, 2e9
        (pin,) = signing.named_keys(challenge.statements, challenge.root, None, "server", now)
        signed = signing.sign(key, signing.HELLO, control.hello_content(nonce, pin, "node", 1))
        await link.send(control.encode(control.Hello(signing.public_of(key), signed)))
        unknown = await read(link)
        assert isinstance(unknown, control.StandingIs)
        assert unknown.standing == "unknown"
        content = control.enrol_content(nonce, secret_hash(secret), node_key, "Kitchen")
        enrol = control.Enrol(secret, node_key, "Kitchen", signing.sign(key, signing.ENROL, content))
        await link.send(control.encode(enrol))
        member = await read(link)
        assert isinstance(member, control.StandingIs)
        assert member.standing == "member"
        await link.send(control.encode(enrol))
        assert isinstance(await read(link), control.Refused)
        content = control.present_content(nonce, node_key, admission_key, 0, 0)
        signed = signing.sign(key, signing.PRESENT, content)
        await link.send(control.encode(control.Present(node_key, admission_key, 0, 0, signed)))
        netmap = await read(link)
        assert isinstance(netmap, control.NetmapIs)
        assert b"kitchen" in netmap.records["self"]
        assert isinstance(await read(link), control.Admissions)


async def test_what_is_too_long_or_no_message_ends_the_link(path: Path) -> None:
    uri = f"ws://localhost{control.PATH}"
    for nonsense in (b"\xc1", b"\x00" * (control.MOST_FROM_NODE + 1)):
        async with unix_connect(str(path / "control.sock"), uri, subprotocols=[control.SUBPROTOCOL]) as link:
            await read(link)
            await link.send(nonsense)
            async with asyncio.timeout(5):
                await link.wait_closed()
