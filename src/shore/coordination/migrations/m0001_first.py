"""The tables that a network begins with."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Text,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    _network()
    _members()
    _people()


def _network() -> None:
    op.create_table(
        "networks",
        Column("id", LargeBinary(16), primary_key=True),
        Column("name", String(63), nullable=False),
        Column("range_v6", String(43), nullable=False),
        Column("root", LargeBinary(32), nullable=False),
        Column("approval", Boolean, nullable=False),
        Column("node_key_lifetime_s", Float),
        Column("epoch", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
    )
    op.create_table(
        "tokens",
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


def _members() -> None:
    op.create_table(
        "nodes",
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
        Column("endorsement", LargeBinary),
        Column("token", Integer, ForeignKey("tokens.id")),
        Column("ephemeral", Boolean, nullable=False),
        Column("enrolled_at", Float, nullable=False),
        Column("expires_at", Float),
        Column("approved_at", Float),
        Column("revoked_at", Float),
    )
    op.create_table(
        "relays",
        Column("id", String(63), primary_key=True),
        Column("node", Integer, ForeignKey("nodes.id")),
        Column("pin", LargeBinary(32), nullable=False),
        Column("addresses", JSON, nullable=False),
        Column("udp_addresses", JSON, nullable=False),
    )
    op.create_table(
        "revoked_keys",
        Column("node_key", LargeBinary(32), primary_key=True),
        Column("at", Float, nullable=False),
    )


def _people() -> None:
    op.create_table(
        "api_keys",
        Column("id", Integer, primary_key=True),
        Column("hash", LargeBinary(32), nullable=False, unique=True),
        Column("prefix", String(8), nullable=False),
        Column("scope", String(8), nullable=False),
        Column("note", String(200), nullable=False),
        Column("created_at", Float, nullable=False),
        Column("revoked_at", Float),
    )
    op.create_table(
        "policies",
        Column("id", Integer, primary_key=True),
        Column("text", Text, nullable=False),
        Column("saved_at", Float, nullable=False),
        Column("saved_by", String(63), nullable=False),
    )
    op.create_table(
        "audit",
        Column("id", Integer, primary_key=True),
        Column("at", Float, nullable=False),
        Column("who", String(63), nullable=False),
        Column("what", String(63), nullable=False),
        Column("about", String(200), nullable=False),
    )
