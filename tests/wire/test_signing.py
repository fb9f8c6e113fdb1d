"""Signatures of the mesh: each under its label, statements by the root only."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.model.netmap import Head, Role, Signed, Statement
from shore.wire import signing

NETWORK = bytes(16)
ROOT = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([2] * 32))
NOW = 1000.0


def statement(
    key: bytes = b"k", role: Role = "netmap", network: bytes = NETWORK, expires_at: float = NOW + 1
) -> Signed:
    return signing.seal(ROOT, signing.STATEMENT, Statement(network, role, key, 0, expires_at))


def test_a_sealed_value_opens_under_its_label_only() -> None:
    head = Head(NETWORK, b"node", 1, 2, NOW, b"digest")
    sealed = signing.seal(OTHER, signing.NETMAP, head)
    assert signing.unseal(sealed, signing.NETMAP, Head) == head
    with pytest.raises(signing.NotSigned):
        signing.unseal(sealed, signing.ADMISSION, Head)


def test_a_changed_byte_is_noticed() -> None:
    sealed = signing.seal(OTHER, signing.NETMAP, Head(NETWORK, b"node", 1, 2, NOW, b"digest"))
    for at in range(len(sealed.content)):
        changed = bytearray(sealed.content)
        changed[at] ^= 1
        with pytest.raises(signing.NotSigned):
            signing.unseal(Signed(bytes(changed), sealed.by, sealed.signature), signing.NETMAP, Head)


@pytest.mark.parametrize("nonsense", [b"", b"short", bytes(32), bytes(64), bytes(65)])
def test_nonsense_signs_nothing(nonsense: bytes) -> None:
    assert not signing.is_signed(nonsense, signing.HELLO, b"x", nonsense)


def test_the_root_names_keys_for_a_role_in_a_network_and_for_a_time() -> None:
    root = signing.public_of(ROOT)

    def named(given: Signed) -> frozenset[bytes]:
        return signing.named_keys([given], root, NETWORK, "netmap", NOW)

    assert named(statement()) == {b"k"}
    assert named(statement(role="relay")) == frozenset()
    assert named(statement(network=bytes(15) + b"1")) == frozenset()
    assert named(statement(expires_at=NOW)) == frozenset()
    forged = signing.seal(OTHER, signing.STATEMENT, Statement(NETWORK, "netmap", b"k", 0, NOW + 1))
    assert named(forged) == frozenset()
    assert named(Signed(forged.content, root, forged.signature)) == frozenset()


def test_the_digest_depends_on_ids_and_records_and_on_nothing_else() -> None:
    one = {"peer:01": b"a", "self": b"b"}
    assert signing.digest(one) == signing.digest(dict(reversed(one.items())))
    assert len({signing.digest(d) for d in (one, {"peer:01": b"b", "self": b"a"}, {"self": b"b"}, {})}) == 4
    assert signing.digest({}).hex().startswith("e3b0c442")
