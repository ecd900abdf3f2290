"""What runs, and since when: of the jobs that hold the slots of workers."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, literal_column, select, text

from taurine.ledger.schema import job

__all__ = ["Run", "runs_before"]

_LOOKED_AT = 10_000
"""Rows that are looked at: more than run at once."""


class Run(NamedTuple):
    """A record that is running. started_at: ms since the epoch, of this attempt."""

    id: str
    queue: str
    worker: str | None
    started_at: int


def runs_before(connection: Connection, before: int, *, queue: str | None = None, limit: int = _LOOKED_AT) -> list[Run]:
    """What started before `before`, ms since the epoch, and runs; what has run for longest comes first.

    queue: of this one. Default: of all. limit: at most so many. Of the 10,000 running records that were created first.
    A record says that it runs some moments after its handler began.
    """
    # The condition of the index `taurine_job_unfinished` word for word, so that either database knows that it serves.
    running = (
        select(job.c.id, job.c.queue, job.c.worker, job.c.started_at)
        .where(job.c.status == literal_column("'running'"), text("status <> 'completed'"))
        .order_by(job.c.created_at, job.c.id)
        .limit(_LOOKED_AT)
        .subquery("running")
    )
    found = select(running).where(running.c.started_at < before).order_by(running.c.started_at, running.c.id)
    if queue is not None:
        found = found.where(running.c.queue == queue)
    return [Run(*row) for row in connection.execute(found.limit(limit))]
