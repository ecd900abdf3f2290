"""What the instruments read: tallies of jobs, workers, and alerts."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    """Make the three tables."""
    op.create_table(
        "taurine_alert",
        Column("rule", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("value", Float, nullable=False),
        Column("since", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("raised_at", BigInteger),
        Column("notified_at", BigInteger),
        Column("due_at", BigInteger),
        Column("tries", Integer, nullable=False),
        Column("reached", Text, nullable=False),
        Column("alert", Text, nullable=False),
        Column("version", Integer, nullable=False),
        PrimaryKeyConstraint("rule", "subject", name=op.f("taurine_alert_pkey")),
    )
    op.create_table(
        "taurine_tally",
        Column("minute", BigInteger, autoincrement=False, nullable=False),
        Column("queue", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("measure", Text, nullable=False),
        Column("bucket", Integer, autoincrement=False, nullable=False),
        Column("count", BigInteger, nullable=False),
        PrimaryKeyConstraint("minute", "queue", "type", "measure", "bucket", name=op.f("taurine_tally_pkey")),
    )
    op.create_table(
        "taurine_worker",
        Column("id", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("version", Text, nullable=False),
        Column("queues", Text, nullable=False),
        Column("slots", Integer, nullable=False),
        Column("busy", Integer, nullable=False),
        Column("leases_lost", Integer, nullable=False),
        Column("diverged", Integer),
        Column("loops", Text, nullable=False),
        Column("started_at", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("stopped_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("taurine_worker_pkey")),
    )
