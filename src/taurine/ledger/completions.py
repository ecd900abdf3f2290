"""Writing that jobs completed: the statement that every job pays for, so all of a batch are in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Subquery, Update, func, update

from taurine.ledger.fences import Granted, grants, standings_against
from taurine.ledger.rows import OverRows, later
from taurine.ledger.schema import job

__all__ = ["Completion", "apply_completions"]


class Completion(NamedTuple):
    """A handler returned. output, progress: JSON text. at: now, ms.

    Its members stand as in `_COMPLETION`: a batch of them is the rows that are written, and nothing is made of it
    again.
    """

    id: str
    fence: int
    attempts: int
    output: str | None
    worker: str | None
    started_at: int
    at: int
    progress: str | None = None


_COMPLETION = ("id", "fence", "attempts", "output", "worker", "started_at", "finished_at", "progress")


def _completing(given: Subquery) -> Update:
    done = given.c
    return (
        update(job)
        .where(grants(done.id, done.fence, "completed"))
        .values(
            {
                job.c.status: "completed",
                job.c.fence: done.fence,
                job.c.attempts: done.attempts,
                job.c.output: done.output,
                job.c.error: None,
                job.c.error_fingerprint: None,
                job.c.worker: done.worker,
                job.c.started_at: done.started_at,
                job.c.finished_at: done.finished_at,
                job.c.next_attempt_at: None,
                job.c.updated_at: later(job.c.updated_at, done.finished_at),
                job.c.progress: func.coalesce(done.progress, job.c.progress),
                job.c.state: None,
            }
        )
    )


_complete = OverRows(job, _COMPLETION, _completing)


def apply_completions(connection: Connection, items: Sequence[Completion]) -> list[Granted]:
    """Write that jobs completed. A job that had ended, or has a later claim, is left as it is; its status is returned."""
    granted = _complete.execute(connection, items)
    if granted == len(items):
        return [None] * len(items)
    return _refusals(connection, items)


def _refusals(connection: Connection, items: Sequence[Completion]) -> list[Granted]:
    """Some were refused: the records tell which.

    One that holds just this completion was granted, now or when it was written before.
    """
    found = standings_against(connection, [item.id for item in items])
    refusals: list[Granted] = []
    for item in items:
        row = found.get(item.id)
        if row is None:
            refusals.append("missing")
        else:
            same = (row.status, row.fence, row.finished_at) == ("completed", item.fence, item.at)
            refusals.append(None if same else row.status)
    return refusals
