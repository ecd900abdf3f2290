"""Finding records by a text, in bounded time: the newest of them are looked through, so many at a time, and a page goes
on where the one before has ended.

No index holds a text that stands in the middle of another. Looking through 10,000 rows takes some tens of milliseconds
on either database, whatever is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, or_, select, tuple_

from taurine.errors import InvalidOption
from taurine.ledger.listing import MOST_RECORDS, Page, Position, RecordFilter, conditions, cursor_of, read_cursor
from taurine.ledger.page_room import AT_ONCE, fill
from taurine.ledger.records import JobRecord, get_record, get_records
from taurine.ledger.schema import job, job_tag
from taurine.ledger.statuses import Status

__all__ = ["LOOKED_AT", "search_records"]

LOOKED_AT = 10_000
"""Records that one page looks at."""

_LONGEST = 200


def search_records(
    connection: Connection,
    text: str,
    filter: RecordFilter,  # noqa: A002 - the word for it
    *,
    cursor: str | None = None,
    limit: int = 50,
    looked_at: int = LOOKED_AT,
) -> Page:
    """One page of the records that `filter` lets through and in whose id, type, tags or error `text` stands, the newest
    first; in front of the first page the record of that very id.

    text: each character stands for itself; large and small letters are the same. cursor, limit: as in `list_records`. A
    page may have fewer than `limit`, or none, and a cursor all the same. Raises InvalidOption.
    """
    if not isinstance(text, str) or not text.isprintable() or not 1 <= len(text) <= _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected the text to search for to be 1 to {_LONGEST} printable characters")
    if not 1 <= limit <= MOST_RECORDS:
        raise InvalidOption(f"expected limit to be from 1 to {MOST_RECORDS}, got {limit!r:.40}")
    statuses = filter.statuses()
    newest = _newest(connection, filter, statuses, cursor)
    window = newest.limit(looked_at).subquery("newest")
    tagged = exists().where(job_tag.c.job_id == window.c.id, job_tag.c.tag.icontains(text, autoescape=True))
    holds = or_(*(window.c[name].icontains(text, autoescape=True) for name in ("id", "type", "error")), tagged)
    named = None if cursor is not None else _named(connection, text, filter, statuses)
    room = limit if named is None else limit - 1
    # The record of that very id stood in front of the first page, and on no other.
    matches = select(window.c.created_at, window.c.id).where(holds, window.c.id != text)
    rows: Sequence[Any] = connection.execute(
        matches.order_by(window.c.created_at.desc(), window.c.id.desc()).limit(room + 1)
    ).all()
    page, more = fill(_with_records(connection, rows), room, lambda found: found[1].text_size)
    records = [record for _, record in page]
    if more:
        next_cursor = cursor_of(page[-1][0] if page else _just_before(rows[0]))
    else:
        last: Any = connection.execute(newest.offset(looked_at - 1).limit(1)).first()
        next_cursor = None if last is None else cursor_of(last)
    return Page(records if named is None else [named, *records], next_cursor)


def _with_records(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[Any, JobRecord]]:
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        found = get_records(connection, [row.id for row in some])
        yield from ((row, found[row.id]) for row in some if row.id in found)


def _just_before(row: Any) -> Any:
    """A place from which this row comes next: newer ones have been looked at, and there was none among them."""
    return Position(row.created_at + 1, row.id)


def _newest(
    connection: Connection, wanted: RecordFilter, statuses: tuple[Status, ...] | None, cursor: str | None
) -> Select[*tuple[Any, ...]]:
    query = select(job.c.created_at, job.c.id, job.c.type, job.c.error).where(*conditions(connection, wanted, None))
    if statuses is not None:
        query = query.where(job.c.status.in_(statuses))
    if wanted.tag is not None:
        query = query.where(_has_tag(wanted.tag))
    if wanted.since is not None:
        query = query.where(job.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(job.c.created_at < wanted.until)
    if cursor is not None:
        query = query.where(tuple_(job.c.created_at, job.c.id) < read_cursor(cursor))
    return query.order_by(job.c.created_at.desc(), job.c.id.desc())


def _has_tag(tag: str) -> ColumnElement[bool]:
    return exists().where(job_tag.c.job_id == job.c.id, job_tag.c.tag == tag)


def _named(
    connection: Connection, job_id: str, wanted: RecordFilter, statuses: tuple[Status, ...] | None
) -> JobRecord | None:
    """The record of this very id, however old, if the filter lets it through."""
    found = connection.execute(_newest(connection, wanted, statuses, None).where(job.c.id == job_id)).first()
    return None if found is None else get_record(connection, job_id)
