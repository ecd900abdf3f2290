"""What types are queued: of what there is to do for workers."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, literal_column, select, text

from taurine.ledger.schema import job

__all__ = ["QueuedType", "queued_types"]

_LOOKED_AT = 10_000
"""Rows that are counted."""


class QueuedType(NamedTuple):
    """Records of a type and queue that are queued."""

    type: str
    queue: str
    number: int


def queued_types(connection: Connection) -> list[QueuedType]:
    """The types of the 10,000 records that are queued for longest, what is due later included; those with most first."""
    # The condition of the index `taurine_job_unfinished` word for word, so that either database knows that it serves.
    queued = (
        select(job.c.type, job.c.queue)
        .where(job.c.status == literal_column("'queued'"), text("status <> 'completed'"))
        .order_by(job.c.created_at, job.c.id)
        .limit(_LOOKED_AT)
        .subquery("queued")
    )
    number = func.count().label("number")
    counted = select(queued.c.type, queued.c.queue, number).group_by(queued.c.type, queued.c.queue)
    rows = connection.execute(counted.order_by(number.desc(), queued.c.queue, queued.c.type))
    return [QueuedType(row.type, row.queue, row.number) for row in rows]
