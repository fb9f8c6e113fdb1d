"""Netmaps for tests: a root key, a netmap key, and what they sign."""

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.core.netmap import Trust
from shore.model.desired import Candidate
from shore.model.filter import Ports, Rule
from shore.model.netmap import Filter, Head, Held, Names, Peer, Record, Role, Self, Server, Signed, Statement
from shore.wire import signing

NETWORK = bytes(range(16))
ROOT = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes([2] * 32))
MACHINE = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
TRUST = Trust(NETWORK, signing.public_of(ROOT), signing.public_of(MACHINE))
NOW = 1_800_000_000.0
LEASE = NOW + 86400
OWN_KEY = bytes([10] * 32)
PEER_KEY = bytes([11] * 32)


def statement(
    role: Role = "netmap", key: bytes = signing.public_of(SIGNER), until: float = NOW + 9e5
) -> Signed:
    return signing.seal(ROOT, signing.STATEMENT, Statement(NETWORK, role, key, 0, until))


def own(**changes: object) -> Self:
    return msgspec.structs.replace(
        Self("hub", OWN_KEY, ("100.64.0.1", "fd12:3456:789a::1"), "owner"), **changes
    )


def peer(**changes: object) -> Peer:
    candidates = (Candidate("192.0.2.2:41641", "host"),)
    made = Peer("laptop", PEER_KEY, ("100.64.0.2",), "owner", LEASE, candidates=candidates)
    return msgspec.structs.replace(made, **changes)


def records(*more: Record, statements: tuple[Signed, ...] | None = None) -> dict[str, bytes]:
    """What every netmap has, and `more`, which takes the place of records of its id."""
    usual: list[Record] = [
        own(),
        Server(("192.0.2.1:443",), (statement(),) if statements is None else statements),
        Filter((Rule(("0.0.0.0/0", "::/0"), ("100.64.0.1/32",), (Ports(),)),)),
        Names("shore.internal", "fd12:3456:789a::/48"),
    ]
    return {_id(record): msgspec.msgpack.encode(record) for record in (*usual, *more)}


def netmap(
    *more: Record,
    version: tuple[int, int] = (1, 1),
    of: dict[str, bytes] | None = None,
    signer: Ed25519PrivateKey = SIGNER,
    **changes: object,
) -> Held:
    made = records(*more) if of is None else of
    head = Head(NETWORK, TRUST.machine_key, *version, NOW, signing.digest(made))
    return Held(signing.seal(signer, signing.NETMAP, msgspec.structs.replace(head, **changes)), made)


def _id(record: Record) -> str:
    match record:
        case Peer():
            return f"peer:{record.node_key.hex()}"
        case _ if hasattr(record, "id"):
            return f"relay:{record.id}"
        case _:
            return str(record.__struct_config__.tag)
