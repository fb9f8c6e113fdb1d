"""A coordination server that knows one network of one token, over TLS on loopback."""

import datetime
import ssl
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from tests.core.netmaps import LEASE, NETWORK, ROOT, SIGNER

from shore.model.netmap import Filter, Head, Names, Peer, Record, Role, Self, Server, Signed, Statement
from shore.wire import control, signing
from shore.wire.control import FromNode, FromServer
from shore.wire.token import Token

SECRET = bytes([5] * 32)
NONCE = bytes([6] * 32)
SEEN_AT = 1_700_000_000.0


class ControlServer:
    """`async with` it; `token` lets one machine in, `heard` is what nodes said."""

    def __init__(self, directory: Path, *, standing: str = "unknown", peers: tuple[Peer, ...] = ()) -> None:
        self.heard: list[FromNode] = []
        self.standing = standing
        self.peers = peers
        self.refusal: control.Refused | None = None
        self.version = 1
        self.streams: list[web.WebSocketResponse] = []
        self._directory = directory

    async def __aenter__(self) -> "ControlServer":
        tls, self.pin = _tls(self._directory)
        application = web.Application()
        application.router.add_get(control.PATH, self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.token = Token((f"127.0.0.1:{port}",), signing.fingerprint(signing.public_of(ROOT)), SECRET)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse(protocols=(control.SUBPROTOCOL,))
        await stream.prepare(request)
        self.streams.append(stream)
        statements = (
            self._statement("server", self.pin),
            self._statement("netmap", signing.public_of(SIGNER)),
        )
        await _say(stream, control.Challenge((1,), NONCE, signing.public_of(ROOT), statements))
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                said = control.from_node(message.data)
                assert said is not None
                self.heard.append(said)
                await self._answer(stream, said)
        return stream

    async def _answer(self, stream: web.WebSocketResponse, said: FromNode) -> None:
        match said:
            case control.Hello():
                self._machine = said.machine_key
                await self._stand(stream)
            case control.Enrol() if self.refusal is not None:
                await _say(stream, self.refusal)
            case control.Enrol():
                assert said.secret == SECRET
                self.standing, self._name = "member", said.name
                await self._stand(stream)
            case control.Present():
                await _say(stream, self.netmap(said.node_key))
            case control.Leave():
                self.standing = "unknown"
                await self._stand(stream)
            case control.Ping():
                await _say(stream, control.Pong(said.id))
            case _:
                pass

    async def _stand(self, stream: web.WebSocketResponse) -> None:
        await _say(stream, control.StandingIs(NETWORK, self.standing, SEEN_AT))

    def netmap(self, node_key: bytes) -> control.NetmapIs:
        own = Self(getattr(self, "_name", "node"), node_key, ("100.64.0.1",), "owner")
        signer = self._statement("netmap", signing.public_of(SIGNER))
        made: dict[str, Record] = {
            "self": own,
            "server": Server(self.token.addresses, (signer,)),
            "filter": Filter(()),
            "names": Names("shore.internal", "fd12:3456:789a::/48"),
            **{f"peer:{peer.node_key.hex()}": peer for peer in self.peers},
        }
        records = {name: msgspec.msgpack.encode(record) for name, record in made.items()}
        head = Head(NETWORK, self._machine, 1, self.version, SEEN_AT, signing.digest(records))
        return control.NetmapIs(signing.seal(SIGNER, signing.NETMAP, head), records)

    def _statement(self, role: Role, key: bytes) -> Signed:
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
