"""Who shows what in TLS."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding

from shore.io.pinned import pin_shown
from shore.wire import signing


@pytest.fixture
def key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


@pytest.fixture
def certificate(key: EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shore")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_is_known_by_its_key(key: EllipticCurvePrivateKey, certificate: bytes) -> None:
    assert pin_shown(certificate) == signing.pin_of(key.public_key())


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (bytes.fromhex("a003020102"), bytes.fromhex("a003020107")),  # a version that there is not
        (bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209")),  # a kind of key nobody knows
        (bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030108")),  # nor its curve
    ],
)
def test_a_certificate_that_cannot_be_read_has_a_pin_that_nobody_has(
    certificate: bytes, part: bytes, instead: bytes
) -> None:
    assert part in certificate
    assert pin_shown(certificate.replace(part, instead, 1)) == b""
