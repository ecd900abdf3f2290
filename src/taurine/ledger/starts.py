"""Writing that handlers run: of those that take long enough for somebody to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, update

from taurine.ledger.fences import Granted, grants, standings_against
from taurine.ledger.rows import bound, later
from taurine.ledger.schema import job

__all__ = ["Start", "apply_starts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A handler has begun and is likely to run for a while."""

    id: str
    fence: int
    attempts: int
    worker: str | None
    started_at: int
    at: int


_start = (
    update(job)
    .where(grants(bindparam("id_value"), bound(job.c.fence), "running"))
    .values(
        status="running",
        fence=bound(job.c.fence),
        attempts=bound(job.c.attempts),
        worker=bound(job.c.worker),
        started_at=bound(job.c.started_at),
        next_attempt_at=None,
        updated_at=later(job.c.updated_at, bound(job.c.updated_at)),
    )
)


def apply_starts(connection: Connection, items: Sequence[Start]) -> list[Granted]:
    """Write that handlers run. Granted as completions are."""
    standings: dict[int, Granted] = {}
    # By their jobs: two transactions that write the same ones cannot wait for each other.
    for number, item in sorted(enumerate(items), key=lambda pair: pair[1].id):
        done = connection.execute(
            _start,
            {
                "id_value": item.id,
                "fence_value": item.fence,
                "attempts_value": item.attempts,
                "worker_value": item.worker,
                "started_at_value": item.started_at,
                "updated_at_value": item.at,
            },
        )
        standings[number] = None if done.rowcount else _status_of(connection, item.id)
    return [standings[number] for number in range(len(items))]


def _status_of(connection: Connection, job_id: str) -> Granted:
    row = standings_against(connection, [job_id]).get(job_id)
    return "missing" if row is None else row.status
