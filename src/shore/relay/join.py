"""Become a further relay of a network: from a token to a directory that a relay starts from.

A link to the server shows who it is (the root key that the token pins, and a statement of that key for the
pin of this very connection), the token is spent on a machine key that was drawn for this, and what was learnt
is written down. The relay itself then tells where it is, each time that it has a link. The directory gets its
name last, so that a join that was cut short has made nothing; its token may be spent then.
"""

import asyncio
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.io.certificate import new_certificate, new_key, with_port
from shore.io.user import program_user
from shore.model.netmap import Signed
from shore.model.relay import RelayConfig
from shore.relay.link import MACHINE_KEY, dialled, hello, pin_of
from shore.relay.serve import save
from shore.wire import control, signing
from shore.wire.token import Token, secret_hash


class NotJoined(Exception):
    """Why this machine is no relay. One sentence, with the next step."""


@dataclass(frozen=True)
class Plan:
    """What a relay is to be, and where."""

    name: str
    advertise: tuple[str, ...]
    port: int
    stun_port: int
    within: float


@dataclass(frozen=True)
class Found:
    """What the server says that we are, and by which network."""

    standing: str
    root: bytes
    network: bytes
    statements: tuple[Signed, ...]


async def join(state: Path, token: Token, plan: Plan) -> str:
    """Make STATE/relay; our standing, `member` or `pending`. Raises NotJoined, OSError."""
    making = state / ".relay"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    try:
        addresses = tuple(with_port(host, plan.port) for host in plan.advertise)
        key, pin = new_key(making / MACHINE_KEY), new_certificate(making, plan.name)
        found = await _enrolled(token, plan, key)
        config = RelayConfig(
            id=plan.name,
            pin=pin,
            root=found.root,
            network=found.network,
            statements=found.statements,
            addresses=addresses,
            udp_addresses=tuple(f"{each.rpartition(':')[0]}:{plan.stun_port}" for each in addresses),
            server_addresses=token.addresses,
            port=plan.port,
            stun_port=plan.stun_port,
        )
        save(making / "relay.json", config)
        _hand_over(making, state / "relay")
    except ValueError as error:
        raise NotJoined(str(error)) from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return found.standing


def _hand_over(making: Path, relay: Path) -> None:
    """To the user that the relay runs as, under its name."""
    user, group = map(int, program_user().split(":"))
    for path in (making, *making.iterdir()):
        os.chown(path, user, group)
    # It belongs to a user who has to get there; what else is in STATE has rights of its own.
    relay.parent.chmod(0o711)
    making.rename(relay)


async def _enrolled(token: Token, plan: Plan, key: Ed25519PrivateKey) -> Found:
    """Try the addresses in turn, until one answers or time is over. Raises NotJoined."""
    reason = ""
    try:
        async with asyncio.timeout(plan.within):
            while True:
                for address in token.addresses:
                    try:
                        async with dialled(address) as socket:
                            return await _Talk(socket, token, plan.name, key).run()
                    except (OSError, TimeoutError, websockets.WebSocketException) as error:
                        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
                        reason = f" ({words.lower()})"
                await asyncio.sleep(0.5)
    except TimeoutError:
        where = " or ".join(token.addresses)
        raise NotJoined(
            f"no server of this network at {where} within {plan.within:.0f} s{reason}: "
            "see that it runs and that its port is open"
        ) from None


class _Talk:
    """One link, until the server says what we are."""

    def __init__(
        self, socket: websockets.ClientConnection, token: Token, name: str, key: Ed25519PrivateKey
    ) -> None:
        self._socket = socket
        self._token = token
        self._name = name
        self._key = key
        self._challenge: control.Challenge | None = None

    async def run(self) -> Found:
        """What we are. Raises NotJoined, OSError, WebSocketException."""
        while True:
            try:
                message = control.from_server(await self._socket.recv(decode=False))
            except control.BrokenMessage:
                raise NotJoined("who answers there is no server of a network") from None
            match message:
                case control.Challenge() if self._challenge is None:
                    self._challenge = message
                    await self._say(self._hello(message))
                case control.StandingIs() if self._challenge is not None:
                    if message.standing in ("member", "pending"):
                        return self._found(message, self._challenge)
                    if message.standing != "unknown":
                        raise NotJoined(f"this machine is {message.standing} in that network")
                    await self._say(self._enrol(self._challenge))
                case control.Refused():
                    raise NotJoined(f"the server refused: {message.reason}")
                case control.Ping():
                    await self._say(control.Pong(message.id))
                case _:
                    pass

    async def _say(self, message: control.FromNode) -> None:
        await self._socket.send(control.encode(message))

    def _hello(self, challenge: control.Challenge) -> control.Hello:
        if signing.fingerprint(challenge.root) != self._token.root:
            raise NotJoined("the server there is another network's than the token's")
        if control.VERSION not in challenge.versions:
            raise NotJoined("the server there speaks another version of the protocol")
        shown = pin_of(self._socket) or b""
        if shown not in signing.named_keys(challenge.statements, challenge.root, None, "server", time.time()):
            raise NotJoined("who answers there is not whom the network's root key names as its server")
        return hello(challenge.nonce, shown, self._key)

    def _enrol(self, challenge: control.Challenge) -> control.Enrol:
        secret, node_key = self._token.secret, control.NO_NODE_KEY
        content = control.enrol_content(challenge.nonce, secret_hash(secret), node_key, self._name)
        return control.Enrol(secret, node_key, self._name, signing.sign(self._key, signing.ENROL, content))

    def _found(self, said: control.StandingIs, challenge: control.Challenge) -> Found:
        named = signing.named_keys(challenge.statements, challenge.root, said.network, "server", time.time())
        if pin_of(self._socket) not in named:
            raise NotJoined("the server speaks for another network than its root key does")
        return Found(said.standing, challenge.root, said.network, challenge.statements)
