"""A relay's link to the coordination server (docs/protocol/control.md, "The link").

Up it says where the relay is, down it hears whose admissions count and who is out. The relay needs it for
news only: what it heard last is in relay.json. The server is believed as by a node: a statement of our root
key names the pin of this very connection; over the unix socket of the server beside us it is the pin of the
relay's own TLS key.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, unix_connect

from shore.model.relay import RelayConfig
from shore.wire import control, signing

LEAST_BACKOFF_S = 0.2
MOST_BACKOFF_S = 30.0
MACHINE_KEY = "machine.key"


class NotOurs(Exception):
    """Whoever answers is not this network's server. One sentence."""


class ServerLink:
    """Dials, again and again, and gives each word on admissions to `learn`."""

    def __init__(self, directory: Path, config: RelayConfig, learn: Callable[[RelayConfig], None]) -> None:
        self._key_path = directory / MACHINE_KEY
        self._config = config
        self._learn = learn

    async def run(self) -> None:
        """Keep the link, until cancelled; without a machine key or a server beside us there is none."""
        path = self._config.server_socket
        if path is None or not self._key_path.exists():
            return
        key = Ed25519PrivateKey.from_private_bytes(self._key_path.read_bytes())
        backoff = LEAST_BACKOFF_S
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                async with unix_connect(
                    path,
                    f"ws://localhost{control.PATH}",
                    subprotocols=[websockets.Subprotocol(control.SUBPROTOCOL)],
                    max_size=control.MOST_FROM_SERVER,
                    open_timeout=10,
                    ping_interval=None,
                    compression=None,
                ) as socket:
                    await self._talk(socket, key)
            except (OSError, TimeoutError, websockets.WebSocketException, NotOurs, control.BrokenMessage):
                pass
            lasted = asyncio.get_running_loop().time() - begun
            backoff = LEAST_BACKOFF_S if lasted > MOST_BACKOFF_S else min(backoff * 2, MOST_BACKOFF_S)
            # Jitter, not a secret.
            await asyncio.sleep(LEAST_BACKOFF_S + random.random() * backoff)  # noqa: S311

    async def _talk(self, socket: ClientConnection, key: Ed25519PrivateKey) -> None:
        quiet = 0
        while True:
            try:
                data = await asyncio.wait_for(socket.recv(decode=False), control.QUIET_S)
            except TimeoutError:
                quiet += 1
                if quiet * control.QUIET_S >= control.DEAD_S:
                    return
                await socket.send(control.encode(control.Ping(quiet)))
                continue
            quiet = 0
            message = control.from_server(data)
            for answer in self._answers(message, key):
                await socket.send(control.encode(answer))

    def _answers(self, message: object, key: Ed25519PrivateKey) -> list[control.FromNode]:
        match message:
            case control.Challenge():
                return [self._hello(message, key)]
            case control.StandingIs(standing="member"):
                return [control.Offering(self._config.addresses, self._config.udp_addresses)]
            case control.Admitting():
                self._take(message)
            case control.Ping(id=number):
                return [control.Pong(number)]
        return []

    def _hello(self, challenge: control.Challenge, key: Ed25519PrivateKey) -> control.Hello:
        if challenge.root != self._config.root or control.VERSION not in challenge.versions:
            raise NotOurs("this server is another network's, or of another version")
        content = control.hello_content(challenge.nonce, self._config.pin, "relay", control.VERSION)
        return control.Hello(signing.public_of(key), signing.sign(key, signing.HELLO, content), "relay")

    def _take(self, admitting: control.Admitting) -> None:
        """Statements are checked when they are used; root and network never change."""
        if (admitting.root, admitting.network) != (self._config.root, self._config.network):
            raise NotOurs("the server speaks for another network")
        self._config = msgspec.structs.replace(
            self._config, statements=admitting.statements, revoked=admitting.revoked
        )
        self._learn(self._config)
