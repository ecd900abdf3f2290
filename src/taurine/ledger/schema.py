"""The ledger's tables.

    job ──┬─< attempt        one row for each attempt that did not complete the job
          ├─< job_tag        the tags, for finding jobs by them
          ├─< job_log        the lines that its handler wrote, the newest of them
          ├─< dead_letter    one row for each generation that failed for good
          └─< audit          who did what to it; rows outlive the job
    idempotency ──► job      a client's key, with a life of its own
    effect                   operation ids: the intent before a side effect, its result afterwards
    queue_cursor             how far the event stream of a shared queue was read
    quota                    how many unfinished jobs a tenant may have, and how many it may add in a time
    tally                    what jobs came to, counted by the minute and for all time
    worker                   the workers of all processes, as they last told of themselves
    alert                    what each rule of alerts finds of its subject
    api_key                  the keys of callers: what is kept of each is a hash
    admin ──< session        who logs in with a password; what each cookie stands for, also of those whom an issuer of OpenID Connect knows
    login_try                how much each name and address has tried of late
    used_token               public tokens of one use that were used, until they expire

`job` is the product's record. It always shows the latest attempt; what earlier attempts left is in `attempt`. All times
are whole milliseconds since the epoch, UTC. JSON is kept as text, byte for byte as it travels, so that numbers stay
exact and both databases hold the same.

What a constraint can hold is a constraint. Indexes serve: the outbox (`job_undispatched`), the reconciler and lists by
status (`job_unfinished`: completed jobs leave it, so it stays small), lists by tenant, type, tag and error, lists of
everything (`job_created`), quotas (`job_open_by_tenant`), jobs that expire (`job_expiring`), and retention
(`job_by_type`: each type has its own age, and what finished before a time was created before it).

A change here needs its file in migrations/versions, and `VERSION` is the number of the latest; a test compares the two.
Nothing is released yet, so until 1.0 the file 0001 may still be changed in place; from then on no migration ever is.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from taurine.ledger.statuses import STATUSES, TERMINAL

__all__ = [
    "VERSION",
    "admin",
    "alert",
    "api_key",
    "attempt",
    "audit",
    "dead_letter",
    "effect",
    "idempotency",
    "job",
    "job_log",
    "job_tag",
    "login_try",
    "metadata",
    "queue_cursor",
    "quota",
    "session",
    "status_beside_id",
    "tally",
    "used_token",
    "worker",
]

VERSION = "0004"
"""The number of the last migration: of the tables that this code works with."""

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _in(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(map(repr, sorted(values)))})"


_TERMINAL = _in("status", TERMINAL)

# An autoincrementing number that SQLite takes for its row id.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")

job = Table(
    "taurine_job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("tenant", Text),
    Column("status", Text, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    # generation << 32 | attempts started, of the last write that a worker was granted
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("payload", Text, nullable=False),
    # what this job was given beside its type's own options, JSON; null for nothing
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
    # not before: the start that was asked for
    Column("scheduled_for", BigInteger),
    # not before: the attempt after one that is to be followed by another; null for a job that runs, or may
    Column("next_attempt_at", BigInteger),
    # not after: a job that has not started by then expires
    Column("expires_at", BigInteger),
    Column("dispatched_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("cancel_requested_at", BigInteger),
    Column("cancel_reason", Text),
    CheckConstraint(_in("status", STATUSES), name="status"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_TERMINAL})", name="finished"),
    # a cancelled job may have a partial result
    CheckConstraint("output IS NULL OR status IN ('cancelled', 'completed')", name="output"),
    CheckConstraint(
        "(status <> 'failed' OR error IS NOT NULL) AND (status <> 'completed' OR error IS NULL)", name="error"
    ),
    CheckConstraint(f"next_attempt_at IS NULL OR NOT ({_in('status', (*TERMINAL, 'running'))})", name="next_attempt"),
    CheckConstraint("generation >= 0 AND fence >= 0 AND attempts >= 0 AND max_attempts >= 1", name="counts"),
    CheckConstraint("updated_at >= created_at", name="times"),
)

Index(
    "taurine_job_undispatched",
    job.c.queue,
    job.c.created_at,
    sqlite_where=text(f"dispatched_at IS NULL AND NOT ({_TERMINAL})"),
    postgresql_where=text(f"dispatched_at IS NULL AND NOT ({_TERMINAL})"),
)
Index(
    "taurine_job_unfinished",
    job.c.status,
    job.c.created_at,
    job.c.id,
    sqlite_where=text("status <> 'completed'"),
    postgresql_where=text("status <> 'completed'"),
)
Index("taurine_job_created", job.c.created_at, job.c.id)
Index("taurine_job_by_type", job.c.type, job.c.created_at, job.c.id)
Index(
    "taurine_job_by_tenant",
    job.c.tenant,
    job.c.created_at,
    job.c.id,
    sqlite_where=text("tenant IS NOT NULL"),
    postgresql_where=text("tenant IS NOT NULL"),
)
Index(
    "taurine_job_changed",
    job.c.tenant,
    job.c.updated_at,
    job.c.id,
    sqlite_where=text("tenant IS NOT NULL"),
    postgresql_where=text("tenant IS NOT NULL"),
)
Index(
    "taurine_job_open_by_tenant",
    job.c.tenant,
    job.c.type,
    sqlite_where=text(f"tenant IS NOT NULL AND NOT ({_TERMINAL})"),
    postgresql_where=text(f"tenant IS NOT NULL AND NOT ({_TERMINAL})"),
)
Index(
    "taurine_job_by_error",
    job.c.error_fingerprint,
    job.c.created_at,
    job.c.id,
    sqlite_where=text("error_fingerprint IS NOT NULL"),
    postgresql_where=text("error_fingerprint IS NOT NULL"),
)

Index(
    "taurine_job_expiring",
    job.c.expires_at,
    sqlite_where=text("expires_at IS NOT NULL AND status = 'queued'"),
    postgresql_where=text("expires_at IS NOT NULL AND status = 'queued'"),
)

status_beside_id = job.c.status.concat(literal_column("''"))
"""The status, for conditions of statements that find their rows by id. As an expression it fits no partial index: on a
ledger at rest PostgreSQL takes the index of
unfinished jobs for empty, prefers it to the primary key, and in the next burst reads all of it for each row."""

job_tag = Table(
    "taurine_job_tag",
    metadata,
    Column("job_id", Text, ForeignKey(job.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
Index("taurine_job_tag_by_tag", job_tag.c.tag, job_tag.c.created_at, job_tag.c.job_id)

job_log = Table(
    "taurine_job_log",
    metadata,
    Column("job_id", Text, ForeignKey(job.c.id, ondelete="CASCADE"), primary_key=True),
    # 1 for the job's first line; the oldest ones go when there are too many
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    # what was said beside the text, JSON; null for nothing
    Column("fields", Text),
    CheckConstraint(_in("level", ("debug", "info", "warning", "error", "critical")), name="level"),
)

attempt = Table(
    "taurine_attempt",
    metadata,
    Column("job_id", Text, ForeignKey(job.c.id, ondelete="CASCADE"), primary_key=True),
    # the fence of the attempt: one for each time the job was started
    Column("fence", BigInteger, primary_key=True),
    # 1 for the first that was charged
    Column("number", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("worker", Text),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger, nullable=False),
    Column("error", Text),
    Column("error_fingerprint", Text),
    # when the next attempt was to start
    Column("next_at", BigInteger),
    CheckConstraint(_in("outcome", ("retried", "failed", "snoozed", "cancelled")), name="outcome"),
)

dead_letter = Table(
    "taurine_dead_letter",
    metadata,
    Column("id", Text, primary_key=True),
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
    # from here on what only a redrive needs that finds no record any more
    Column("max_attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("options", Text),
    Column("metadata", Text),
    Column("created_by", Text),
    Column("trace", Text),
    Column("failed_at", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default="open"),
    Column("resolved_at", BigInteger),
    Column("resolved_by", Text),
    # once redriven: the job and its generation that it became
    Column("redriven_as", Text),
    # when it was copied to the queue for BullMQ's dashboards
    Column("mirrored_at", BigInteger),
    UniqueConstraint("job_id", "generation"),
    CheckConstraint(_in("reason", ("exhausted", "permanent", "crashed", "unknown_type")), name="reason"),
    CheckConstraint(_in("status", ("open", "redriven", "discarded")), name="status"),
    CheckConstraint("(status = 'open') = (resolved_at IS NULL)", name="resolved"),
)
Index("taurine_dead_letter_by_status", dead_letter.c.status, dead_letter.c.failed_at, dead_letter.c.id)

audit = Table(
    "taurine_audit",
    metadata,
    Column("number", _RowNumber, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text),
    Column("action", Text, nullable=False),
    Column("job_id", Text),
    Column("tenant", Text),
    Column("detail", Text),
)
Index("taurine_audit_by_job", audit.c.job_id, audit.c.number)

effect = Table(
    "taurine_effect",
    metadata,
    # the tenant, or '' for none: one tenant's keys never meet another's
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("result", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    CheckConstraint(_in("status", ("intent", "done")), name="status"),
    CheckConstraint("(status = 'done') = (finished_at IS NOT NULL)", name="finished"),
)
Index("taurine_effect_created", effect.c.created_at)

idempotency = Table(
    "taurine_idempotency",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    # of the request that took the key: another one under the same key is refused
    Column("request_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("taurine_idempotency_expires", idempotency.c.expires_at)

queue_cursor = Table(
    "taurine_queue_cursor",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("last_id", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

quota = Table(
    "taurine_quota",
    metadata,
    Column("tenant", Text, primary_key=True),
    # the job type, or '' for all of the tenant's together
    Column("type", Text, primary_key=True),
    # most jobs that have not ended; null for any number
    Column("max_open", Integer),
    # most jobs that are added in so many ms; null for any number
    Column("rate_max", Integer),
    Column("rate_ms", BigInteger),
    # when all of them may be added at once again, in ms times `rate_max`, so that it is whole; null before the first
    Column("rate_full_at", BigInteger),
    CheckConstraint("max_open >= 0", name="max_open"),
    CheckConstraint("max_open IS NOT NULL OR rate_max IS NOT NULL", name="limited"),
    CheckConstraint(
        "(rate_max IS NULL) = (rate_ms IS NULL) AND (rate_max IS NULL OR rate_max >= 1 AND rate_ms >= 1)", name="rate"
    ),
)

tally = Table(
    "taurine_tally",
    metadata,
    # the start of the minute; 0 for all time
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("queue", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("measure", Text, primary_key=True),
    # of a distribution: the most milliseconds that this bucket holds, -1 for those above all; 0 for a plain count or a sum
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)

worker = Table(
    "taurine_worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    # names, JSON
    Column("queues", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("busy", Integer, nullable=False),
    Column("leases_lost", Integer, nullable=False),
    # jobs that its reconciler found apart in its last pass; null before the first
    Column("diverged", Integer),
    # of each loop: its interval and when it turned last, JSON
    Column("loops", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    # null for a worker that runs, or died
    Column("stopped_at", BigInteger),
)

alert = Table(
    "taurine_alert",
    metadata,
    Column("rule", Text, primary_key=True),
    # what the rule looked at: a queue, a type, a schedule; '' for the application
    Column("subject", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("value", Float, nullable=False),
    # when the state began, and when the subject was looked at, or heard of, last
    Column("since", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("raised_at", BigInteger),
    # when everybody was told of the state; when the next try is due, null for none; which tries failed, and whom they reached, as JSON
    Column("notified_at", BigInteger),
    Column("due_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("reached", Text, nullable=False),
    # what is told, as JSON
    Column("alert", Text, nullable=False),
    # one more with each change that others must not overlook
    Column("version", Integer, nullable=False),
)

api_key = Table(
    "taurine_api_key",
    metadata,
    # the part of the key that is no secret
    Column("id", Text, primary_key=True),
    # SHA-256 of the other part, in hexadecimal digits
    Column("secret_hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    # words with a space between them
    Column("scopes", Text, nullable=False),
    Column("tenant", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at", BigInteger),
    # to about a minute
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

admin = Table(
    "taurine_admin",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("tenant", Text),
    Column("created_at", BigInteger, nullable=False),
    # when the password was set
    Column("password_at", BigInteger, nullable=False),
    CheckConstraint(_in("role", ("viewer", "operator", "admin")), name="role"),
)

session = Table(
    "taurine_session",
    metadata,
    # SHA-256 of what the cookie holds
    Column("token_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # how it began
    Column("source", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("tenant", Text),
    Column("created_at", BigInteger, nullable=False),
    # to about a minute
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint(_in("source", ("password", "oidc")), name="source"),
)
Index("taurine_session_by_name", session.c.name)
Index("taurine_session_expires", session.c.expires_at)

login_try = Table(
    "taurine_login_try",
    metadata,
    # a hash of the name or of the address
    Column("subject", Text, primary_key=True),
    # as `rate_full_at` of a quota
    Column("full_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("taurine_login_try_expires", login_try.c.expires_at)

used_token = Table(
    "taurine_used_token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("used_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("taurine_used_token_expires", used_token.c.expires_at)
