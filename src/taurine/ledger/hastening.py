"""Letting a job that waits for its next attempt run at once."""

from __future__ import annotations

import json

from sqlalchemy import BigInteger, Connection, literal, select, update

from taurine.errors import RecordNotFound, TransitionRefused
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.rows import later
from taurine.ledger.schema import job

__all__ = ["hasten"]


def hasten(connection: Connection, job_id: str, at: int, actor: str | None = None) -> JobRecord:
    """Drop the pause before the next attempt of a job that is `retrying`, with its audit; returns the record.

    at: now, ms since the epoch.

    The queue is to be told by whoever calls this. Safe to repeat. Raises RecordNotFound, and TransitionRefused for a
    job of another status.
    """
    standing = connection.execute(select(job.c.status).where(job.c.id == job_id).with_for_update()).scalar_one_or_none()
    if standing is None:
        raise RecordNotFound(f"the ledger holds no job {job_id!r:.80}", job_id=job_id)
    if standing != "retrying":
        raise TransitionRefused(
            f"job {job_id!r} is {standing}: only a job that has ended, or waits for its next attempt, can be retried by hand",
            job_id=job_id,
        )
    row = connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(next_attempt_at=None, updated_at=later(job.c.updated_at, literal(at, BigInteger)))
        .returning(job)
    ).one()
    record = record_of(row)
    detail = json.dumps({"attempt": record.attempts + 1})
    record_actions(connection, [AuditEntry(at, actor, "retry", job_id, record.tenant, detail)])
    return record
