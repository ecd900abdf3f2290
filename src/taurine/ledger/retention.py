"""Removing what has been kept long enough, a bounded number of rows at a time.

A record goes when its job ended longer ago than its type is kept, and with it its attempts, tags and log lines. A job
that has not ended is never touched, however old. Types are taken in turn along `job_by_type`, since each has its own
age: what is kept for years is not walked over each time. How long that is stands in the code that declares a type, so a
program leaves the records of all others alone.

Dead letters go by when they were resolved; open ones by when they failed, also when nobody looked at them: they hold
payloads, and what nobody has looked at for a quarter will not be redriven. `open_dead_letters=None` keeps them until
they are resolved.

An effect is kept while a record or a dead letter of its job is there, whatever its age: a redrive must still find that
its charge was made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal_column, or_, select, tuple_

from taurine.errors import InvalidOption
from taurine.ledger.schema import audit, dead_letter, effect, idempotency, job
from taurine.ledger.statuses import TERMINAL

__all__ = [
    "PurgeStep",
    "RetentionPolicy",
    "purge_audit",
    "purge_dead_letters",
    "purge_effects",
    "purge_idempotency_keys",
    "purge_records",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long the ledger keeps what is over; None is for ever.

    by_type: ages of job types that differ from `records`. tallies: of the counts by the minute; those of all time stay.
    Raises InvalidOption for a negative age.
    """

    records: timedelta | None = timedelta(days=30)
    by_type: Mapping[str, timedelta | None] = field(default_factory=dict[str, timedelta | None])
    dead_letters: timedelta | None = timedelta(days=90)
    open_dead_letters: timedelta | None = timedelta(days=90)
    effects: timedelta | None = timedelta(days=90)
    audit: timedelta | None = timedelta(days=365)
    tallies: timedelta | None = timedelta(days=7)

    def __post_init__(self) -> None:
        ages = {
            name: getattr(self, name)
            for name in ("records", "dead_letters", "open_dead_letters", "effects", "audit", "tallies")
        }
        for name, age in {**ages, **self.by_type}.items():
            if age is not None and age < timedelta(0):
                raise InvalidOption(f"expected the age of {name!r} to be zero or more, got {age}")

    def of_type(self, job_type: str) -> timedelta | None:
        return self.by_type.get(job_type, self.records)


class PurgeStep(NamedTuple):
    """One step of a purge. after: where the next step goes on; None when there is nothing left to look at."""

    removed: int
    after: tuple[Any, ...] | None


_ended = job.c.status.in_([literal_column(repr(status)) for status in sorted(TERMINAL)])


def purge_records(
    connection: Connection,
    policy: RetentionPolicy,
    now: int,
    limit: int,
    after: tuple[Any, ...] | None = None,
    *,
    types: Collection[str] | None = None,
) -> PurgeStep:
    """Remove records that ended longer ago than their type is kept; looks at no more than `limit` of them.

    now: ms since the epoch.

    types: those whose ages the caller knows; records of others stay. Default: all types.
    after: the `after` of the step before, None to begin. Dead letters, audit rows, effects and idempotency keys of the
    jobs stay.
    """
    job_type, *place = (_next_type(connection, ""),) if after is None else after
    if job_type is None:
        return PurgeStep(0, None)
    age = policy.of_type(job_type) if types is None or job_type in types else None
    if age is None:
        return _then(connection, 0, job_type)
    before = _before(now, age)
    # What ended before a time was created before it.
    old = select(job.c.id, job.c.created_at).where(job.c.type == job_type, job.c.created_at < before)
    if place:
        old = old.where(tuple_(job.c.created_at, job.c.id) > tuple(place))
    rows = connection.execute(old.order_by(job.c.created_at, job.c.id).limit(limit)).all()
    # Asked again where it is removed: a job may have been run again since it was read.
    gone = and_(job.c.id.in_([row.id for row in rows]), _ended, job.c.finished_at < before)
    removed = connection.execute(delete(job).where(gone)).rowcount if rows else 0
    if len(rows) == limit:
        return PurgeStep(removed, (job_type, rows[-1].created_at, rows[-1].id))
    return _then(connection, removed, job_type)


def _then(connection: Connection, removed: int, job_type: str) -> PurgeStep:
    following = _next_type(connection, job_type)
    return PurgeStep(removed, None if following is None else (following,))


def _next_type(connection: Connection, job_type: str) -> str | None:
    """The type after this one, by one look into the index."""
    return connection.scalar(select(func.min(job.c.type)).where(job.c.type > job_type))


def purge_dead_letters(connection: Connection, policy: RetentionPolicy, now: int, limit: int) -> PurgeStep:
    """Remove up to `limit` dead letters: resolved ones by when they were resolved, open ones by when they failed."""
    old: list[ColumnElement[bool]] = []
    if policy.dead_letters is not None:
        before = _before(now, policy.dead_letters)
        resolved = dead_letter.c.status.in_(("redriven", "discarded"))
        # What was resolved before a time failed before it, and the index knows when it failed.
        old.append(and_(resolved, dead_letter.c.failed_at < before, dead_letter.c.resolved_at < before))
    if policy.open_dead_letters is not None:
        failed_before = dead_letter.c.failed_at < _before(now, policy.open_dead_letters)
        old.append(and_(dead_letter.c.status == "open", failed_before))
    if not old:
        return PurgeStep(0, None)
    ids = select(dead_letter.c.id).where(or_(*old)).limit(limit)
    removed = connection.execute(delete(dead_letter).where(dead_letter.c.id.in_(ids), or_(*old))).rowcount
    return PurgeStep(removed, () if removed == limit else None)


def purge_effects(
    connection: Connection, policy: RetentionPolicy, now: int, limit: int, after: tuple[Any, ...] | None = None
) -> PurgeStep:
    """Remove effects that are old enough and whose job has left neither a record nor a dead letter; looks at no more
    than `limit`.
    """
    if policy.effects is None:
        return PurgeStep(0, None)
    key = tuple_(effect.c.created_at, effect.c.scope, effect.c.key)
    old = select(effect.c.created_at, effect.c.scope, effect.c.key, effect.c.job_id)
    old = old.where(effect.c.created_at < _before(now, policy.effects))
    if after:
        old = old.where(key > after)
    rows = connection.execute(old.order_by(effect.c.created_at, effect.c.scope, effect.c.key).limit(limit)).all()
    if not rows:
        return PurgeStep(0, None)
    has_record = select(job.c.id).where(job.c.id == effect.c.job_id).exists()
    has_dead_letter = select(dead_letter.c.id).where(dead_letter.c.job_id == effect.c.job_id).exists()
    these = tuple_(effect.c.scope, effect.c.key).in_([(row.scope, row.key) for row in rows])
    removed = connection.execute(delete(effect).where(these, ~has_record, ~has_dead_letter)).rowcount
    last = rows[-1]
    return PurgeStep(removed, (last.created_at, last.scope, last.key) if len(rows) == limit else None)


def purge_idempotency_keys(connection: Connection, now: int, limit: int) -> PurgeStep:
    """Remove up to `limit` keys that have expired."""
    name = tuple_(idempotency.c.scope, idempotency.c.key)
    expired = idempotency.c.expires_at <= now
    old = select(idempotency.c.scope, idempotency.c.key).where(expired).limit(limit)
    removed = connection.execute(delete(idempotency).where(name.in_(old), expired)).rowcount
    return PurgeStep(removed, () if removed == limit else None)


def purge_audit(connection: Connection, policy: RetentionPolicy, now: int, limit: int) -> PurgeStep:
    """Remove audit rows that are old enough, from the first one on; looks at no more than `limit`."""
    if policy.audit is None:
        return PurgeStep(0, None)
    # Rows are added in about the order of their times.
    first = select(audit.c.number, audit.c.at).order_by(audit.c.number).limit(limit)
    before = _before(now, policy.audit)
    old = [row.number for row in connection.execute(first) if row.at < before]
    removed = connection.execute(delete(audit).where(audit.c.number.in_(old))).rowcount if old else 0
    return PurgeStep(removed, () if removed == limit else None)


def _before(now: int, age: timedelta) -> int:
    return now - age // timedelta(milliseconds=1)
