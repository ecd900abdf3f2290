"""The attempts of a job, as they are read: those that failed have rows of their own, the latest one is what the job's
row tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, Select, select

from taurine.ledger.fences import fence_of
from taurine.ledger.numbered import read_number, require_limit
from taurine.ledger.records import JobRecord
from taurine.ledger.schema import attempt

__all__ = ["Attempt", "AttemptOutcome", "latest_attempts", "list_attempts"]

AttemptOutcome: TypeAlias = Literal["retried", "failed", "snoozed", "cancelled", "completed", "running"]


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


def list_attempts(
    connection: Connection, record: JobRecord, *, cursor: str | None, limit: int, newest_first: bool
) -> tuple[list[Attempt], str | None]:
    """A page of the attempts of a job, and the cursor of the page after it: those that did not complete it, and the one
    that its record shows as running or completed.

    limit: 1 to 500. Raises InvalidOption, also for a cursor that no page gave.
    """
    fence = attempt.c.fence
    query = _of(record).order_by(fence.desc() if newest_first else fence).limit(require_limit(limit) + 1)
    after = None if cursor is None else read_number(cursor)
    if after is not None:
        query = query.where(fence < after if newest_first else fence > after)
    found = [(row.fence, _attempt_of(row)) for row in connection.execute(query)]
    if record.status in ("running", "completed") and (
        after is None or (record.fence < after if newest_first else record.fence > after)
    ):
        # No attempt has a higher fence.
        found.insert(0 if newest_first else len(found), (record.fence, _latest_of(record)))
    page = found[:limit]
    return [one for _, one in page], str(page[-1][0]) if len(found) > limit else None


def latest_attempts(connection: Connection, record: JobRecord, *, generation: int, limit: int) -> list[Attempt]:
    """The latest attempts of a job up to those of a generation, oldest first: as many as `limit` that did not complete
    it, and the one that its record shows.
    """
    before = attempt.c.fence < fence_of(generation + 1, 0)
    rows = connection.execute(_of(record).where(before).order_by(attempt.c.fence.desc()).limit(limit)).all()
    found = [_attempt_of(row) for row in reversed(rows)]
    if record.status in ("running", "completed") and record.generation <= generation:
        found.append(_latest_of(record))
    return found


def _of(record: JobRecord) -> Select[*tuple[Any, ...]]:
    return select(attempt).where(attempt.c.job_id == record.id)


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
