"""Who did what: rows that are only ever added, and that outlive the jobs they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from taurine.ledger.schema import audit

__all__ = ["AuditEntry", "actions_on", "record_actions"]


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
