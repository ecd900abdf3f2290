"""Writing that handlers run: of those that take long enough for somebody to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, update

from taurine.ledger.fences import Granted, grants, standings_against
from taurine.ledger.rows import bound, insert_ignore, later
from taurine.ledger.schema import attempt, job

__all__ = ["Lost", "Start", "apply_starts", "record_lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A handler has begun and is likely to run for a while."""

    id: str
    fence: int
    attempts: int
    worker: str | None
    started_at: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An attempt of which no end was told. error: JSON."""

    id: str
    fence: int
    number: int
    worker: str | None
    started_at: int | None
    at: int
    error: str
    error_fingerprint: str


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


def record_lost(connection: Connection, item: Lost) -> None:
    """Keep that there was such an attempt. One whose end is there already stays as it is."""
    connection.execute(
        insert_ignore(connection, attempt),
        {
            "job_id": item.id,
            "fence": item.fence,
            "number": item.number,
            "outcome": "retried",
            "worker": item.worker,
            "started_at": item.started_at,
            "finished_at": item.at,
            "error": item.error,
            "error_fingerprint": item.error_fingerprint,
            "next_at": None,
        },
    )
