"""Who may call: keys, admins, their sessions, tries to log in, tokens of one use; and quotas by rate."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, PrimaryKeyConstraint, Text

revision = "0003"
down_revision = "0002"

_LIMITED = "max_open IS NOT NULL OR rate_max IS NOT NULL"
_RATE = "(rate_max IS NULL) = (rate_ms IS NULL) AND (rate_max IS NULL OR rate_max >= 1 AND rate_ms >= 1)"


def upgrade(op: Operations) -> None:
    """Make the tables of access, and let a quota be of a rate, of open jobs, or of both."""
    op.create_table(
        "taurine_api_key",
        Column("id", Text, nullable=False),
        Column("secret_hash", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("scopes", Text, nullable=False),
        Column("tenant", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", Text),
        Column("expires_at", BigInteger),
        Column("last_used_at", BigInteger),
        Column("revoked_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("taurine_api_key_pkey")),
    )
    op.create_table(
        "taurine_admin",
        Column("name", Text, nullable=False),
        Column("password_hash", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("tenant", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("password_at", BigInteger, nullable=False),
        CheckConstraint("role IN ('admin', 'operator', 'viewer')", name=op.f("taurine_admin_role_check")),
        PrimaryKeyConstraint("name", name=op.f("taurine_admin_pkey")),
    )
    op.create_table(
        "taurine_session",
        Column("token_hash", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("scopes", Text, nullable=False),
        Column("tenant", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        CheckConstraint("source IN ('oidc', 'password')", name=op.f("taurine_session_source_check")),
        PrimaryKeyConstraint("token_hash", name=op.f("taurine_session_pkey")),
    )
    op.create_index("taurine_session_by_name", "taurine_session", ["name"])
    op.create_index("taurine_session_expires", "taurine_session", ["expires_at"])
    op.create_table(
        "taurine_login_try",
        Column("subject", Text, nullable=False),
        Column("full_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("subject", name=op.f("taurine_login_try_pkey")),
    )
    op.create_index("taurine_login_try_expires", "taurine_login_try", ["expires_at"])
    op.create_table(
        "taurine_used_token",
        Column("id", Text, nullable=False),
        Column("used_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("taurine_used_token_pkey")),
    )
    op.create_index("taurine_used_token_expires", "taurine_used_token", ["expires_at"])
    if op.get_bind().dialect.name == "sqlite":
        _remake_quota(op)
    else:
        _change_quota(op)


def _change_quota(op: Operations) -> None:
    op.alter_column("taurine_quota", "max_open", nullable=True)
    op.add_column("taurine_quota", Column("rate_max", Integer))
    op.add_column("taurine_quota", Column("rate_ms", BigInteger))
    op.add_column("taurine_quota", Column("rate_full_at", BigInteger))
    op.create_check_constraint(op.f("taurine_quota_limited_check"), "taurine_quota", _LIMITED)
    op.create_check_constraint(op.f("taurine_quota_rate_check"), "taurine_quota", _RATE)


def _remake_quota(op: Operations) -> None:
    """SQLite changes no column that is there."""
    op.rename_table("taurine_quota", "taurine_quota_before")
    op.create_table(
        "taurine_quota",
        Column("tenant", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("max_open", Integer),
        Column("rate_max", Integer),
        Column("rate_ms", BigInteger),
        Column("rate_full_at", BigInteger),
        CheckConstraint("max_open >= 0", name=op.f("taurine_quota_max_open_check")),
        CheckConstraint(_LIMITED, name=op.f("taurine_quota_limited_check")),
        CheckConstraint(_RATE, name=op.f("taurine_quota_rate_check")),
        PrimaryKeyConstraint("tenant", "type", name=op.f("taurine_quota_pkey")),
    )
    op.execute(
        "INSERT INTO taurine_quota (tenant, type, max_open) SELECT tenant, type, max_open FROM taurine_quota_before"
    )
    op.drop_table("taurine_quota_before")
