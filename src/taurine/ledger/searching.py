"""Finding records by a text, in bounded time: the newest of them are looked through, so many at a time, and a page goes on where the one before has ended.

No index holds a text that stands in the middle of another. Looking through 10,000 rows takes some tens of milliseconds on either database, whatever is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, or_, select, tuple_

from taurine.errors import InvalidOption
from taurine.ledger.listing import MOST_RECORDS, Page, RecordFilter, conditions, cursor_of, read_cursor
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
    """One page of the records that `filter` lets through and in whose id, type, tags or error `text` stands, the newest first; in front of the first page the record of that very id.

    text: each character stands for itself; large and small letters are the same. cursor, limit: as in `list_records`. A page may have fewer than `limit`, or none, and a cursor
    all the same. Raises InvalidOption.
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
    matches = select(window.c.created_at, window.c.id).where(holds)
    rows: Sequence[Any] = connection.execute(
        matches.order_by(window.c.created_at.desc(), window.c.id.desc()).limit(limit + 1)
    ).all()
    found = get_records(connection, [row.id for row in rows[:limit]])
    records = [found[row.id] for row in rows[:limit] if row.id in found]
    if len(rows) > limit:
        next_cursor = cursor_of(rows[limit - 1])
    else:
        last: Any = connection.execute(newest.offset(looked_at - 1).limit(1)).first()
        next_cursor = None if last is None else cursor_of(last)
    if cursor is None and (named := _named(connection, text, filter, statuses)) is not None:
        records = [named, *(record for record in records if record.id != named.id)]
    return Page(records, next_cursor)


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
    record = get_record(connection, job_id)
    if record is None or (statuses is not None and record.status not in statuses):
        return None
    same = all(
        getattr(wanted, name) in (None, getattr(record, name))
        for name in ("type", "queue", "tenant", "created_by", "error_fingerprint")
    )
    created_at = round(record.created_at.timestamp() * 1000)
    in_time = (wanted.since or created_at) <= created_at < (wanted.until or created_at + 1)
    return record if same and in_time and (wanted.tag is None or wanted.tag in record.tags) else None
