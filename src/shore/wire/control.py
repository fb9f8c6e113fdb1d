"""The control link's messages (docs/protocol/control.md, "The link").

One WebSocket message is one MessagePack map with a `type`. What we do not know is left out, so that an older
node can stay with a newer server.
"""

from typing import Literal, TypeVar

import msgspec

from shore.model.desired import Candidate
from shore.model.netmap import Signed, Standing

VERSION = 1
PATH = "/shore/v1/control"
SUBPROTOCOL = "shore.control.v1"
MOST_FROM_SERVER = 4 << 20
MOST_FROM_NODE = 64 << 10
QUIET_S = 10.0
DEAD_S = 20.0
NO_NODE_KEY = bytes(32)

Membership = Literal["node", "relay"]
SignalKind = Literal["call_me_maybe", "restarted", "session_lost", "initiate"]
RefusalCode = Literal["token", "name", "key", "signature", "role", "rate", "version", "closing"]


class _Message(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Challenge(_Message, frozen=True, tag="challenge"):
    """The first message of a link."""

    versions: tuple[int, ...]
    nonce: bytes
    root: bytes
    statements: tuple[Signed, ...]


class Hello(_Message, frozen=True, tag="hello"):
    """Who this is; the signature covers `hello_content`."""

    machine_key: bytes
    signature: bytes
    role: Membership = "node"
    version: int = VERSION


class StandingIs(_Message, frozen=True, tag="standing"):
    """What the server knows of this machine; `time` in seconds of the Unix epoch."""

    network: bytes
    standing: Standing
    time: float


class Enrol(_Message, frozen=True, tag="enrol"):
    """Asks to become a member; the signature covers `enrol_content`.

    `avoid` are prefixes in the mesh's range that are in use around this machine.
    """

    secret: bytes
    node_key: bytes
    name: str
    signature: bytes
    avoid: tuple[str, ...] = ()


class Present(_Message, frozen=True, tag="present"):
    """A member begins, and holds this version of its netmap (0, 0: none); signed as `present_content`."""

    node_key: bytes
    admission_key: bytes
    epoch: int
    version: int
    signature: bytes


class Whereabouts(_Message, frozen=True, tag="whereabouts"):
    """Where this node may be reached, its home relay first, and to which prefixes behind it it would lead."""

    candidates: tuple[Candidate, ...]
    relays: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


class Signal(_Message, frozen=True, tag="signal"):
    """A word for one peer; `peer` is the receiver's node key on the way up, the sender's on the way down."""

    peer: bytes
    kind: SignalKind
    candidates: tuple[Candidate, ...] = ()


class NetmapIs(_Message, frozen=True, tag="netmap"):
    """The whole netmap: a `Head` as signed, records by id as encoded."""

    head: Signed
    records: dict[str, bytes]


class Delta(_Message, frozen=True, tag="delta"):
    """What changed since the netmap of `from_digest`."""

    from_digest: bytes
    head: Signed
    changed: dict[str, bytes]
    removed: tuple[str, ...] = ()


class Admissions(_Message, frozen=True, tag="admissions"):
    """An `Admission` as signed, for each relay id."""

    admissions: dict[str, Signed]


class Offering(_Message, frozen=True, tag="offering"):
    """A relay tells where it is, and what its TLS key is known by, which counts when it is first told."""

    addresses: tuple[str, ...]
    udp_addresses: tuple[str, ...]
    pin: bytes = b""


class Admitting(_Message, frozen=True, tag="admitting"):
    """To a relay: who may sign admissions, and node keys that are out."""

    root: bytes
    network: bytes
    statements: tuple[Signed, ...]
    revoked: tuple[bytes, ...]


class Leave(_Message, frozen=True, tag="leave"):
    """This node leaves the network; the signature covers the nonce."""

    signature: bytes


class Refused(_Message, frozen=True, tag="refused"):
    """One sentence for people, a code for programs."""

    code: RefusalCode
    reason: str


class Ping(_Message, frozen=True, tag="ping"):
    """Answered with its id."""

    id: int


class Pong(_Message, frozen=True, tag="pong"):
    """The answer."""

    id: int


FromServer = (
    Challenge | StandingIs | NetmapIs | Delta | Admissions | Signal | Admitting | Refused | Ping | Pong
)
FromNode = Hello | Enrol | Present | Whereabouts | Signal | Offering | Leave | Ping | Pong

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(FromServer)
_from_node: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)


class BrokenMessage(Exception):
    """Not ours to read: the link must end."""


def encode(message: FromServer | FromNode) -> bytes:
    """One WebSocket message."""
    return _encoder.encode(message)


def from_server(data: bytes) -> FromServer | None:
    """None for what we do not know. Raises BrokenMessage."""
    return _read(_from_server, data, MOST_FROM_SERVER)


def from_node(data: bytes) -> FromNode | None:
    """None for what we do not know. Raises BrokenMessage."""
    return _read(_from_node, data, MOST_FROM_NODE)


def hello_content(nonce: bytes, pin: bytes, role: Membership, version: int) -> bytes:
    """What a `hello` signs: it is good on this link and this connection only."""
    return _encoder.encode((nonce, pin, role, version))


def enrol_content(nonce: bytes, secret_hash: bytes, node_key: bytes, name: str) -> bytes:
    """What an `enrol` signs."""
    return _encoder.encode((nonce, secret_hash, node_key, name))


def present_content(nonce: bytes, node_key: bytes, admission_key: bytes, epoch: int, version: int) -> bytes:
    """What a `present` signs."""
    return _encoder.encode((nonce, node_key, admission_key, epoch, version))


def _read(decoder: msgspec.msgpack.Decoder[T], data: bytes, most: int) -> T | None:
    if len(data) > most:
        raise BrokenMessage(f"a message of {len(data)} bytes")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMessage(str(error)) from None
