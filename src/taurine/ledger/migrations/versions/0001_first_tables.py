"""The tables that the ledger begins with.

A migration is never changed once it is released: what it says of the tables is written out here, whatever the code says
later.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make all tables and indexes."""
    op.create_table(
        "taurine_audit",
        Column("number", BigInteger().with_variant(Integer, "sqlite"), autoincrement=True, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("actor", Text),
        Column("action", Text, nullable=False),
        Column("job_id", Text),
        Column("tenant", Text),
        Column("detail", Text),
        PrimaryKeyConstraint("number", name=op.f("taurine_audit_pkey")),
    )
    op.create_index("taurine_audit_by_job", "taurine_audit", ["job_id", "number"])
    op.create_table(
        "taurine_dead_letter",
        Column("id", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("type", Text, nullable=False),
        Column("queue", Text, nullable=False),
        Column("tenant", Text),
        Column("payload", Text, nullable=False),
        Column("error", Text, nullable=False),
        Column("error_fingerprint", Text),
        Column("reason", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("max_attempts", Integer, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("options", Text),
        Column("metadata", Text),
        Column("created_by", Text),
        Column("trace", Text),
        Column("failed_at", BigInteger, nullable=False),
        Column("status", Text, server_default="open", nullable=False),
        Column("resolved_at", BigInteger),
        Column("resolved_by", Text),
        Column("redriven_as", Text),
        Column("mirrored_at", BigInteger),
        CheckConstraint("(status = 'open') = (resolved_at IS NULL)", name=op.f("taurine_dead_letter_resolved_check")),
        CheckConstraint(
            "reason IN ('crashed', 'exhausted', 'permanent', 'unknown_type')",
            name=op.f("taurine_dead_letter_reason_check"),
        ),
        CheckConstraint("status IN ('discarded', 'open', 'redriven')", name=op.f("taurine_dead_letter_status_check")),
        PrimaryKeyConstraint("id", name=op.f("taurine_dead_letter_pkey")),
        UniqueConstraint("job_id", "generation", name=op.f("taurine_dead_letter_job_id_generation_key")),
    )
    op.create_index("taurine_dead_letter_by_status", "taurine_dead_letter", ["status", "failed_at", "id"])
    op.create_table(
        "taurine_effect",
        Column("scope", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("result", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("finished_at", BigInteger),
        CheckConstraint("(status = 'done') = (finished_at IS NOT NULL)", name=op.f("taurine_effect_finished_check")),
        CheckConstraint("status IN ('done', 'intent')", name=op.f("taurine_effect_status_check")),
        PrimaryKeyConstraint("scope", "key", name=op.f("taurine_effect_pkey")),
    )
    op.create_index("taurine_effect_created", "taurine_effect", ["created_at"])
    op.create_table(
        "taurine_idempotency",
        Column("scope", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("request_hash", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("scope", "key", name=op.f("taurine_idempotency_pkey")),
    )
    op.create_index("taurine_idempotency_expires", "taurine_idempotency", ["expires_at"])
    op.create_table(
        "taurine_job",
        Column("id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("queue", Text, nullable=False),
        Column("tenant", Text),
        Column("status", Text, nullable=False),
        Column("generation", Integer, server_default="0", nullable=False),
        Column("fence", BigInteger, server_default="0", nullable=False),
        Column("attempts", Integer, server_default="0", nullable=False),
        Column("max_attempts", Integer, nullable=False),
        Column("priority", Integer, server_default="0", nullable=False),
        Column("payload", Text, nullable=False),
        Column("options", Text),
        Column("metadata", Text),
        Column("output", Text),
        Column("error", Text),
        Column("error_fingerprint", Text),
        Column("progress", Text),
        Column("state", Text),
        Column("worker", Text),
        Column("created_by", Text),
        Column("source", Text),
        Column("trace", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("scheduled_for", BigInteger),
        Column("next_attempt_at", BigInteger),
        Column("expires_at", BigInteger),
        Column("dispatched_at", BigInteger),
        Column("started_at", BigInteger),
        Column("finished_at", BigInteger),
        Column("cancel_requested_at", BigInteger),
        Column("cancel_reason", Text),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('cancelled', 'completed', 'expired', 'failed'))",
            name=op.f("taurine_job_finished_check"),
        ),
        CheckConstraint(
            "(status <> 'failed' OR error IS NOT NULL) AND (status <> 'completed' OR error IS NULL)",
            name=op.f("taurine_job_error_check"),
        ),
        CheckConstraint(
            "output IS NULL OR status IN ('cancelled', 'completed')", name=op.f("taurine_job_output_check")
        ),
        CheckConstraint(
            "status IN ('cancelled', 'completed', 'expired', 'failed', 'queued', 'retrying', 'running', 'waiting')",
            name=op.f("taurine_job_status_check"),
        ),
        CheckConstraint(
            "next_attempt_at IS NULL OR NOT (status IN ('cancelled', 'completed', 'expired', 'failed', 'running'))",
            name=op.f("taurine_job_next_attempt_check"),
        ),
        CheckConstraint(
            "generation >= 0 AND fence >= 0 AND attempts >= 0 AND max_attempts >= 1",
            name=op.f("taurine_job_counts_check"),
        ),
        CheckConstraint("updated_at >= created_at", name=op.f("taurine_job_times_check")),
        PrimaryKeyConstraint("id", name=op.f("taurine_job_pkey")),
    )
    op.create_index(
        "taurine_job_by_error",
        "taurine_job",
        ["error_fingerprint", "created_at", "id"],
        sqlite_where=text("error_fingerprint IS NOT NULL"),
        postgresql_where=text("error_fingerprint IS NOT NULL"),
    )
    op.create_index(
        "taurine_job_expiring",
        "taurine_job",
        ["expires_at"],
        sqlite_where=text("expires_at IS NOT NULL AND status = 'queued'"),
        postgresql_where=text("expires_at IS NOT NULL AND status = 'queued'"),
    )
    op.create_index(
        "taurine_job_by_tenant",
        "taurine_job",
        ["tenant", "created_at", "id"],
        sqlite_where=text("tenant IS NOT NULL"),
        postgresql_where=text("tenant IS NOT NULL"),
    )
    op.create_index(
        "taurine_job_open_by_tenant",
        "taurine_job",
        ["tenant", "type"],
        sqlite_where=text("tenant IS NOT NULL AND NOT (status IN ('cancelled', 'completed', 'expired', 'failed'))"),
        postgresql_where=text("tenant IS NOT NULL AND NOT (status IN ('cancelled', 'completed', 'expired', 'failed'))"),
    )
    op.create_index("taurine_job_by_type", "taurine_job", ["type", "created_at", "id"])
    op.create_index("taurine_job_created", "taurine_job", ["created_at", "id"])
    op.create_index(
        "taurine_job_undispatched",
        "taurine_job",
        ["queue", "created_at"],
        sqlite_where=text("dispatched_at IS NULL AND NOT (status IN ('cancelled', 'completed', 'expired', 'failed'))"),
        postgresql_where=text(
            "dispatched_at IS NULL AND NOT (status IN ('cancelled', 'completed', 'expired', 'failed'))"
        ),
    )
    op.create_index(
        "taurine_job_unfinished",
        "taurine_job",
        ["status", "created_at", "id"],
        sqlite_where=text("status <> 'completed'"),
        postgresql_where=text("status <> 'completed'"),
    )
    op.create_table(
        "taurine_queue_cursor",
        Column("queue", Text, nullable=False),
        Column("last_id", Text, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("queue", name=op.f("taurine_queue_cursor_pkey")),
    )
    op.create_table(
        "taurine_quota",
        Column("tenant", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("max_open", Integer, nullable=False),
        CheckConstraint("max_open >= 0", name=op.f("taurine_quota_max_open_check")),
        PrimaryKeyConstraint("tenant", "type", name=op.f("taurine_quota_pkey")),
    )
    op.create_table(
        "taurine_attempt",
        Column("job_id", Text, nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("number", Integer, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("worker", Text),
        Column("started_at", BigInteger),
        Column("finished_at", BigInteger, nullable=False),
        Column("error", Text),
        Column("error_fingerprint", Text),
        Column("next_at", BigInteger),
        CheckConstraint(
            "outcome IN ('cancelled', 'failed', 'retried', 'snoozed')", name=op.f("taurine_attempt_outcome_check")
        ),
        ForeignKeyConstraint(
            ["job_id"], ["taurine_job.id"], name=op.f("taurine_attempt_job_id_fkey"), ondelete="CASCADE"
        ),
        PrimaryKeyConstraint("job_id", "fence", name=op.f("taurine_attempt_pkey")),
    )
    op.create_table(
        "taurine_job_log",
        Column("job_id", Text, nullable=False),
        Column("number", Integer, autoincrement=False, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("level", Text, nullable=False),
        Column("message", Text, nullable=False),
        Column("fields", Text),
        CheckConstraint(
            "level IN ('critical', 'debug', 'error', 'info', 'warning')", name=op.f("taurine_job_log_level_check")
        ),
        ForeignKeyConstraint(
            ["job_id"], ["taurine_job.id"], name=op.f("taurine_job_log_job_id_fkey"), ondelete="CASCADE"
        ),
        PrimaryKeyConstraint("job_id", "number", name=op.f("taurine_job_log_pkey")),
    )
    op.create_table(
        "taurine_job_tag",
        Column("job_id", Text, nullable=False),
        Column("tag", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        ForeignKeyConstraint(
            ["job_id"], ["taurine_job.id"], name=op.f("taurine_job_tag_job_id_fkey"), ondelete="CASCADE"
        ),
        PrimaryKeyConstraint("job_id", "tag", name=op.f("taurine_job_tag_pkey")),
    )
    op.create_index("taurine_job_tag_by_tag", "taurine_job_tag", ["tag", "created_at", "job_id"])
