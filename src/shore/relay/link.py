"""A relay's link to the coordination server (docs/protocol/control.md, "The link").

Up it says where the relay is, down it hears whose admissions count and who is out. The relay needs it for
news only: what it heard last is in relay.json. The server is believed as by a node: a statement of our root
key names the pin of this very connection; over the unix socket of the server beside us it is the pin of the
relay's own TLS key. Where no server runs beside us, its addresses are dialled in turn.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from shore.io import pinned
from shore.model.relay import RelayConfig
from shore.wire import control, signing

LEAST_BACKOFF_S = 0.2
MOST_BACKOFF_S = 30.0
OPENED_WITHIN_S = 10
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
        """Keep the link, until cancelled; without a machine key or a place of the server there is none."""
        beside = self._config.server_socket
        places = self._config.server_addresses if beside is None else (beside,)
        if not places or not self._key_path.exists():
            return
        key = Ed25519PrivateKey.from_private_bytes(self._key_path.read_bytes())
        backoff = LEAST_BACKOFF_S
        for place in itertools.cycle(places):
            begun = asyncio.get_running_loop().time()
            try:
                async with dialled(place) as socket:
                    await self._talk(socket, key)
            except (OSError, TimeoutError, websockets.WebSocketException, NotOurs, control.BrokenMessage):
                pass
            lasted = asyncio.get_running_loop().time() - begun
            backoff = LEAST_BACKOFF_S if lasted > MOST_BACKOFF_S else min(backoff * 2, MOST_BACKOFF_S)
            # Jitter, not a secret.
            await asyncio.sleep(LEAST_BACKOFF_S + random.random() * backoff)  # noqa: S311

    async def _talk(self, socket: ClientConnection, key: Ed25519PrivateKey) -> None:
        shown = pin_of(socket)
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
            for answer in self._answers(message, key, shown):
                await socket.send(control.encode(answer))

    def _answers(
        self, message: object, key: Ed25519PrivateKey, shown: bytes | None
    ) -> list[control.FromNode]:
        config = self._config
        match message:
            case control.Challenge():
                return [self._hello(message, key, shown)]
            case control.StandingIs(standing="member"):
                return [control.Offering(config.addresses, config.udp_addresses, config.pin)]
            case control.Admitting():
                self._take(message)
            case control.Ping(id=number):
                return [control.Pong(number)]
        return []

    def _hello(
        self, challenge: control.Challenge, key: Ed25519PrivateKey, shown: bytes | None
    ) -> control.Hello:
        config = self._config
        if challenge.root != config.root or control.VERSION not in challenge.versions:
            raise NotOurs("this server is another network's, or of another version")
        pin = config.pin if shown is None else shown
        named = signing.named_keys(challenge.statements, config.root, config.network, "server", time.time())
        if shown is not None and shown not in named:
            raise NotOurs("this is not the server that the network's root key names")
        return hello(challenge.nonce, pin, key)

    def _take(self, admitting: control.Admitting) -> None:
        """Statements are checked when they are used; root and network never change."""
        if (admitting.root, admitting.network) != (self._config.root, self._config.network):
            raise NotOurs("the server speaks for another network")
        self._config = msgspec.structs.replace(
            self._config, statements=admitting.statements, revoked=admitting.revoked
        )
        self._learn(self._config)


def dialled(place: str) -> connect:
    """A link to the server at a path of this machine, or at `host:port`; see `pin_of`."""
    subprotocols = [websockets.Subprotocol(control.SUBPROTOCOL)]
    if place.startswith("/"):
        return unix_connect(
            place,
            f"ws://localhost{control.PATH}",
            subprotocols=subprotocols,
            max_size=control.MOST_FROM_SERVER,
            open_timeout=OPENED_WITHIN_S,
            ping_interval=None,
            compression=None,
        )
    return connect(
        f"wss://{place}{control.PATH}",
        ssl=pinned.tls(),
        subprotocols=subprotocols,
        max_size=control.MOST_FROM_SERVER,
        open_timeout=OPENED_WITHIN_S,
        close_timeout=1,
        ping_interval=None,
        compression=None,
    )


def pin_of(socket: ClientConnection) -> bytes | None:
    """What the server's TLS key is known by; None where there is no TLS, on this machine."""
    tls = socket.transport.get_extra_info("ssl_object")
    return None if tls is None else pinned.pin_of(tls)


def hello(nonce: bytes, pin: bytes, key: Ed25519PrivateKey) -> control.Hello:
    """Who this relay is, on the connection of that pin."""
    content = control.hello_content(nonce, pin, "relay", control.VERSION)
    return control.Hello(signing.public_of(key), signing.sign(key, signing.HELLO, content), "relay")
