"""The lines that handlers write of their jobs (`ctx.log`): the newest of each job, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from taurine.errors import InvalidOption
from taurine.ledger.schema import job, job_log

__all__ = ["JobLines", "LogLevel", "LogLine", "NumberedLine", "append_lines", "read_lines"]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

KEPT_LINES = 1000
"""Lines of one job that are kept, the newest."""

LONGEST_LINE = 10_000
"""Characters of one line; the rest is cut off. Fields whose JSON is longer become a part of the text, since half of it
could not be read.
"""

MOST_LINES = 1000
"""Lines on one page."""


class LogLine(NamedTuple):
    """One line. at: ms since the epoch. fields: what was said beside the text, as a JSON object; None for nothing."""

    at: int
    level: LogLevel
    message: str
    fields: str | None = None


class NumberedLine(NamedTuple):
    """A line as it is stored. number: 1 for the job's first; earlier ones go when there are too many, and numbers stay.

    at: ms since the epoch. fields: what `ctx.log` was given beside the text, None for nothing; they may hold any
    character, as the text may not.
    """

    number: int
    at: int
    level: LogLevel
    message: str
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLines:
    """Lines of one attempt, in their order."""

    id: str
    fence: int
    lines: tuple[LogLine, ...]
    keep: int = KEPT_LINES


_standings = (
    select(job.c.id, job.c.fence)
    .where(job.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(job.c.id)
    # Two that append to one job at once would give the same numbers. SQLite has its write lock, and leaves this out.
    .with_for_update(key_share=True)
)
_last_numbers = (
    select(job_log.c.job_id, func.max(job_log.c.number).label("last"))
    .where(job_log.c.job_id.in_(bindparam("ids", expanding=True)))
    .group_by(job_log.c.job_id)
)
_trim = delete(job_log).where(job_log.c.job_id == bindparam("id_value"), job_log.c.number <= bindparam("last_value"))


def append_lines(connection: Connection, items: Sequence[JobLines]) -> list[bool]:
    """Add lines to jobs; what is above a job's number of lines goes, oldest first.

    False for lines that were refused: the job has no record, or a later claim of it has written.
    """
    ids = sorted({item.id for item in items})
    fences: dict[str, int] = {row.id: row.fence for row in connection.execute(_standings, {"ids": ids})}
    granted = [item for item in items if item.lines and fences.get(item.id, item.fence + 1) <= item.fence]
    if granted:
        _append(connection, granted)
    return [fences.get(item.id, item.fence + 1) <= item.fence for item in items]


def _append(connection: Connection, items: Sequence[JobLines]) -> None:
    ids = sorted({item.id for item in items})
    last: dict[str, int] = {row.job_id: row.last for row in connection.execute(_last_numbers, {"ids": ids})}
    rows: list[dict[str, Any]] = []
    trims: dict[str, int] = {}
    for item in items:
        for line in item.lines:
            last[item.id] = last.get(item.id, 0) + 1
            fits = line.fields is None or len(line.fields) <= LONGEST_LINE
            rows.append(
                {
                    "job_id": item.id,
                    "number": last[item.id],
                    "at": line.at,
                    "level": line.level,
                    "message": _storable(line.message if fits else f"{line.message} {line.fields}"),
                    "fields": line.fields if fits else None,
                }
            )
        trims[item.id] = last[item.id] - item.keep
    connection.execute(insert(job_log), rows)
    full = [{"id_value": job_id, "last_value": number} for job_id, number in trims.items() if number > 0]
    if full:
        connection.execute(_trim, full)


def _storable(message: str) -> str:
    # PostgreSQL refuses the character 0, and UTF-8 half of a pair: a line is no reason to fail.
    return message[:LONGEST_LINE].replace("\0", "\ufffd").encode(errors="replace").decode()


def read_lines(
    connection: Connection, job_id: str, *, after: int = 0, limit: int = 100, newest_first: bool = False
) -> list[NumberedLine]:
    """A page of a job's lines.

    after: the number of the last line of the page before, 0 for the first page. limit: 1 to 1,000 lines.
    Raises InvalidOption for a limit out of range. A job without lines, or without a record, has none.
    """
    if not 1 <= limit <= MOST_LINES:
        raise InvalidOption(f"expected limit to be from 1 to {MOST_LINES}, got {limit!r:.40}")
    query = select(job_log).where(job_log.c.job_id == job_id).limit(limit)
    if after:
        query = query.where(job_log.c.number < after if newest_first else job_log.c.number > after)
    rows = connection.execute(query.order_by(job_log.c.number.desc() if newest_first else job_log.c.number))
    return [
        NumberedLine(row.number, row.at, row.level, row.message, None if row.fields is None else json.loads(row.fields))
        for row in rows
    ]
