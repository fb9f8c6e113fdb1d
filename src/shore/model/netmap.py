"""The netmap: the coordination server's whole word to one node, and the records that it is made of.

Records are read here and never written again by a node: what is hashed and signed are their bytes as they
came (docs/protocol/control.md, "Netmap"). Times are seconds of the Unix epoch.
"""

from typing import Literal

import msgspec

from shore.model.desired import Candidate
from shore.model.filter import Rule

LEASE_S = 30 * 86400
NODE_RANGE_V4 = "100.64.0.0/10"

Version = tuple[int, int]
Standing = Literal["unknown", "pending", "member", "expired", "revoked"]
Role = Literal["netmap", "server", "relay"]


class Self(msgspec.Struct, frozen=True, tag_field="kind", tag="self"):
    """What the network calls this node. `prefixes` are beyond its own addresses."""

    name: str
    node_key: bytes
    addresses: tuple[str, ...]
    user: str
    tags: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    expires_at: float | None = None


class Peer(msgspec.Struct, frozen=True, tag_field="kind", tag="peer"):
    """Another node that this one may talk to. `relays` are ids, its home relay first."""

    name: str
    node_key: bytes
    addresses: tuple[str, ...]
    user: str
    lease_until: float
    tags: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    relays: tuple[str, ...] = ()
    online: bool = False
    ephemeral: bool = False
    endorsement: bytes | None = None


class Relay(msgspec.Struct, frozen=True, tag_field="kind", tag="relay"):
    """A relay: `host:port` of its TLS streams and of its UDP side, and what its TLS key is known by."""

    id: str
    pin: bytes
    addresses: tuple[str, ...]
    udp_addresses: tuple[str, ...] = ()


class Server(msgspec.Struct, frozen=True, tag_field="kind", tag="server"):
    """Where the coordination server is, and the statements that name its keys."""

    addresses: tuple[str, ...]
    statements: tuple["Signed", ...]


class Filter(msgspec.Struct, frozen=True, tag_field="kind", tag="filter"):
    """What may come in here; nothing else may."""

    rules: tuple[Rule, ...]


class Names(msgspec.Struct, frozen=True, tag_field="kind", tag="names"):
    """The suffix of all names (`shore.internal`), and the network's own IPv6 range (a /48)."""

    suffix: str
    range_v6: str


Record = Self | Peer | Relay | Server | Filter | Names


class Signed(msgspec.Struct, frozen=True):
    """Bytes, and who signed them under the label that belongs to their kind."""

    content: bytes
    by: bytes
    signature: bytes


class Held(msgspec.Struct, frozen=True):
    """A netmap as it came, which is how it is kept on disk."""

    head: Signed
    records: dict[str, bytes]


class Statement(msgspec.Struct, frozen=True):
    """The root key's word: in this network `key` has this role (for `server` and `relay` it is a pin)."""

    network: bytes
    role: Role
    key: bytes
    issued_at: float
    expires_at: float


class Head(msgspec.Struct, frozen=True):
    """What a netmap's signature covers; `node` is the machine key of the node that it is for."""

    network: bytes
    node: bytes
    epoch: int
    version: int
    issued_at: float
    digest: bytes


class Admission(msgspec.Struct, frozen=True):
    """The netmap key's word to the relay with this pin: let this node key in, if it has the admission key."""

    relay: bytes
    node_key: bytes
    admission_key: bytes
    issued_at: float
    expires_at: float


class Netmap(msgspec.Struct, frozen=True):
    """A verified netmap."""

    head: Head
    self: Self
    peers: tuple[Peer, ...]
    relays: tuple[Relay, ...]
    server: Server
    filter: Filter
    names: Names

    @property
    def version(self) -> Version:
        """What it is ordered by."""
        return self.head.epoch, self.head.version
