"""Keys of WireGuard: 32 bytes, written in base64 as `wg genkey` prints them."""

import base64
import binascii

LENGTH = 32
TEXT_LENGTH = 44


def parse_key(text: str) -> bytes:
    """Base64 to 32 bytes. Raises ValueError with what would be right."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != LENGTH:
        raise ValueError(f"a key is {TEXT_LENGTH} characters of base64, as `wg genkey` prints them")
    return key


def key_text(key: bytes) -> str:
    """32 bytes to base64."""
    return base64.b64encode(key).decode()
