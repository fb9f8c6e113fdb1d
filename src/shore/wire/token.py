"""Join tokens (docs/protocol/control.md): all that a machine needs to find a network and be let in."""

import base64
import binascii
import hashlib

import msgspec

PREFIX = "shore1_"
ROOT_LENGTH = 32
SECRET_LENGTH = 32
LONGEST = 4096


class Token(msgspec.Struct, frozen=True, rename={"addresses": "a", "root": "r", "secret": "s"}):
    """Where the server is (`host:port`), the fingerprint of the root key, and what is spent."""

    addresses: tuple[str, ...]
    root: bytes
    secret: bytes


def token_text(token: Token) -> str:
    """One word without spaces."""
    return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).rstrip(b"=").decode()


def parse_token(text: str) -> Token:
    """Raises ValueError with what is wrong with it."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise ValueError(
            f"a join token begins with {PREFIX}: copy the whole line that `shore invite` printed"
        )
    body = text.removeprefix(PREFIX)
    damaged = "this join token is damaged: copy the whole line that `shore invite` printed"
    if len(body) > LONGEST:
        raise ValueError(damaged)
    try:
        token = msgspec.msgpack.decode(
            base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True), type=Token
        )
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise ValueError(damaged) from None
    if len(token.root) != ROOT_LENGTH or len(token.secret) != SECRET_LENGTH or not token.addresses:
        raise ValueError(damaged)
    return token


def secret_hash(secret: bytes) -> bytes:
    """What the server keeps."""
    return hashlib.sha256(secret).digest()


def secret_prefix(secret: bytes) -> str:
    """What lists show."""
    return secret_hash(secret).hex()[:8]
