"""Finding records: pages by keyset, and counts that look at a bounded number of rows.

A page begins after the last record of the one before, by (created_at, id), never at an offset: it costs the same
wherever it is, and records that come or go meanwhile move nothing. Each query walks one index in the page's order; what
its index does not hold is compared row by row.

| filter | index |
|---|---|
| status, phase | `job_unfinished`, one query for each status; `job_created` for completed ones |
| tag | `job_tag_by_tag` |
| tenant, type, error_fingerprint | `job_by_tenant`, `job_by_type`, `job_by_error` |
| queue, created_by | none of their own: give one of the others, or `since`, where there are many records |
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, literal_column, select, tuple_, union_all

from taurine.errors import InvalidOption
from taurine.ledger.page_room import AT_ONCE, fill
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.rows import is_postgresql
from taurine.ledger.schema import job, job_tag
from taurine.ledger.statuses import STATUSES, Phase, Status, check_status, phase_of

__all__ = [
    "MOST_RECORDS",
    "Count",
    "Page",
    "Position",
    "RecordFilter",
    "conditions",
    "count_by_status",
    "cursor_of",
    "first_of",
    "has_records",
    "list_records",
    "query_of",
    "read_cursor",
]

MOST_RECORDS = 500
"""Records on one page; payloads may be large."""

_LONGEST_ID = 2048
_LATEST = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Which records to list; each one that is given must hold. status and phase exclude each other.

    since, until: ms since the epoch, of the record's creation; the first is included, the second is not.
    """

    status: Status | None = None
    phase: Phase | None = None
    type: str | None = None
    queue: str | None = None
    tenant: str | None = None
    tag: str | None = None
    created_by: str | None = None
    since: int | None = None
    until: int | None = None
    error_fingerprint: str | None = None

    def statuses(self) -> tuple[Status, ...] | None:
        """The statuses that are asked for; None for all."""
        if self.status is not None and self.phase is not None:
            raise InvalidOption("expected status or phase, got both")
        if self.status is not None:
            return (check_status(self.status),)
        if self.phase is None:
            return None
        found: tuple[Status, ...] = tuple(status for status in STATUSES if phase_of(status) == self.phase)
        if not found:
            raise InvalidOption(f"expected a phase of queued, running, completed, failed, got {self.phase!r:.40}")
        return found


class Page(NamedTuple):
    """Some records in order. next_cursor: for the page after this one; None when this is the last."""

    records: list[JobRecord]
    next_cursor: str | None


class Position(NamedTuple):
    """Where a record stands in a list. created_at: ms since the epoch."""

    created_at: int
    id: str


def list_records(
    connection: Connection,
    filter: RecordFilter,  # noqa: A002 - the word for it
    *,
    cursor: str | None = None,
    limit: int = 50,
    newest_first: bool = True,
) -> Page:
    """One page of the records that `filter` lets through, by the time they were created.

    cursor: `next_cursor` of the page before, with the same filter and order. limit: 1 to 500 records.
    A page whose payloads are large has fewer, and a cursor (`page_room.py`).
    A record that changes its status between two pages may appear on both or on none; others appear once.
    Raises InvalidOption for a cursor that no page gave, a limit out of range, or a status that is none.
    """
    if not 1 <= limit <= MOST_RECORDS:
        raise InvalidOption(f"expected limit to be from 1 to {MOST_RECORDS}, got {limit!r:.40}")
    after = None if cursor is None else read_cursor(cursor)
    rows = _rows(connection, filter, after, min(limit + 1, AT_ONCE), newest_first=newest_first)
    page, more = fill(((row, record_of(row)) for row in rows), limit, lambda found: found[1].text_size)
    return Page([record for _, record in page], cursor_of(page[-1][0]) if more else None)


def _rows(
    connection: Connection,
    wanted: RecordFilter,
    after: Position | None,
    at_once: int,
    *,
    newest_first: bool,
) -> Iterator[Any]:
    """The rows of a list from a position on, so many at once."""
    statuses = wanted.statuses() or (None,)
    while True:
        # One query for each status: an index with the status in front gives each in order, and not several together.
        queries = [query_of(connection, wanted, status, after, newest_first=newest_first) for status in statuses]
        rows = first_of(connection, queries, at_once, newest_first=newest_first)
        yield from rows
        if len(rows) < at_once:
            return
        after = Position(rows[-1].created_at, rows[-1].id)


def has_records(connection: Connection, filter: RecordFilter) -> bool:  # noqa: A002 - as in list_records
    """True if `filter`, without statuses, tags and times, lets any record through. Stops at the first."""
    query = select(job.c.id).where(*conditions(connection, filter, None)).limit(1)
    return connection.execute(query).first() is not None


def first_of(
    connection: Connection, queries: Sequence[Select[*tuple[Any, ...]]], limit: int, *, newest_first: bool
) -> Sequence[Any]:
    """The first rows of queries for lists, in the order of a list.

    The database puts them together: how it orders ids is its collation's affair, and pages go on by that order.
    """
    if len(queries) == 1:
        return connection.execute(queries[0].limit(limit)).all()
    together = union_all(*(select(query.limit(limit).subquery()) for query in queries)).subquery()
    place = (together.c.created_at, together.c.id)
    order = [column.desc() if newest_first else column for column in place]
    return connection.execute(select(together).order_by(*order).limit(limit)).all()


def query_of(
    connection: Connection, wanted: RecordFilter, status: Status | None, after: Position | None, *, newest_first: bool
) -> Select[Any]:
    """The records of one status, or of all, that a filter lets through, in the order of a list, from a position on."""
    created_at, id_ = job.c.created_at, job.c.id
    query = select(job).where(*conditions(connection, wanted, status))
    if wanted.tag is not None:
        # The tag's own rows are in the same order, and one index has it.
        created_at, id_ = job_tag.c.created_at, job_tag.c.job_id
        query = query.join(job_tag, job_tag.c.job_id == job.c.id).where(job_tag.c.tag == wanted.tag)
    if wanted.since is not None:
        query = query.where(created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(created_at < wanted.until)
    if after is not None:
        place = tuple_(created_at, id_)
        query = query.where(place < after if newest_first else place > after)
    return query.order_by(created_at.desc() if newest_first else created_at, id_.desc() if newest_first else id_)


def conditions(connection: Connection, wanted: RecordFilter, status: Status | None) -> Iterable[ColumnElement[bool]]:
    """What a row must be that `wanted` lets through, of this status or of any; tags and times are the caller's."""
    if status is not None:
        yield _has_status(connection, status)
    for name in ("type", "queue", "tenant", "created_by", "error_fingerprint"):
        value = getattr(wanted, name)
        if value is not None:
            yield job.c[name] == value


def _has_status(connection: Connection, status: Status) -> ColumnElement[bool]:
    # A literal: an index of some rows is used where the statement itself, not its values, says that they suffice.
    same = job.c.status == literal_column(repr(status))
    if status == "completed" or is_postgresql(connection):
        return same
    # SQLite does not see that it follows; PostgreSQL does, and would expect fewer rows for each condition more.
    return and_(same, job.c.status != literal_column("'completed'"))


def cursor_of(row: Row[Any]) -> str:
    """The cursor of the page that begins after a row."""
    words = json.dumps(Position(row.created_at, row.id), separators=(",", ":"))
    return base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Position:
    """Where a cursor points. It comes back from clients, who may send anything."""
    try:
        words = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, id_ = json.loads(words)
        if type(created_at) is int and type(id_) is str and abs(created_at) < _LATEST and _is_an_id(id_):
            return Position(created_at, id_)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise InvalidOption("expected the cursor of an earlier page, got another text; leave it out for the first page")


def _is_an_id(words: str) -> bool:
    return 0 < len(words) <= _LONGEST_ID and words.isprintable() and words.encode(errors="ignore").decode() == words


# Counting -----------------------------------------------------------------------------------------------------------------------


class Count(NamedTuple):
    """How many records. exact: False when there may be more, since no more rows were looked at."""

    number: int
    exact: bool


_INDEXED: tuple[Status, ...] = tuple(status for status in STATUSES if status != "completed")


def count_by_status(
    connection: Connection, *, tenant: str | None = None, queue: str | None = None, exact_limit: int = 10_000
) -> dict[Status, Count]:
    """How many records there are of each status.

    exact_limit: rows to look at, the newest ones, for each status (of a tenant: for all together). A count is exact
    unless that many were there.
    """
    if exact_limit < 1:
        raise InvalidOption(f"expected exact_limit to be at least 1, got {exact_limit!r:.40}")
    if tenant is not None:
        return _counts(connection, [job.c.tenant == tenant], STATUSES, queue, exact_limit)
    counts: dict[Status, Count] = {}
    for status in _INDEXED:
        counts |= _counts(connection, [_has_status(connection, status)], (status,), queue, exact_limit)
    # Completed ones have no index of their own; where there are many, they are most of all records.
    return counts | _counts(connection, [], ("completed",), queue, exact_limit)


def _counts(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    statuses: Sequence[Status],
    queue: str | None,
    limit: int,
) -> dict[Status, Count]:
    newest = select(job.c.status, job.c.queue).where(*conditions).order_by(job.c.created_at.desc(), job.c.id.desc())
    looked_at = newest.limit(limit).subquery("newest")
    counted = func.count() if queue is None else func.count().filter(looked_at.c.queue == queue)
    rows = connection.execute(
        select(looked_at.c.status, counted.label("number"), func.count().label("seen")).group_by(looked_at.c.status)
    ).all()
    exact = sum(row.seen for row in rows) < limit
    found = {row.status: row.number for row in rows}
    return {status: Count(found.get(status, 0), exact) for status in statuses}
