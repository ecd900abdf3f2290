"""What streams of a tenant's changes read by."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import text

revision = "0004"
down_revision = "0003"


def upgrade(op: Operations) -> None:
    """Make the index."""
    op.create_index(
        "taurine_job_changed",
        "taurine_job",
        ["tenant", "updated_at", "id"],
        sqlite_where=text("tenant IS NOT NULL"),
        postgresql_where=text("tenant IS NOT NULL"),
    )
