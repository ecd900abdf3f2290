"""Which of several claims of a job may write to its record: the one with the highest fence, until the job has ended.

A fence is `generation << 32 | attempts started`. The second number is the queue's own counter, raised by each claim;
the first is raised each time the ledger hands the job over anew, so that it stays in order when the queue has lost its
counter. Whatever a worker writes carries the fence of its claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, bindparam, literal_column, select

from taurine.ledger.schema import job, status_beside_id
from taurine.ledger.statuses import Status, allowed_from

__all__ = ["Granted", "fence_of", "grants", "standings_against"]

Granted: TypeAlias = "Status | Literal['missing'] | None"
"""None when the write was granted; else the status of the record that refused it, `missing` for none at all."""


def fence_of(generation: int, attempts_started: int) -> int:
    """The number that orders all claims of a job: a later one's is higher, whatever Redis lost in between."""
    return generation << 32 | attempts_started


def grants(id_: Any, fence: Any, status: Status) -> Any:
    """The condition under which a claim may write `status`, as SQL: no later claim has written, and the status may
    follow on the one that stands.
    """
    # Literals, since a list that is bound cannot be in a statement that runs for many rows.
    before: list[Any] = [literal_column(repr(word)) for word in allowed_from(status)]
    return (job.c.id == id_) & (job.c.fence <= fence) & status_beside_id.in_(before)


_standings = select(job.c.id, job.c.status, job.c.fence, job.c.finished_at).where(
    job.c.id.in_(bindparam("ids", expanding=True))
)


def standings_against(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    """How the records stand that refused a write, by id: `status`, `fence`, `finished_at`.

    Those that are not there are left out.
    """
    return {row.id: row for row in connection.execute(_standings, {"ids": ids})}
