"""Who this machine is in its mesh, and what it knows of it: enough to start without the server.

STATE/node/              0700
STATE/node/machine.key   0600  Ed25519 seed: its identity to the server
STATE/node/node.key      0600  X25519: WireGuard
STATE/node/network.json  0600  which network, by what it is found and known
STATE/node/netmap        0600  the last netmap that was taken, as it came
STATE/node/admissions    0600  what lets it in at relays, with the key that proves it

Each file is written whole or not at all.
"""

import os
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shore import _native
from shore.core.membership import Member
from shore.core.mesh import tunnel_config
from shore.core.netmap import NotTaken, Trust, verified
from shore.io import state
from shore.model.config import TunnelConfig
from shore.model.netmap import Held, Netmap, Signed
from shore.wire import signing

SEED_LENGTH = 32


class Network(msgspec.Struct, frozen=True):
    """What a join leaves: `network` and `root` as the first link showed them, `addresses` of the token.

    `interface` is the tunnel's name; `accepted` are prefixes that may be routed to peers, `advertised` those
    that this node leads to; `proxy` is a URL, by which server and relays are reached.
    """

    interface: str
    name: str
    root_hash: bytes
    addresses: tuple[str, ...]
    network: bytes | None = None
    root: bytes | None = None
    accepted: tuple[str, ...] = ()
    advertised: tuple[str, ...] = ()
    proxy: str | None = None


class Admitted(msgspec.Struct, frozen=True):
    """Admissions by the ids of relays; they are `node_key`'s, used by who has `seed` (Ed25519)."""

    node_key: bytes
    seed: bytes
    admissions: dict[str, Signed]


class Damaged(Exception):
    """A file of the identity cannot be used. One sentence."""


class Identity(msgspec.Struct, frozen=True):
    """This machine in its mesh."""

    network: Network
    machine_seed: bytes
    node_key: bytes
    held: Held | None = None
    admitted: Admitted | None = None

    def netmap(self) -> Netmap:
        """The one on disk. Raises NotTaken."""
        known = self.network
        if self.held is None or known.network is None or known.root is None:
            raise NotTaken("this machine never heard from its network")
        return verified(self.held, Trust(known.network, known.root, self.machine_key), (), None)

    def tunnel(self, time: float) -> TunnelConfig:
        """The tunnel as the netmap and the admissions on disk have it. Raises NotTaken."""
        known, netmap = self.network, self.netmap()
        admitted = self._admitted()
        base = TunnelConfig(known.interface, self.node_key, admission_key=admitted.seed, proxy=known.proxy)
        newest = max(time, netmap.head.issued_at)
        return tunnel_config(
            base,
            netmap,
            time=newest,
            admissions=admitted.admissions,
            accepted=known.accepted,
            advertised=known.advertised,
        )

    @property
    def machine_key(self) -> bytes:
        """The public one."""
        return signing.public_of(Ed25519PrivateKey.from_private_bytes(self.machine_seed))

    def _admitted(self) -> Admitted:
        """What is on disk, unless the node key is another by now: then an admission key of its own."""
        node_key = _native.public_key(self.node_key)
        if self.admitted is not None and self.admitted.node_key == node_key:
            return self.admitted
        return Admitted(node_key, new_seed(), {})

    def member(self, admission_key: bytes, secret: bytes | None = None) -> Member:
        """As `core.membership` wants it; `admission_key` is the public one."""
        known = self.network
        return Member(
            machine_key=Ed25519PrivateKey.from_private_bytes(self.machine_seed),
            node_key=_native.public_key(self.node_key),
            admission_key=admission_key,
            root_hash=known.root_hash,
            addresses=known.addresses,
            name=known.name,
            secret=secret,
            network=known.network,
            root=known.root,
        )


def exists() -> bool:
    """Whether this machine has joined, or begun to join, a network."""
    return (_root() / "network.json").exists()


def draw(network: Network) -> Identity:
    """A new identity, on disk before anybody hears of it. Raises OSError."""
    identity = Identity(network, new_seed(), new_node_key())
    state.write(_root() / "machine.key", identity.machine_seed)
    state.write(_root() / "node.key", identity.node_key)
    keep_network(network)
    return identity


def read() -> Identity | None:
    """None if this machine has joined nothing. Raises Damaged, PermissionError."""
    try:
        network = msgspec.json.decode((_root() / "network.json").read_bytes(), type=Network)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Damaged(f"{_root() / 'network.json'} is damaged: `shore logout`, then join again") from None
    seeds = []
    for file in ("machine.key", "node.key"):
        try:
            seeds.append((_root() / file).read_bytes())
        except FileNotFoundError:
            seeds.append(b"")
        if len(seeds[-1]) != SEED_LENGTH:
            raise Damaged(f"{_root() / file} is damaged: `shore logout`, then join again")
    return Identity(network, seeds[0], seeds[1], _read_netmap(), _read_admitted())


def keep_network(network: Network) -> None:
    """Raises OSError."""
    state.write(_root() / "network.json", msgspec.json.encode(network))


def keep_netmap(held: Held) -> None:
    """Raises OSError."""
    state.write(_root() / "netmap", msgspec.msgpack.encode(held))


def keep_admitted(admitted: Admitted) -> None:
    """Raises OSError."""
    state.write(_root() / "admissions", msgspec.msgpack.encode(admitted))


def keep_node_key(node_key: bytes) -> None:
    """Raises OSError."""
    state.write(_root() / "node.key", node_key)


def forget() -> None:
    """Leave nothing of it. Raises OSError."""
    if _root().is_dir():
        for file in _root().iterdir():
            file.unlink(missing_ok=True)
        _root().rmdir()


def new_seed() -> bytes:
    """The seed of an Ed25519 key."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def new_node_key() -> bytes:
    """A private key of WireGuard."""
    key = bytearray(os.urandom(SEED_LENGTH))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def _read_netmap() -> Held | None:
    # One that is lost or damaged is asked for again.
    try:
        return msgspec.msgpack.decode((_root() / "netmap").read_bytes(), type=Held)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_admitted() -> Admitted | None:
    # As above.
    try:
        admitted = msgspec.msgpack.decode((_root() / "admissions").read_bytes(), type=Admitted)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return admitted if len(admitted.seed) == SEED_LENGTH else None


def _root() -> Path:
    return state.root() / "node"
