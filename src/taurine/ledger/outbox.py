"""Records that the queue has not been told of: finding them, and stamping those it was told of.

An open record without `dispatched_at` still needs a dispatch, whoever committed it and whatever became of that process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    Subquery,
    Update,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
    union_all,
    update,
)

from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.rows import OverRows, is_postgresql
from taurine.ledger.schema import job
from taurine.ledger.statuses import TERMINAL

__all__ = [
    "Dispatched",
    "OutboxLag",
    "outbox_lag",
    "stamp_dispatched",
    "take_undispatched",
    "undispatched_kinds",
    "unstarted_since",
]

MOST_BYTES = 16 * 1024 * 1024
"""Of one look at what needs a dispatch: payloads may have a megabyte each, and are then in memory several times, as
text, in a packed command and in the socket.
"""

_SQLITE_KNOWS_BYTES = sqlite3.sqlite_version_info >= (3, 43)

_COUNT_AT_MOST = 10_001
"""Records of one queue that are counted: enough to see that it is many, few enough to ask often."""


class Dispatched(NamedTuple):
    """A record of this generation was added to its queue. at: ms since the epoch."""

    id: str
    generation: int
    at: int


class OutboxLag(NamedTuple):
    """How far the outbox is behind.

    waiting: records that wait, at most 10,001 of each queue. oldest_created_at, lag_ms: of the first of them.
    """

    waiting: int
    oldest_created_at: int | None
    lag_ms: int


# Word for word the condition of the index `taurine_job_undispatched`: SQLite takes a partial index only then.
_terminal = ", ".join(map(repr, sorted(TERMINAL)))
_needs_dispatch = text(f"dispatched_at IS NULL AND NOT (status IN ({_terminal}))")


def take_undispatched(
    connection: Connection,
    queues: Sequence[str],
    limit: int,
    older_than_ms: int,
    *,
    types: Sequence[str] | None = None,
    most_bytes: int = MOST_BYTES,
) -> list[JobRecord]:
    """The records that need a dispatch and were created at or before `older_than_ms`, ms since the epoch, oldest first.

    types: only jobs of these; a caller that can hand over no others would find a queue's first ones in its way for
    ever. Default: all.
    limit: records of each queue, so that a long backlog of one does not keep the others waiting. Records of one
    millisecond are in the order of their ids.
    most_bytes: of payloads and saved states, of all queues together; each queue gets an equal share, and its first
    record however large it is. An SQLite before 3.43 counts characters. Default: 16 MiB.

    Nothing is locked, and several relays may take the same records. A lock would either be held while the queue is
    added to, which can take seconds, or be gone before it; and a relay that skipped what another had locked would add
    later records of a queue before earlier ones. Without locks every relay adds a queue's records in this one order,
    and adding is idempotent by id: when any of them adds a record, all before it are there.
    """
    if not queues:
        return []
    # `octet_length` reads no payload to know its size.
    measure = func.octet_length if is_postgresql(connection) or _SQLITE_KNOWS_BYTES else func.length
    shares = [
        _undispatched_of(queue, older_than_ms, limit, types, measure=measure, most_bytes=most_bytes // len(queues))
        for queue in queues
    ]
    found = union_all(*(select(share.subquery()) for share in shares)).subquery()
    query = select(job).join(found, found.c.id == job.c.id).order_by(job.c.created_at, job.c.id)
    return [record_of(row) for row in connection.execute(query)]


def _undispatched_of(
    queue: str, created_until: int, limit: int, types: Sequence[str] | None, *, measure: Any, most_bytes: int
) -> Select[Any]:
    """The ids of the first ones of a queue: as many as `limit` and `most_bytes` allow, and one at least.

    measure: the function that tells a text's size.
    """
    size = measure(job.c.payload) + func.coalesce(measure(job.c.state), 0)
    first = (
        select(job.c.id, job.c.created_at, size.label("size"))
        .where(job.c.queue == queue, job.c.created_at <= created_until, _needs_dispatch)
        .order_by(job.c.created_at, job.c.id)
        .limit(limit)
    )
    if types is not None:
        # An expression, so that no database walks the index of types, which has the finished jobs as well.
        first = first.where(job.c.type.concat("").in_(types))
    found = first.subquery()
    until_here = func.sum(found.c.size).over(order_by=(found.c.created_at, found.c.id))
    summed = select(found.c.id, found.c.size, until_here.label("until_here")).subquery()
    return select(summed.c.id).where((summed.c.until_here <= most_bytes) | (summed.c.until_here == summed.c.size))


_STAMP = ("id", "generation", "dispatched_at")


def _stamping(given: Subquery) -> Update:
    # A worker may be writing the outcome of a job that was added just now. Waiting for it could be a deadlock, since both write many rows in an order of
    # their own. A stamp is skipped instead: a record that is still open then is added once more, which changes nothing.
    free = (
        select(job.c.id, given.c.dispatched_at)
        .join(given, (job.c.id == given.c.id) & (job.c.generation == given.c.generation))
        .where(job.c.dispatched_at.is_(None))
        .with_for_update(of=job, skip_locked=True)
        .cte("free")
    )
    return update(job).where(job.c.id == free.c.id).values(dispatched_at=free.c.dispatched_at)


_stamp = OverRows(job, _STAMP, _stamping)


def stamp_dispatched(connection: Connection, items: Sequence[Dispatched]) -> list[None]:
    """Write that records were added to their queues.

    A record of another generation by now is left alone, as that one needs a dispatch of its own; the first stamp
    counts. On PostgreSQL a record that another transaction is writing may be left without: it is added again then.
    """
    _stamp.execute(connection, items)
    return [None] * len(items)


def undispatched_kinds(connection: Connection, created_until: int) -> list[tuple[str, str, int]]:
    """Types and queues of records that need a dispatch and were created at or before a time, ms since the epoch, each
    with how many; 10,001 are looked at.
    """
    waiting = (
        select(job.c.type, job.c.queue)
        .where(_needs_dispatch, job.c.created_at <= created_until)
        .limit(_COUNT_AT_MOST)
        .subquery()
    )
    counted = select(waiting.c.type, waiting.c.queue, func.count()).group_by(waiting.c.type, waiting.c.queue)
    return [(kind, queue, count) for kind, queue, count in connection.execute(counted)]


# Word for word the condition of the index `taurine_job_unfinished`, and literals, so that either database knows that it serves.
_unstarted = (
    select(job.c.id)
    .where(
        text("status <> 'completed'"),
        job.c.status.in_([literal_column("'cancelled'"), literal_column("'expired'")]),
        job.c.created_at >= bindparam("since", type_=BigInteger),
    )
    .limit(500)
)


def unstarted_since(connection: Connection, created_since: int) -> list[str]:
    """Ids of jobs created at or after a time, ms since the epoch, that are cancelled or have expired; 500 at most."""
    return list(connection.execute(_unstarted, {"since": created_since}).scalars())


def outbox_lag(connection: Connection, queues: Sequence[str], now: int) -> OutboxLag:
    """How many records of these queues need a dispatch, and how long the first has waited. now: ms since the epoch."""
    if not queues:
        return OutboxLag(0, None, 0)
    rows = connection.execute(union_all(*map(_lag_of, queues))).all()
    oldest = min((row.oldest for row in rows if row.oldest is not None), default=None)
    return OutboxLag(sum(row.waiting for row in rows), oldest, 0 if oldest is None else max(0, now - oldest))


def _lag_of(queue: str) -> Select[int, Any]:
    first = (
        select(literal(1).label("one"), job.c.created_at)
        .where(job.c.queue == queue, _needs_dispatch)
        .order_by(job.c.created_at)
        .limit(_COUNT_AT_MOST)
        .subquery()
    )
    return select(func.count(first.c.one).label("waiting"), func.min(first.c.created_at).label("oldest"))
