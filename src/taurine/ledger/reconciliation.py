"""What the ledger has to say when it is compared with the queues: pages of records that should be there, and how known
ids stand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, literal_column, select, text, tuple_, update

from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.generations import Seen
from taurine.ledger.rows import later
from taurine.ledger.schema import job, status_beside_id
from taurine.ledger.statuses import OPEN, Status
from taurine.ledger.tallies import Kind, add_outcomes

__all__ = ["DispatchedRecord", "Place", "RecordStanding", "cancel_vanished", "dispatched_page", "standings_of"]

Place = tuple[int, int, str]
"""Where a page ended: the number of the status in `OPEN`, and created_at and id of the last record."""


class DispatchedRecord(NamedTuple):
    """An open record whose job was added to its queue. dispatched_at: ms since the epoch."""

    id: str
    type: str
    queue: str
    status: Status
    generation: int
    fence: int
    max_attempts: int
    source: str | None
    created_at: int
    dispatched_at: int

    @property
    def seen(self) -> Seen:
        """The record as it was seen, for a write that is to find it so."""
        return Seen(self.id, self.generation, self.fence)


_columns = (
    *(job.c.id, job.c.type, job.c.queue, job.c.status, job.c.generation, job.c.fence, job.c.max_attempts),
    *(job.c.source, job.c.created_at, job.c.dispatched_at),
)
# SQLite takes the partial index only where its condition is in the query word for word.
_unfinished = text("status <> 'completed'")


def dispatched_page(
    connection: Connection, after: Place | None, limit: int, dispatched_until: int
) -> tuple[list[DispatchedRecord], Place | None]:
    """Open records that were added to their queues at or before a time, ms since the epoch; and the place after which
    the next page begins.

    Looks at `limit` records at most, whatever their queues, and so may return fewer, or none, before the end; after the
    end the place is None.
    """
    number, *last = after or (0,)
    query = (
        select(*_columns)
        # A literal, or PostgreSQL could not know that the index of unfinished records serves.
        .where(_unfinished, job.c.status == literal_column(repr(OPEN[number])))
        .order_by(job.c.created_at, job.c.id)
        .limit(limit)
    )
    if last:
        query = query.where(tuple_(job.c.created_at, job.c.id) > tuple(last))
    rows = connection.execute(query).all()
    page = [
        DispatchedRecord(*row)
        for row in rows
        if row.dispatched_at is not None and row.dispatched_at <= dispatched_until
    ]
    return page, _place_after(rows, number, limit)


def _place_after(rows: Sequence[Any], number: int, limit: int) -> Place | None:
    if len(rows) == limit:
        return number, rows[-1].created_at, rows[-1].id
    # Before the first record of the next status.
    return (number + 1, -1, "") if number + 1 < len(OPEN) else None


class RecordStanding(NamedTuple):
    """How a record stands. finished_at: ms since the epoch, None for an open one."""

    id: str
    queue: str
    status: Status
    generation: int
    finished_at: int | None


_IDS_AT_ONCE = 500
_by_ids = select(job.c.id, job.c.queue, job.c.status, job.c.generation, job.c.finished_at).where(
    job.c.id.in_(bindparam("ids", expanding=True))
)


def standings_of(connection: Connection, ids: Sequence[str]) -> dict[str, RecordStanding]:
    """How the records of these ids stand, by id; those that are not there are left out."""
    found: dict[str, RecordStanding] = {}
    for first in range(0, len(ids), _IDS_AT_ONCE):
        for row in connection.execute(_by_ids, {"ids": ids[first : first + _IDS_AT_ONCE]}):
            found[row.id] = RecordStanding(*row)
    return found


_cancel = (
    update(job)
    .where(
        job.c.id == bindparam("id_value"),
        job.c.generation == bindparam("generation_value"),
        job.c.fence == bindparam("fence_value"),
        status_beside_id.in_(OPEN),
    )
    .values(
        status="cancelled",
        finished_at=bindparam("at", type_=BigInteger),
        updated_at=later(job.c.updated_at, bindparam("at", type_=BigInteger)),
        cancel_reason=bindparam("reason"),
        next_attempt_at=None,
    )
    .returning(job.c.tenant, job.c.queue, job.c.type)
)


def cancel_vanished(connection: Connection, vanished: Sequence[Seen], at: int, reason: str) -> list[bool]:
    """Cancel open jobs that somebody took out of their queue, with their audit; True for each that was.

    at: now, ms since the epoch.

    False for a record that is no longer as it was seen: a worker has written to it, or it has ended.
    """
    done: dict[str, AuditEntry] = {}
    kinds: list[Kind] = []
    detail = json.dumps({"reason": reason}, ensure_ascii=False)
    # In one order, so that two reconcilers cannot wait for each other.
    for item in sorted(vanished):
        values = {
            "id_value": item.id,
            "generation_value": item.generation,
            "fence_value": item.fence,
            "at": at,
            "reason": reason,
        }
        row = connection.execute(_cancel, values).one_or_none()
        if row is not None:
            done[item.id] = AuditEntry(at, None, "cancel", item.id, row.tenant, detail)
            kinds.append((row.queue, row.type))
    record_actions(connection, list(done.values()))
    add_outcomes(connection, ((kind, "cancelled") for kind in kinds), at)
    return [item.id in done for item in vanished]
