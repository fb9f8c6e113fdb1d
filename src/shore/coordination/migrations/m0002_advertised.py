"""What nodes would lead to, beside what of it was approved (`prefixes`)."""

from alembic import op
from sqlalchemy import JSON, Column

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Nobody has said yet."""
    op.add_column("nodes", Column("advertised", JSON, nullable=False, server_default="[]"))
