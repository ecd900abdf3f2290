"""Who did what: rows that are only ever added, and that outlive the jobs they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from taurine.ledger.schema import audit

__all__ = ["AuditEntry", "actions_on", "jobs_acted_on", "record_actions"]


class AuditEntry(NamedTuple):
    """One action. at: ms since the epoch. actor: None when Taurine itself did it. detail: JSON text."""

    at: int
    actor: str | None
    action: str
    job_id: str | None = None
    tenant: str | None = None
    detail: str | None = None


def record_actions(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Add rows, in the transaction of what they tell of."""
    if entries:
        connection.execute(insert(audit), [entry._asdict() for entry in entries])


def actions_on(connection: Connection, job_id: str) -> list[AuditEntry]:
    """What was done to a job, oldest first."""
    rows = connection.execute(select(audit).where(audit.c.job_id == job_id).order_by(audit.c.number))
    return [AuditEntry(row.at, row.actor, row.action, row.job_id, row.tenant, row.detail) for row in rows]


def jobs_acted_on(connection: Connection, after: int | None, limit: int) -> tuple[int, list[str]]:
    """The number of the latest action, and the ids of the jobs of those since action `after`, at most of the last `limit`. after: None for as many as there are.

    What merely accepts a job is left out. One range of the primary key, and hardly a row where nobody acts. A transaction that is under way may still commit a lower
    number: ask again for some that were read.
    """
    latest = connection.execute(select(func.max(audit.c.number))).scalar() or 0
    if after is None or after > latest:  # SQLite counts from the start again once all rows were purged
        after = 0
    since = max(latest - limit, after)
    rows = connection.execute(
        select(audit.c.job_id)
        .where(audit.c.number > since, audit.c.job_id.is_not(None), audit.c.action != "enqueue")
        .order_by(audit.c.number)
    )
    return latest, [row.job_id for row in rows]
