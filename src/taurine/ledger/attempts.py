"""The attempts of a job, as they are read: those that failed have rows of their own, the latest one is what the job's
row tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, select

from taurine.ledger.records import JobRecord
from taurine.ledger.schema import attempt

__all__ = ["Attempt", "AttemptOutcome", "list_attempts"]

AttemptOutcome: TypeAlias = Literal["retried", "failed", "snoozed", "cancelled", "completed", "running"]

MOST_ATTEMPTS = 500
"""Attempts that are read of one job, the latest."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One time that a job was started; a snapshot. Times are aware datetimes, UTC."""

    generation: int
    """How often the job had been put back or run again when it was started."""
    number: int
    """1 for the first that was charged; a snooze has the number of the one before it."""
    outcome: AttemptOutcome
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    """None while it runs."""
    next_at: datetime | None
    """When the next attempt was to start."""
    error_fingerprint: str | None
    error_json: str | None = field(repr=False)

    @cached_property
    def error(self) -> dict[str, Any] | None:
        """What it failed with: `type`, `message`, `traceback`."""
        return None if self.error_json is None else json.loads(self.error_json)


def list_attempts(connection: Connection, record: JobRecord) -> list[Attempt]:
    """The attempts of a job, oldest first: the latest 500 that did not complete it, and the one that its record shows
    as running or completed.
    """
    newest = select(attempt).where(attempt.c.job_id == record.id).order_by(attempt.c.fence.desc()).limit(MOST_ATTEMPTS)
    found = [_attempt_of(row) for row in reversed(connection.execute(newest).all())]
    if record.status in ("running", "completed"):
        found.append(_latest_of(record))
    return found


def _attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        generation=row.fence >> 32,
        number=row.number,
        outcome=row.outcome,
        worker=row.worker,
        started_at=_time(row.started_at),
        finished_at=_time(row.finished_at),
        next_at=_time(row.next_at),
        error_fingerprint=row.error_fingerprint,
        error_json=row.error,
    )


def _latest_of(record: JobRecord) -> Attempt:
    running = record.status == "running"
    return Attempt(
        generation=record.generation,
        # The record of a running job counts the attempts that have ended.
        number=record.attempts + 1 if running else record.attempts,
        outcome="running" if running else "completed",
        worker=record.worker,
        started_at=record.started_at,
        finished_at=record.finished_at,
        next_at=None,
        error_fingerprint=None,
        error_json=None,
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
