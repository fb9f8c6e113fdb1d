"""TLS to who is known by the pin of his key (docs/protocol/control.md, "Keys"); no name, no authority."""

import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from shore.wire import signing


def tls() -> ssl.SSLContext:
    """TLS 1.3 with whoever answers; `pin_of` says who that was."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def pin_of(stream: ssl.SSLObject | None) -> bytes:
    """The pin that the other end of a TLS stream showed, empty where it showed none that can be read."""
    shown = None if stream is None else stream.getpeercert(binary_form=True)
    return pin_shown(shown) if shown else b""


def pin_shown(certificate: bytes) -> bytes:
    """The pin of a certificate (DER), empty where it cannot be read: whoever answers shows what he likes."""
    try:
        return signing.pin_of(x509.load_der_x509_certificate(certificate).public_key())
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        return b""
