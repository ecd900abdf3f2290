"""What running handlers save: their progress, and the state that their next attempt is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Subquery, Update, bindparam, func, literal_column, select, update

from taurine.ledger.fences import Granted
from taurine.ledger.rows import OverRows, later
from taurine.ledger.schema import job, status_beside_id
from taurine.ledger.statuses import OPEN, TERMINAL

__all__ = ["Progress", "save_progress"]


class Progress(NamedTuple):
    """What a handler has got to. progress, state: JSON text, None for as it was. at: now, ms since the epoch."""

    id: str
    fence: int
    progress: str | None
    state: str | None
    at: int


_COLUMNS = ("id", "fence", "progress", "state", "updated_at")


def _saving(given: Subquery) -> Update:
    said = given.c
    return (
        update(job)
        .where(job.c.id == said.id, job.c.fence <= said.fence, status_beside_id.in_(_open))
        .values(
            {
                job.c.fence: said.fence,
                job.c.progress: func.coalesce(said.progress, job.c.progress),
                job.c.state: func.coalesce(said.state, job.c.state),
                job.c.updated_at: later(job.c.updated_at, said.updated_at),
            }
        )
    )


_open: list[Any] = [literal_column(repr(status)) for status in OPEN]
_save_over = OverRows(job, _COLUMNS, _saving)
_standings = select(job.c.id, job.c.status, job.c.fence).where(job.c.id.in_(bindparam("ids", expanding=True)))


def save_progress(connection: Connection, items: Sequence[Progress]) -> list[Granted]:
    """Write what handlers got to.

    Granted where the job has not ended and no later claim of it has written, as for outcomes.

    That progress only grows is the caller's affair. Of several items of one job the later ones count.
    """
    answers: dict[int, Granted] = {}
    for part in _one_of_each_job(items):
        answers |= zip(part, _save(connection, list(part.values())), strict=True)
    return [answers[number] for number in range(len(items))]


def _one_of_each_job(items: Sequence[Progress]) -> Iterator[dict[int, Progress]]:
    """The items in parts, by their numbers: one statement writes each row once, with which of several values is not
    defined.
    """
    left = dict(enumerate(items))
    while left:
        first: dict[str, int] = {}
        for number, item in left.items():
            first.setdefault(item.id, number)
        yield {number: left[number] for number in first.values()}
        left = {number: item for number, item in left.items() if first[item.id] != number}


def _save(connection: Connection, items: Sequence[Progress]) -> list[Granted]:
    granted = _save_over.execute(connection, items)
    if granted == len(items):
        return [None] * len(items)
    found = {row.id: row for row in connection.execute(_standings, {"ids": [item.id for item in items]})}
    return [_standing(found.get(item.id), item.fence) for item in items]


def _standing(row: Any, fence: int) -> Granted:
    if row is None:
        return "missing"
    # A write that was granted has left its fence.
    return None if row.fence == fence and row.status not in TERMINAL else row.status
