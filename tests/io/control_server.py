"""A coordination server of one network whose token lets everybody in, over TLS on loopback or in a host.

`python -m tests.io.control_server DIRECTORY ADDRESS PORT` prints the token and serves until it is ended.
"""

import asyncio
import datetime
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from tests.core.netmaps import LEASE, NETWORK, ROOT, SIGNER

from shore.model.desired import Candidate
from shore.model.filter import Ports, Rule
from shore.model.netmap import Filter, Head, Names, Peer, Record, Role, Self, Server, Signed, Statement
from shore.wire import control, signing
from shore.wire.control import FromNode, FromServer
from shore.wire.token import Token, token_text

SECRET = bytes([5] * 32)
NONCE = bytes([6] * 32)
SEEN_AT = 1_700_000_000.0
EVERYBODY = ("100.64.0.0/10", "fd12:3456:789a::/48")


@dataclass
class Machine:
    """What the server knows of one machine, and its link."""

    address: str
    standing: control.Standing = "unknown"
    name: str = "node"
    node_key: bytes = b""
    candidates: tuple[Candidate, ...] = ()
    stream: web.WebSocketResponse | None = None


# What nobody has to take.
OFFERED = ("10.9.7.0/24", "0.0.0.0/0")


class ControlServer:
    """`async with` it; `heard` is what nodes said, in order."""

    def __init__(
        self,
        directory: Path,
        *,
        standing: control.Standing = "unknown",
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.heard: list[FromNode] = []
        self.standing = standing
        self.refusal: control.Refused | None = None
        self.given_name: str | None = None
        self.machines: dict[bytes, Machine] = {}
        self._version = 0
        self._directory = directory
        self._place = (address, port)

    async def __aenter__(self) -> "ControlServer":
        tls, self.pin = _tls(self._directory)
        application = web.Application()
        application.router.add_get(control.PATH, self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._place, ssl_context=tls)
        await site.start()
        at = f"{self._place[0]}:{self._runner.addresses[0][1]}"
        self.token = Token((at,), signing.fingerprint(signing.public_of(ROOT)), SECRET)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse(protocols=(control.SUBPROTOCOL,))
        await stream.prepare(request)
        named = (_statement("server", self.pin), _statement("netmap", signing.public_of(SIGNER)))
        await _say(stream, control.Challenge((1,), NONCE, signing.public_of(ROOT), named))
        key = b""
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                said = control.from_node(message.data)
                assert said is not None
                self.heard.append(said)
                if isinstance(said, control.Hello):
                    key = said.machine_key
                await self._answer(stream, key, said)
        return stream

    async def _answer(self, stream: web.WebSocketResponse, key: bytes, said: FromNode) -> None:
        fresh = Machine(f"100.64.0.{len(self.machines) + 1}", self.standing)
        machine = self.machines.setdefault(key, fresh)
        match said:
            case control.Hello():
                await self._stand(stream, machine)
            case control.Enrol() if self.refusal is not None:
                await _say(stream, self.refusal)
            case control.Enrol():
                assert said.secret == SECRET
                machine.standing, machine.name = "member", self.given_name or said.name
                await self._stand(stream, machine)
            case control.Present():
                machine.node_key, machine.stream = said.node_key, stream
                await self.publish()
            case control.Whereabouts():
                machine.candidates = said.candidates
                await self.publish()
            case control.Leave():
                machine.standing = "unknown"
                await self._stand(stream, machine)
            case control.Ping():
                await _say(stream, control.Pong(said.id))
            case _:
                pass

    async def _stand(self, stream: web.WebSocketResponse, machine: Machine) -> None:
        await _say(stream, control.StandingIs(NETWORK, machine.standing, SEEN_AT))

    async def publish(self) -> None:
        """A whole netmap to everybody."""
        self._version += 1
        for key, machine in self.machines.items():
            if machine.stream is not None and not machine.stream.closed:
                await _say(machine.stream, self._netmap(key, machine))

    def _netmap(self, key: bytes, machine: Machine) -> control.NetmapIs:
        everything = Rule(EVERYBODY, EVERYBODY, (Ports(),))
        signer = _statement("netmap", signing.public_of(SIGNER))
        made: dict[str, Record] = {
            "self": Self(machine.name, machine.node_key, (machine.address,), "owner"),
            "server": Server(self.token.addresses, (signer,)),
            "filter": Filter((everything,)),
            "names": Names("shore.internal", EVERYBODY[1]),
        }
        for other in self.machines.values():
            if other is not machine and other.node_key:
                peer = Peer(other.name, other.node_key, (other.address,), "owner", LEASE + 9e9)
                made[f"peer:{peer.node_key.hex()}"] = msgspec.structs.replace(
                    peer, candidates=other.candidates, prefixes=OFFERED
                )
        records = {name: msgspec.msgpack.encode(record) for name, record in made.items()}
        head = Head(NETWORK, key, 1, self._version, SEEN_AT, signing.digest(records))
        return control.NetmapIs(signing.seal(SIGNER, signing.NETMAP, head), records)


def _statement(role: Role, key: bytes) -> Signed:
    return signing.seal(ROOT, signing.STATEMENT, Statement(NETWORK, role, key, 0, LEASE + 9e9))


async def _say(stream: web.WebSocketResponse, message: FromServer) -> None:
    await stream.send_bytes(control.encode(message))


def _tls(directory: Path) -> tuple[ssl.SSLContext, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shore")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = directory / "tls.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return context, digest.finalize()


async def _main(directory: str, address: str, port: str) -> None:
    async with ControlServer(Path(directory), address=address, port=int(port)) as server:
        print(token_text(server.token), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
