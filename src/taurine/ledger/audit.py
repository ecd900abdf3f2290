"""Who did what: rows that are only ever added, and that outlive the jobs they speak of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select

from taurine.ledger.numbered import read_number, require_limit
from taurine.ledger.schema import audit

__all__ = ["ActionFilter", "AuditEntry", "actions_on", "jobs_acted_on", "list_actions", "record_actions"]


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


def actions_on(connection: Connection, job_id: str, *, limit: int = 1000) -> list[AuditEntry]:
    """What was done to a job, oldest first: the latest `limit` actions."""
    latest = select(audit).where(audit.c.job_id == job_id).order_by(audit.c.number.desc()).limit(limit)
    return [_entry_of(row) for row in reversed(connection.execute(latest).all())]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFilter:
    """Which actions to list; each one that is given must hold.

    since, until: ms since the epoch; the first is included, the second is not.
    """

    actor: str | None = None
    action: str | None = None
    tenant: str | None = None
    job_id: str | None = None
    since: int | None = None
    until: int | None = None


def list_actions(
    connection: Connection, wanted: ActionFilter, *, cursor: str | None, limit: int, newest_first: bool = True
) -> tuple[list[AuditEntry], str | None]:
    """A page of what was done, the latest first unless `newest_first` is False, and the cursor of the page after it.

    limit: 1 to 500.

    The rows are read by their number until the page is full: of all jobs an action that is rare, or old, costs all rows
    since. One job's have an index.
    Raises InvalidOption for a cursor that no page gave.
    """
    number = audit.c.number
    query = select(audit).where(*_conditions(wanted)).order_by(number.desc() if newest_first else number)
    query = query.limit(require_limit(limit) + 1)
    if cursor is not None:
        after = read_number(cursor)
        query = query.where(number < after if newest_first else number > after)
    rows = connection.execute(query).all()
    more = len(rows) > limit
    return [*map(_entry_of, rows[:limit])], str(rows[limit - 1].number) if more else None


def _conditions(wanted: ActionFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("actor", "action", "tenant", "job_id"):
        if (value := getattr(wanted, name)) is not None:
            yield audit.c[name] == value
    if wanted.since is not None:
        yield audit.c.at >= wanted.since
    if wanted.until is not None:
        yield audit.c.at < wanted.until


def _entry_of(row: Row[Any]) -> AuditEntry:
    return AuditEntry(row.at, row.actor, row.action, row.job_id, row.tenant, row.detail)


def jobs_acted_on(connection: Connection, after: int | None, limit: int) -> tuple[int, list[str]]:
    """The number of the latest action, and the ids of the jobs of those since action `after`, at most of the last
    `limit`. after: None for as many as there are.

    What merely accepts a job is left out. One range of the primary key, and hardly a row where nobody acts. A
    transaction that is under way may still commit a lower number: ask again for some that were read.
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
