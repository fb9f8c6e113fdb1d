"""What people and scripts say to the coordination server over its REST API, policies apart (docs/server.md).

    GET    /api/v1/status                 -> ServerStatus
    GET    /api/v1/tokens                 -> Tokens
    POST   /api/v1/tokens    Invite       -> Invited: the token is shown once
    DELETE /api/v1/tokens/PREFIX          -> Out; ?with_nodes=true revokes what came with it as well
    GET    /api/v1/nodes                  -> Nodes
    POST   /api/v1/nodes/NAME/approve     -> NodeShown
    POST   /api/v1/nodes/NAME/revoke      -> NodeShown: it is out for good
    POST   /api/v1/nodes/NAME/expire      -> NodeShown: it has to draw another key
    POST   /api/v1/nodes/NAME/rename  Rename -> NodeShown
    POST   /api/v1/nodes/NAME/routes  Routes -> NodeShown
    GET    /api/v1/keys                   -> Keys
    POST   /api/v1/keys      KeyAsk       -> KeyMade: the key is shown once
    DELETE /api/v1/keys/PREFIX            -> KeyShown

Times are seconds of the Unix epoch. What cannot be done is an answer of 4xx with a `Refusal`
(`shore.wire.policy`).
"""

from typing import Annotated, Literal

import msgspec

from shore.model.netmap import Standing

ROUTE = "/api/v1"
END = r"(?![\s\S])"

User = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+@-]{0,62}" + END)]
Tag = Annotated[str, msgspec.Meta(pattern=r"^(tag:)?[A-Za-z][A-Za-z0-9-]{0,58}" + END)]
Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=32)]
Lifetime = Annotated[float, msgspec.Meta(gt=0, le=3650 * 86400)]
Prefixes = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=49)], ...], msgspec.Meta(max_length=32)]
TokenState = Literal["open", "spent", "expired", "revoked"]


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token is asked for; `lifetime_s` null: it never expires. One for a relay lets in no node."""

    user: User = "owner"
    tags: Tags = ()
    reusable: bool = False
    ephemeral: bool = False
    lifetime_s: Lifetime | None = 3600.0
    role: Literal["node", "relay"] = "node"


class Invited(msgspec.Struct, frozen=True):
    """The token, which is kept nowhere, and what lists call it."""

    token: str
    prefix: str
    expires_at: float | None


class TokenShown(msgspec.Struct, frozen=True):
    """A token as lists show it."""

    prefix: str
    state: TokenState
    user: str
    tags: tuple[str, ...]
    reusable: bool
    ephemeral: bool
    created_at: float
    expires_at: float | None
    role: Literal["node", "relay"] = "node"


class Tokens(msgspec.Struct, frozen=True):
    """All tokens, newest first."""

    tokens: tuple[TokenShown, ...]


class Out(msgspec.Struct, frozen=True):
    """Names of the nodes that are out now."""

    nodes: tuple[str, ...] = ()


class NodeShown(msgspec.Struct, frozen=True):
    """A node as lists show it; `token` is the prefix of what it came with. A relay has no addresses here.

    It leads to those of the `approved` prefixes that it has `advertised`.
    """

    name: str
    role: Literal["node", "relay"]
    standing: Standing
    online: bool
    addresses: tuple[str, ...]
    user: str
    tags: tuple[str, ...]
    node_key: bytes | None
    token: str | None
    ephemeral: bool
    enrolled_at: float
    expires_at: float | None
    advertised: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()


class Nodes(msgspec.Struct, frozen=True):
    """All nodes, in the order in which they came."""

    nodes: tuple[NodeShown, ...]


class Rename(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node is to be called."""

    name: Annotated[str, msgspec.Meta(max_length=63)]


class Routes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prefixes that a node may lead to from now, and such that it may not any more."""

    approve: Prefixes = ()
    revoke: Prefixes = ()


class KeyAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to the API is asked for; `note` says what for."""

    right: Literal["read", "write"]
    note: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*" + END)] = ""


class KeyMade(msgspec.Struct, frozen=True):
    """The key, which is kept nowhere, and what lists call it."""

    key: str
    prefix: str


class KeyShown(msgspec.Struct, frozen=True):
    """A key as lists show it."""

    prefix: str
    right: Literal["read", "write"]
    note: str
    created_at: float
    revoked: bool


class Keys(msgspec.Struct, frozen=True):
    """All keys, newest first."""

    keys: tuple[KeyShown, ...]


class RelayShown(msgspec.Struct, frozen=True):
    """A relay, and where it is."""

    id: str
    addresses: tuple[str, ...]
    udp_addresses: tuple[str, ...]
    online: bool


class ServerStatus(msgspec.Struct, frozen=True):
    """How the server is; `version` is the highest that a netmap went out with in this epoch."""

    network: str
    addresses: tuple[str, ...]
    epoch: int
    version: int
    nodes: int
    online: int
    relays: tuple[RelayShown, ...]
    started_at: float
