"""What is signed in the mesh, and how: Ed25519 (RFC 8032) over label, zero byte, content.

No signature is valid under another label (docs/protocol/control.md, "Keys").
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shore.model.netmap import Role, Signed, Statement

Label = Literal[
    "shore statement v1",
    "shore netmap v1",
    "shore admission v1",
    "shore hello v1",
    "shore enrol v1",
    "shore present v1",
    "shore leave v1",
    "shore relay v1",
]
STATEMENT: Label = "shore statement v1"
NETMAP: Label = "shore netmap v1"
ADMISSION: Label = "shore admission v1"
HELLO: Label = "shore hello v1"
ENROL: Label = "shore enrol v1"
PRESENT: Label = "shore present v1"
LEAVE: Label = "shore leave v1"
RELAY: Label = "shore relay v1"

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class NotSigned(Exception):
    """What should be signed is not, or not by whom it should. One sentence."""


def public_of(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes by which others know this key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(key: Ed25519PrivateKey, label: Label, content: bytes) -> bytes:
    """64 bytes."""
    return key.sign(_signed(label, content))


def is_signed(public_key: bytes, label: Label, content: bytes, signature: bytes) -> bool:
    """Whether this key signed this content under this label; nonsense of any length is False."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _signed(label, content))
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(key: Ed25519PrivateKey, label: Label, value: msgspec.Struct) -> Signed:
    """Encode and sign."""
    content = _encoder.encode(value)
    return Signed(content, public_of(key), sign(key, label, content))


def unseal(signed: Signed, label: Label, kind: type[T]) -> T:
    """Verify against the key that it names, and decode. Raises NotSigned.

    Whether that key may say so is the caller's question (`named_keys`).
    """
    if not is_signed(signed.by, label, signed.content, signed.signature):
        raise NotSigned("the signature is wrong")
    try:
        return msgspec.msgpack.decode(signed.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotSigned(f"what was signed cannot be read: {error}") from None


def named_keys(
    statements: Iterable[Signed], root: bytes, network: bytes | None, role: Role, now: float
) -> frozenset[bytes]:
    """The keys that valid statements of this root give this role. `network` None: any (before a join)."""
    keys = set()
    for signed in statements:
        if signed.by != root:
            continue
        try:
            statement = unseal(signed, STATEMENT, Statement)
        except NotSigned:
            continue
        ours = network is None or statement.network == network
        if ours and statement.role == role and now < statement.expires_at:
            keys.add(statement.key)
    return frozenset(keys)


def digest(records: Mapping[str, bytes]) -> bytes:
    """SHA-256 over SHA-256(id), SHA-256(record) in ascending order of ids."""
    whole = hashlib.sha256()
    for name in sorted(records):
        whole.update(hashlib.sha256(name.encode()).digest())
        whole.update(hashlib.sha256(records[name]).digest())
    return whole.digest()


def fingerprint(root: bytes) -> bytes:
    """What a join token knows the root key by."""
    return hashlib.sha256(root).digest()


def pin_of(key: CertificatePublicKeyTypes) -> bytes:
    """What a TLS key is known by: SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _signed(label: Label, content: bytes) -> bytes:
    return label.encode() + b"\0" + content
