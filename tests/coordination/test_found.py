"""What a founding leaves, and when it refuses."""

import hashlib
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shore.coordination import schema
from shore.coordination.found import NotFounded, found, read_founded, read_key
from shore.coordination.policy import compile
from shore.wire.signing import named_keys, public_of


def test_a_network_is_whole_once_it_is_founded(tmp_path: Path) -> None:
    made = found(tmp_path, "home", ("192.0.2.1", "[2001:db8::1]:8443", "2001:db8::2"), 443, 3478)
    assert made.addresses == ("192.0.2.1:443", "[2001:db8::1]:8443", "[2001:db8::2]:443")
    assert made.udp_addresses == ("192.0.2.1:3478", "[2001:db8::1]:3478", "[2001:db8::2]:3478")
    assert read_founded(tmp_path) == made
    server, relay = tmp_path / "server", tmp_path / "relay"
    assert made.root == public_of(read_key(server / "root.key"))
    certificate = x509.load_pem_x509_certificate((relay / "tls.crt").read_bytes())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert made.pin == hashlib.sha256(spki).digest()
    now, keys = time.time(), (made.statements, made.root, made.network)
    assert named_keys(*keys, "netmap", now) == {public_of(read_key(server / "netmap.key"))}
    assert named_keys(*keys, "server", now) == named_keys(*keys, "relay", now) == {made.pin}
    compile((server / "policy.hujson").read_text())
    assert msgspec.json.decode((relay / "relay.json").read_bytes())["id"] == "relay-1"
    assert not (tmp_path / ".founding").exists()


def test_the_database_knows_the_network_and_its_relay(tmp_path: Path) -> None:
    made = found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/server/server.db")
    with engine.connect() as connection:
        network = connection.execute(sqlalchemy.select(schema.networks)).one()
        relay = connection.execute(sqlalchemy.select(schema.nodes)).one()
    engine.dispose()
    assert (network.id, network.root, network.epoch) == (made.network, made.root, 1)
    assert (relay.role, relay.machine_key) == (
        "relay",
        public_of(read_key(tmp_path / "relay" / "machine.key")),
    )


def test_nobody_else_reads_what_is_secret(tmp_path: Path) -> None:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    for folder in (tmp_path / "server", tmp_path / "relay"):
        assert folder.stat().st_mode & 0o077 == 0
        assert not [file for file in folder.iterdir() if file.stat().st_mode & 0o077]


def test_a_network_is_founded_once(tmp_path: Path) -> None:
    made = found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    with pytest.raises(NotFounded, match="founded once"):
        found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    assert read_founded(tmp_path) == made


@pytest.mark.parametrize("host", ["", ":443", "host:x", "host:70000", "a\nb"])
def test_no_address_leaves_nothing_behind(tmp_path: Path, host: str) -> None:
    with pytest.raises(NotFounded, match="no address"):
        found(tmp_path, "home", (host,), 443, 3478)
    assert not list(tmp_path.iterdir())


def test_a_name_must_be_a_label(tmp_path: Path) -> None:
    with pytest.raises(NotFounded, match="no name"):
        found(tmp_path, "My Home", ("192.0.2.1",), 443, 3478)
