"""Founding a network: all that its server and its first relay start from, made once.

STATE/server/root.key      the root key's seed; may be taken offline once the statements are made
STATE/server/netmap.key    the seed of the key that signs heads and admissions
STATE/server/server.db     the database (`schema`), unless STATE/server/database holds the URL of another
STATE/server/policy.hujson the policy to begin with (members reach each other), for people to
                           start from: what is in force is in the database alone
STATE/server/network.json  what the server knows of itself (`Founded`)
STATE/relay/tls.key, tls.crt, machine.key, relay.json   the relay's, which owns the TLS port for both

Statements are good for ten years: the root key may be far away. The directories get their names last, so a
founding that was cut short has made nothing.
"""

import os
import shutil
import time
from pathlib import Path

import msgspec
import sqlalchemy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.coordination import migrations, names, schema
from shore.coordination.policy import STARTER
from shore.io import runtime
from shore.io.certificate import new_certificate, new_key, with_port, write_new
from shore.io.user import plane_user
from shore.model.netmap import Role, Signed, Statement
from shore.wire import signing

STATEMENT_S = 3650 * 86400.0
NODE_KEY_LIFETIME_S = 180 * 86400.0
FIRST_RELAY = "relay-1"


class Founded(msgspec.Struct, frozen=True):
    """`network.json`: who the network is, where its server and its first relay are, and their ports here.

    `avoid` are prefixes in which no member gets its address, as they were in use where it was founded.
    """

    name: str
    network: bytes
    root: bytes
    pin: bytes
    range_v6: str
    addresses: tuple[str, ...]
    udp_addresses: tuple[str, ...]
    statements: tuple[Signed, ...]
    port: int = 443
    stun_port: int = 3478
    avoid: tuple[str, ...] = ()


class NotFounded(Exception):
    """The network cannot be made. One sentence."""


def found(
    state: Path,
    name: str,
    advertise: tuple[str, ...],
    port: int,
    stun_port: int,
    *,
    avoid: tuple[str, ...] = (),
) -> Founded:
    """Make STATE/server and STATE/relay. Raises NotFounded, OSError."""
    server, relay = state / "server", state / "relay"
    if not names.valid_name(name):
        raise NotFounded(f"`{name}` is no name for a network: letters, digits and hyphens, at most 63")
    for there in (server, relay):
        if there.exists():
            raise NotFounded(f"{there} is there already: a network is founded once")
    try:
        addresses = tuple(with_port(host, port) for host in advertise)
    except ValueError as error:
        raise NotFounded(str(error)) from None
    udp = tuple(f"{address.rpartition(':')[0]}:{stun_port}" for address in addresses)
    making = state / ".founding"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    try:
        founded = _make(making, name, addresses, udp, (port, stun_port), avoid=avoid)
        give_away(making)
        # Both belong to a user who has to get there; what else is in STATE has rights of its own.
        state.chmod(0o711)
        (making / "relay").rename(relay)
        (making / "server").rename(server)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return founded


def read_founded(state: Path) -> Founded:
    """What was founded here. Raises NotFounded."""
    path = state / "server" / "network.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Founded)
    except FileNotFoundError:
        raise NotFounded(f"no network was founded in {state}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotFounded(f"{path} is damaged") from None


def database_of(state: Path) -> str:
    """The URL of the database in use."""
    try:
        return (state / "server" / "database").read_text().strip()
    except FileNotFoundError:
        return own_database(state)


def own_database(state: Path) -> str:
    """The URL of the one beside the keys."""
    return f"sqlite:///{(state / 'server' / 'server.db').absolute()}"


def read_key(path: Path) -> Ed25519PrivateKey:
    """A key from the seed in a file. Raises NotFounded."""
    try:
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except (OSError, ValueError):
        raise NotFounded(f"{path} holds no key that we can read") from None


def _make(
    making: Path,
    name: str,
    addresses: tuple[str, ...],
    udp: tuple[str, ...],
    ports: tuple[int, int],
    *,
    avoid: tuple[str, ...],
) -> Founded:
    server, relay = making / "server", making / "relay"
    server.mkdir(mode=0o700)
    relay.mkdir(mode=0o700)
    root, netmap = new_key(server / "root.key"), new_key(server / "netmap.key")
    machine = new_key(relay / "machine.key")
    pin = new_certificate(relay, name)
    network, now = os.urandom(16), time.time()
    roles: tuple[tuple[Role, bytes], ...] = (
        ("netmap", signing.public_of(netmap)),
        ("server", pin),
        ("relay", pin),
    )
    statements = tuple(
        signing.seal(root, signing.STATEMENT, Statement(network, role, key, now, now + STATEMENT_S))
        for role, key in roles
    )
    range_v6 = str(names.draw_range_v6(os.urandom(5)))
    public = signing.public_of(root)
    founded = Founded(name, network, public, pin, range_v6, addresses, udp, statements, *ports, avoid)
    write_new(server / "network.json", msgspec.json.encode(founded))
    write_new(server / "policy.hujson", STARTER.encode())
    write_new(relay / "relay.json", msgspec.json.encode(_relay_config(founded)))
    _new_database(server / "server.db", founded, signing.public_of(machine), now)
    return founded


def _relay_config(founded: Founded) -> dict[str, object]:
    return {
        "id": FIRST_RELAY,
        "pin": founded.pin,
        "root": founded.root,
        "network": founded.network,
        "statements": founded.statements,
        "addresses": founded.addresses,
        "udp_addresses": founded.udp_addresses,
        "server_socket": str(runtime.root().absolute() / "server" / "control.sock"),
    }


def _new_database(path: Path, founded: Founded, machine_key: bytes, now: float) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    network = {
        "id": founded.network,
        "name": founded.name,
        "range_v6": founded.range_v6,
        "root": founded.root,
        "approval": False,
        "node_key_lifetime_s": NODE_KEY_LIFETIME_S,
        "epoch": 1,
        "version": 0,
    }
    relay = {
        "id": 1,
        "machine_key": machine_key,
        "role": "relay",
        "name": FIRST_RELAY,
        "user": "owner",
        "tags": [],
        "prefixes": [],
        "ephemeral": False,
        "enrolled_at": now,
        "approved_at": now,
    }
    place = {
        "id": FIRST_RELAY,
        "node": 1,
        "pin": founded.pin,
        "addresses": founded.addresses,
        "udp_addresses": founded.udp_addresses,
    }
    with engine.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(schema.networks.insert().values(network))
        connection.execute(schema.nodes.insert().values(relay))
        connection.execute(schema.relays.insert().values(place))
        connection.execute(
            schema.policies.insert().values({"text": STARTER, "saved_at": now, "saved_by": "founding"})
        )
    engine.dispose()
    path.chmod(0o600)


def give_away(making: Path) -> None:
    """To the user that server and relay run as; the root key stays with who founds."""
    user, group = map(int, plane_user().split(":"))
    for path in (making / "server", making / "relay"):
        for file in (path, *path.iterdir()):
            if file.name != "root.key":
                os.chown(file, user, group)
