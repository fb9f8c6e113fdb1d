"""The database. Times are seconds of the Unix epoch; keys and hashes are bytes; lists are JSON.

A node's last beat, its candidates and its relays are not here: they are worth nothing after a restart, and a
write for each would be the whole load. `networks.epoch` rises when a backup is restored, `networks.version`
with what is written, in blocks, so that no netmap ever goes out with a number that went out before.

Of a node, `advertised` are the prefixes that it would lead to, as it said last, and `prefixes` those that
were approved: what is in both counts.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

networks = Table(
    "networks",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("range_v6", String(43), nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("approval", Boolean, nullable=False, default=False),
    Column("node_key_lifetime_s", Float),
    Column("epoch", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("prefix", String(8), nullable=False, index=True),
    Column("user", String(63), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("reusable", Boolean, nullable=False),
    Column("ephemeral", Boolean, nullable=False),
    Column("role", String(8), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("spent_at", Float),
    Column("revoked_at", Float),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("machine_key", LargeBinary(32), nullable=False, unique=True),
    Column("node_key", LargeBinary(32), unique=True),
    Column("role", String(8), nullable=False),
    Column("name", String(63), nullable=False, unique=True),
    Column("v4", String(15), unique=True),
    Column("v6", String(39), unique=True),
    Column("user", String(63), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("prefixes", JSON, nullable=False),
    Column("advertised", JSON, nullable=False, server_default="[]"),
    Column("endorsement", LargeBinary),
    Column("token", Integer, ForeignKey("tokens.id")),
    Column("ephemeral", Boolean, nullable=False),
    Column("enrolled_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("approved_at", Float),
    Column("revoked_at", Float),
)

relays = Table(
    "relays",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("node", Integer, ForeignKey("nodes.id")),
    Column("pin", LargeBinary(32), nullable=False),
    Column("addresses", JSON, nullable=False),
    Column("udp_addresses", JSON, nullable=False),
)

revoked_keys = Table(
    "revoked_keys",
    metadata,
    Column("node_key", LargeBinary(32), primary_key=True),
    Column("at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("prefix", String(8), nullable=False),
    Column("scope", String(8), nullable=False),
    Column("note", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

policies = Table(
    "policies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("saved_at", Float, nullable=False),
    Column("saved_by", String(63), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", String(63), nullable=False),
    Column("what", String(63), nullable=False),
    Column("about", String(200), nullable=False),
)
