"""Keys that a network's machines draw when they are made: Ed25519 seeds, and the TLS key of a relay.

A certificate is only the envelope of its key: what counts is the pin (docs/protocol/control.md, "Keys"), so
it is signed by itself, names nobody, and lasts as long as the network's statements.
"""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from shore.wire import signing

CERTIFICATE_S = 3650 * 86400.0


def new_key(path: Path) -> Ed25519PrivateKey:
    """Draw one; its seed is in the file. Raises OSError."""
    key = Ed25519PrivateKey.generate()
    write_new(path, key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
    return key


def new_certificate(relay: Path, name: str) -> bytes:
    """A P-256 key and a certificate that it signs itself, in a relay's directory; its pin. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(seconds=CERTIFICATE_S))
        .sign(key, SHA256())
    )
    write_new(relay / "tls.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_new(relay / "tls.crt", certificate.public_bytes(Encoding.PEM))
    return signing.pin_of(key.public_key())


def with_port(host: str, port: int) -> str:
    """`HOST` or `HOST:PORT`; a bare IPv6 address gets its brackets. Raises ValueError."""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    bare, colon, given = host.rpartition(":")
    if not colon or host.endswith("]"):
        bare, given = host, str(port)
    if not bare or not given.isdecimal() or not 0 < int(given) < 65536 or not bare.isprintable():
        raise ValueError(f"`{host}` is no address such as 192.0.2.1:443 or vpn.example.org")
    return f"{bare}:{given}"


def write_new(path: Path, content: bytes) -> None:
    """A file that nobody else may read and that was not there. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
