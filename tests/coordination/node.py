"""A small node: it speaks to the server as docs/protocol/control.md has it, and checks nothing."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, unix_connect

from shore.coordination.found import database_of
from shore.coordination.repository import Invitation, Repository
from shore.wire import control, signing
from shore.wire.token import secret_hash

T = TypeVar("T", bound=control.FromServer)


class Node:
    """One link of a machine; `said` are the messages that nobody waited for."""

    def __init__(self, link: ClientConnection, key: Ed25519PrivateKey, node_key: bytes) -> None:
        self.link = link
        self.key = key
        self.node_key = node_key
        self.nonce = b""
        self.said: list[control.FromServer | None] = []

    async def hear(self, kind: type[T]) -> T:
        """The next message of this kind."""
        while True:
            async with asyncio.timeout(5):
                received = await self.link.recv(decode=False)
            message = control.from_server(received)
            if isinstance(message, kind):
                return message
            self.said.append(message)

    async def meet(self, other: "Node") -> None:
        """Hear of another: who comes and goes within a burst is never told of."""
        while f"peer:{other.node_key.hex()}" not in (await self.hear(control.Delta)).changed:
            pass

    async def say(self, message: control.FromNode) -> None:
        """Send it."""
        await self.link.send(control.encode(message))

    async def hello(self, role: control.Membership = "node") -> str:
        """Who we are; our standing."""
        await self.greet(role)
        return (await self.hear(control.StandingIs)).standing

    async def greet(self, role: control.Membership = "node") -> None:
        """Who we are."""
        challenge = await self.hear(control.Challenge)
        self.nonce = challenge.nonce
        (pin,) = signing.named_keys(challenge.statements, challenge.root, None, "server", 2e9)
        content = control.hello_content(self.nonce, pin, role, control.VERSION)
        signature = signing.sign(self.key, signing.HELLO, content)
        await self.say(control.Hello(signing.public_of(self.key), signature, role))

    async def enrol(self, secret: bytes, name: str) -> str:
        """Spend a token; our standing."""
        await self.ask(secret, name)
        return (await self.hear(control.StandingIs)).standing

    async def ask(self, secret: bytes, name: str) -> None:
        """Try to spend a token."""
        content = control.enrol_content(self.nonce, secret_hash(secret), self.node_key, name)
        signature = signing.sign(self.key, signing.ENROL, content)
        await self.say(control.Enrol(secret, self.node_key, name, signature))

    async def present(self, version: tuple[int, int] = (0, 0)) -> None:
        """Begin, or ask for what we lack."""
        parts = (self.node_key, b"a" * 32, *version)
        signature = signing.sign(self.key, signing.PRESENT, control.present_content(self.nonce, *parts))
        await self.say(control.Present(*parts, signature))

    async def leave(self) -> None:
        """Be no member any more."""
        await self.say(control.Leave(signing.sign(self.key, signing.LEAVE, self.nonce)))


async def invited(state: Path) -> bytes:
    """The secret of a new token, from the database."""
    repository = Repository(database_of(state))
    made = await repository.invite(Invitation(lifetime_s=None), "root", 0.0)
    await repository.close()
    return made


async def join(node: Node, state: Path, name: str) -> control.NetmapIs:
    """Become a member; the first netmap."""
    assert await node.hello() == "unknown"
    assert await node.enrol(await invited(state), name) == "member"
    await node.present()
    return await node.hear(control.NetmapIs)


@asynccontextmanager
async def linked(
    state: Path, key: Ed25519PrivateKey | None = None, node_key: bytes | None = None
) -> AsyncIterator[Node]:
    """A link to the server that runs in STATE."""
    key = key or Ed25519PrivateKey.generate()
    async with unix_connect(
        str(state / "run" / "server" / "control.sock"),
        f"ws://localhost{control.PATH}",
        subprotocols=[control.SUBPROTOCOL],
        max_size=None,
        compression=None,
    ) as link:
        yield Node(link, key, node_key or os.urandom(32))
