"""What running handlers save: their progress, and the state that their next attempt is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, bindparam, func, literal_column, select, update

from taurine.ledger.outcomes import Granted
from taurine.ledger.rows import is_postgresql, later, values_of, values_table
from taurine.ledger.schema import job
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


def _saving(values: Any) -> dict[Any, Any]:
    """What is written; `values` gives each new value."""
    return {
        job.c.fence: values("fence"),
        job.c.progress: func.coalesce(values("progress"), job.c.progress),
        job.c.state: func.coalesce(values("state"), job.c.state),
        job.c.updated_at: later(job.c.updated_at, values("updated_at")),
    }


def _granted(id_: Any, fence: Any) -> Any:
    return (job.c.id == id_) & (job.c.fence <= fence) & job.c.status.in_(_open)


def _bound(name: str) -> Any:
    return bindparam(f"{name}_value", type_=job.c[name].type)


def _save_arrays() -> Update:
    values = values_table(job, _COLUMNS).subquery("said")
    return update(job).where(_granted(values.c.id, values.c.fence)).values(_saving(values.c.__getitem__))


_open: list[Any] = [literal_column(repr(status)) for status in OPEN]
_save_each = update(job).where(_granted(_bound("id"), _bound("fence"))).values(_saving(_bound))
_save_many = _save_arrays()
_standings = select(job.c.id, job.c.status, job.c.fence).where(job.c.id.in_(bindparam("ids", expanding=True)))


def save_progress(connection: Connection, items: Sequence[Progress]) -> list[Granted]:
    """Write what handlers got to. Granted where the job has not ended and no later claim of it has written, as for outcomes.

    That progress only grows is the caller's affair. Of several items of one job the later ones count.
    """
    answers: dict[int, Granted] = {}
    for part in _one_of_each_job(items):
        answers |= zip(part, _save(connection, list(part.values())), strict=True)
    return [answers[number] for number in range(len(items))]


def _one_of_each_job(items: Sequence[Progress]) -> Iterator[dict[int, Progress]]:
    """The items in parts, by their numbers: one statement writes each row once, with which of several values is not defined."""
    left = dict(enumerate(items))
    while left:
        first: dict[str, int] = {}
        for number, item in left.items():
            first.setdefault(item.id, number)
        yield {number: left[number] for number in first.values()}
        left = {number: item for number, item in left.items() if first[item.id] != number}


def _save(connection: Connection, items: Sequence[Progress]) -> list[Granted]:
    rows: list[dict[str, Any]] = [dict(zip(_COLUMNS, item, strict=True)) for item in items]
    if is_postgresql(connection):
        granted = connection.execute(_save_many, values_of(rows, _COLUMNS)).rowcount
    else:
        granted = connection.execute(
            _save_each, [{f"{name}_value": row[name] for name in _COLUMNS} for row in rows]
        ).rowcount
    if granted == len(items):
        return [None] * len(items)
    found = {row.id: row for row in connection.execute(_standings, {"ids": [item.id for item in items]})}
    return [_standing(found.get(item.id), item.fence) for item in items]


def _standing(row: Any, fence: int) -> Granted:
    if row is None:
        return "missing"
    # A write that was granted has left its fence.
    return None if row.fence == fence and row.status not in TERMINAL else row.status
