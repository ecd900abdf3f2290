"""What the records say of each queue: how many there are of each status, since when the first one waits, and whether
anything is left to do.

A queue has no index of its own. So the newest rows of each status are counted for all queues together, a bounded number
of them, along the indexes that lists use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, literal_column, or_, select, text

from taurine.ledger.listing import Count
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.schema import job
from taurine.ledger.statuses import STATUSES, TERMINAL, Status

__all__ = [
    "QueueRecords",
    "count_by_queue",
    "created_before",
    "has_work",
    "records_of_queue",
    "remove_ended_before",
    "remove_ended_of",
]

_LOOKED_AT = 10_000
"""Rows of one status that are counted: as many as `count_by_status` counts."""


class QueueRecords(NamedTuple):
    """The records of one queue.

    due_since: ms since the epoch, when the first of those became due that wait for their first start; None for none.
    """

    counts: dict[Status, Count]
    due_since: int | None


def count_by_queue(connection: Connection, now: int) -> dict[str, QueueRecords]:
    """The records of every queue that has some among the newest 10,000 of a status. now: ms since the epoch.

    A count is exact where fewer than that many rows of all queues have its status. Who waits is looked for among the
    oldest 10,000 that are queued.
    """
    numbers: dict[str, dict[Status, int]] = defaultdict(dict)
    exact: dict[Status, bool] = {}
    for status in STATUSES:
        rows = connection.execute(_by_queue(status)).all()
        exact[status] = sum(row.seen for row in rows) < _LOOKED_AT
        for row in rows:
            if row.number:
                numbers[row.queue][status] = row.number
    due = {row.queue: row.since for row in connection.execute(_due(now))}
    return {
        queue: QueueRecords({status: Count(found.get(status, 0), exact[status]) for status in STATUSES}, due.get(queue))
        for queue, found in numbers.items()
    }


def _of(status: Status) -> ColumnElement[bool]:
    # Literals, and the condition of the index `taurine_job_unfinished` word for word, so that either database knows that it serves.
    same = job.c.status == literal_column(repr(status))
    return same if status == "completed" else and_(same, text("status <> 'completed'"))


def _by_queue(status: Status) -> Select[str, int, int]:
    newest = select(job.c.queue, job.c.status).order_by(job.c.created_at.desc(), job.c.id.desc()).limit(_LOOKED_AT)
    # Completed ones have no index of their own; where there are many, they are most of all records.
    looked_at = (newest if status == "completed" else newest.where(_of(status))).subquery("newest")
    counted = func.count().filter(looked_at.c.status == literal_column(repr(status)))
    return select(looked_at.c.queue, counted.label("number"), func.count().label("seen")).group_by(looked_at.c.queue)


# `JobRecord.due_at`.
_planned_at = func.coalesce(job.c.next_attempt_at, case((job.c.started_at.is_(None), job.c.scheduled_for)))

# The same, or the time since which a job without one waits. One that is run again waits since then, which is when its record was changed last.
_due_at = func.coalesce(
    _planned_at,
    case((job.c.generation == 0, job.c.created_at), else_=job.c.updated_at),
)


def _due(now: int) -> Select[str, int]:
    oldest = (
        select(job.c.queue, _due_at.label("due_at"))
        .where(_of("queued"))
        .order_by(job.c.created_at, job.c.id)
        .limit(_LOOKED_AT)
        .subquery("oldest")
    )
    since = func.min(oldest.c.due_at).label("since")
    return select(oldest.c.queue, since).where(oldest.c.due_at <= now).group_by(oldest.c.queue)


def has_work(connection: Connection, queues: Collection[str], now: int) -> bool:
    """True while a job of these queues runs, is due, or has begun and is to go on, retries included.

    One that was accepted for a later time is no work yet.
    """
    begun = or_(*(and_(_of(status), job.c.queue.in_(queues)) for status in ("running", "retrying", "waiting")))
    due = and_(_of("queued"), job.c.queue.in_(queues), _due_at <= now)
    return connection.execute(select(job.c.id).where(or_(begun, due)).limit(1)).first() is not None


def records_of_queue(
    connection: Connection, queue: str, statuses: Sequence[Status], after: str, limit: int, *, due_by: int | None = None
) -> list[str]:
    """Ids of records of a queue that have one of these statuses, in the order of their ids.

    after: the last id of the page before, "" for the first page.

    due_by: leave out those that are due later, ms since the epoch. Default: none is left out.
    """
    these = or_(*map(_of, statuses))
    query = select(job.c.id).where(these, job.c.queue == queue, job.c.id > after).order_by(job.c.id).limit(limit)
    if due_by is not None:
        query = query.where(or_(_planned_at.is_(None), _planned_at <= due_by))
    return list(connection.execute(query).scalars())


_ended = job.c.status.in_([literal_column(repr(status)) for status in sorted(TERMINAL)])


def remove_ended_of(connection: Connection, queue: str, job_type: str, limit: int) -> int:
    """Remove up to `limit` records of a type and queue that have ended, with their attempts, tags and lines; returns
    how many there were.
    """
    mine = and_(job.c.type == job_type, job.c.queue == queue, _ended)
    ids = select(job.c.id).where(mine).order_by(job.c.created_at, job.c.id).limit(limit)
    return connection.execute(delete(job).where(job.c.id.in_(ids), mine)).rowcount


def created_before(connection: Connection, ids: Sequence[str], before: int) -> list[str]:
    """Of these records, the ids of those that were accepted before `before`, ms since the epoch."""
    query = select(job.c.id).where(job.c.id.in_(list(ids)), job.c.created_at < before).order_by(job.c.id)
    return list(connection.execute(query).scalars())


def remove_ended_before(
    connection: Connection, queue: str, status: Status, before: int, *, after: str = "", limit: int
) -> list[JobRecord]:
    """Remove up to `limit` records of a queue that have this terminal status and ended before `before`, ms since the
    epoch; returns them, in the order of their ids.

    after: the last id of the step before. Default: this is the first. Their attempts, tags and lines go too; what has
    been run again meanwhile stays.
    """
    mine = and_(_of(status), job.c.queue == queue, job.c.finished_at < before)
    ids = select(job.c.id).where(mine, job.c.id > after).order_by(job.c.id).limit(limit)
    chosen = list(connection.execute(ids.with_for_update()).scalars())
    rows = connection.execute(delete(job).where(job.c.id.in_(chosen), mine).returning(job))
    return sorted(map(record_of, rows), key=attrgetter("id"))
