"""Giving a job that waits for its start another time to start at."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select, update

from taurine.errors import RecordNotFound, TransitionRefused
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.schema import job

__all__ = ["reschedule"]


def reschedule(connection: Connection, job_id: str, start_at: int, at: int, actor: str | None = None) -> JobRecord:
    """Let a job that has not begun, or that waits for its next attempt, begin at another time, with its audit; returns
    the record, which needs a dispatch.

    start_at, at: ms since the epoch; at is now. It becomes a new generation, so that what the queue has of it with the
    old time cannot run; attempts and saved state are kept. The time by which it expires moves along with its start.
    Raises RecordNotFound, and TransitionRefused for a job that runs, waits for others, has ended, or is to be
    cancelled.
    """
    row = connection.execute(select(job).where(job.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise RecordNotFound(f"the ledger holds no job {job_id!r:.80}", job_id=job_id)
    waits = row.status in ("queued", "retrying") or (row.status == "waiting" and row.next_attempt_at is not None)
    if not waits or row.cancel_requested_at is not None:
        raise TransitionRefused(
            f"job {job_id!r} is {row.status}: only a job that waits for its start, or for its next attempt, can be given another time",
            job_id=job_id,
        )
    generation = row.generation + 1
    values: dict[str, Any] = {
        "generation": generation,
        "fence": generation << 32,
        "dispatched_at": None,
        "updated_at": max(row.updated_at, at),
    }
    if row.started_at is None:
        values["scheduled_for"] = start_at
        if row.expires_at is not None:
            values["expires_at"] = row.expires_at + start_at - (row.scheduled_for or row.created_at)
    else:
        values["next_attempt_at"] = start_at
    changed = connection.execute(update(job).where(job.c.id == job_id).values(values).returning(job)).one()
    detail = json.dumps({"generation": generation, "start_at": start_at})
    record_actions(connection, [AuditEntry(at, actor, "reschedule", job_id, changed.tenant, detail)])
    return record_of(changed)
