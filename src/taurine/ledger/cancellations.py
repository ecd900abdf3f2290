"""Asking jobs to stop, telling the workers that run them, and ending jobs that did not start in time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, func, literal, literal_column, select, update

from taurine.errors import RecordError, RecordNotFound, TransitionRefused
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.rows import later
from taurine.ledger.schema import job
from taurine.ledger.statuses import TERMINAL
from taurine.ledger.tallies import add_outcomes

__all__ = ["CancelAnswer", "Stop", "expire_due", "request_cancel", "request_cancels", "requested_stops"]


class CancelAnswer(NamedTuple):
    """What became of a request to cancel. at_once: the job is cancelled; False while a worker runs it, which is told."""

    record: JobRecord
    at_once: bool


def request_cancel(
    connection: Connection, job_id: str, at: int, reason: str | None, actor: str | None = None
) -> CancelAnswer:
    """Cancel a job that does not run, or ask the one that does to stop. at: now, ms since the epoch.

    The reason of the first request stays. A job that has just started may still be recorded as queued: it is cancelled
    all the same, its worker is told, and what it still writes is refused. Raises RecordNotFound, and TransitionRefused
    for a job that has ended.
    """
    [answer] = request_cancels(connection, [job_id], at, reason, actor)
    if isinstance(answer, RecordError):
        raise answer
    return answer


def request_cancels(
    connection: Connection, job_ids: Sequence[str], at: int, reason: str | None, actor: str | None = None
) -> list[CancelAnswer | RecordError]:
    """The same of several jobs; returns for each, in the order of the ids, what became of the request, or the error."""
    found: dict[str, CancelAnswer | RecordError] = {}
    # In one order, so that two who cancel the same ones cannot wait for each other.
    for job_id in sorted(set(job_ids)):
        try:
            found[job_id] = _request_cancel(connection, job_id, at, reason, actor)
        except RecordError as error:
            found[job_id] = error
    answers = [answer for answer in found.values() if isinstance(answer, CancelAnswer) and answer.at_once]
    # Behind all of the jobs: whoever holds the counts must wait for no job any more.
    add_outcomes(connection, [((answer.record.queue, answer.record.type), "cancelled") for answer in answers], at)
    return [found[job_id] for job_id in job_ids]


def _request_cancel(
    connection: Connection, job_id: str, at: int, reason: str | None, actor: str | None
) -> CancelAnswer:
    standing = connection.execute(select(job.c.status).where(job.c.id == job_id).with_for_update()).scalar_one_or_none()
    if standing is None:
        raise RecordNotFound(f"the ledger holds no job {job_id!r}", job_id=job_id)
    if standing in TERMINAL:
        raise TransitionRefused(f"job {job_id!r} is {standing}, so it cannot be cancelled", job_id=job_id)
    at_once = standing != "running"
    row = connection.execute(_cancelling(job_id, at, reason, at_once=at_once)).one()
    record = record_of(row)
    record_actions(connection, [AuditEntry(at, actor, "cancel", job_id, record.tenant, _detail(reason))])
    return CancelAnswer(record, at_once)


def _cancelling(job_id: str, at: int, reason: str | None, *, at_once: bool) -> Any:
    now = literal(at, BigInteger)
    values: dict[str, Any] = {
        "cancel_requested_at": func.coalesce(job.c.cancel_requested_at, now),
        "cancel_reason": func.coalesce(job.c.cancel_reason, literal(reason, Text)),
        "updated_at": later(job.c.updated_at, now),
    }
    if at_once:
        values |= {"status": "cancelled", "finished_at": now, "next_attempt_at": None}
    return update(job).where(job.c.id == job_id).values(values).returning(job)


def _detail(reason: str | None) -> str | None:
    return None if reason is None else json.dumps({"reason": reason}, ensure_ascii=False)


_IDS_AT_ONCE = 500
_standings = select(job.c.id, job.c.status, job.c.fence, job.c.cancel_requested_at, job.c.cancel_reason).where(
    job.c.id.in_(bindparam("ids", expanding=True))
)


class Stop(NamedTuple):
    """Why an attempt is to stop. overtaken: its job is not cancelled, but another attempt has it, or has ended it."""

    reason: str
    overtaken: bool = False


def requested_stops(connection: Connection, runs: Sequence[tuple[str, int]]) -> list[Stop | None]:
    """Of attempts that a worker runs, which are to stop: those whose job was cancelled, and those whose record another
    attempt has taken over or has ended.

    runs: the job and the fence of each; one job may be there with several. One query for up to 500 of them.
    """
    found: dict[str, Any] = {}
    ids = list(dict.fromkeys(job_id for job_id, _ in runs))
    for first in range(0, len(ids), _IDS_AT_ONCE):
        rows = connection.execute(_standings, {"ids": ids[first : first + _IDS_AT_ONCE]})
        found |= {row.id: row for row in rows}
    return [None if job_id not in found else _stop_of(found[job_id], fence) for job_id, fence in runs]


def _stop_of(row: Any, fence: int) -> Stop | None:
    if row.fence > fence:
        return Stop("a later attempt of the job has begun", overtaken=True)
    if row.cancel_requested_at is not None or row.status == "cancelled":
        return Stop(row.cancel_reason or "cancelled")
    # With its own fence on it, the end that stands there is this attempt's own.
    ended_by_another = row.fence < fence and row.status in TERMINAL
    return Stop(f"the job is {row.status}", overtaken=True) if ended_by_another else None


def expire_due(connection: Connection, now: int, limit: int) -> list[JobRecord]:
    """End jobs that were to start by a time that has passed, and have not, as expired; returns their records.

    now: ms since the epoch.

    At most `limit`, those that are due longest first. One whose handler has begun, but too recently for the record to
    say so, would be ended as well: its worker is refused.
    Give a `now` a few seconds back to spare it. Two callers at once share the work.
    """
    due = (
        select(job.c.id)
        # A word rather than a value: SQLite takes a partial index only then.
        .where(job.c.status == literal_column("'queued'"))
        .where(job.c.expires_at <= now, job.c.started_at.is_(None))
        .order_by(job.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        # Read once: as a condition, PostgreSQL may run it again for each row, and each time it finds others.
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    at = literal(now, BigInteger)
    rows = connection.execute(
        update(job)
        .where(job.c.id.in_(select(due.c.id)))
        .values(status="expired", finished_at=at, next_attempt_at=None, updated_at=later(job.c.updated_at, at))
        .returning(job)
    )
    records = [record_of(row) for row in rows]
    record_actions(connection, [AuditEntry(now, None, "expire", record.id, record.tenant) for record in records])
    add_outcomes(connection, (((record.queue, record.type), "expired") for record in records), now)
    return records
