"""Jobs that failed for good: finding them, running them again, and putting them aside.

An entry is written with the final status, by `endings`. It has what is needed to judge it and to run the job again,
also when the job's record is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, Select, bindparam, func, select, tuple_, update

from taurine.errors import InvalidOption, JobIdUnusable, RecordError, RecordNotFound, TransitionRefused
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.dead_letter_entry import DeadLetter, DeadLetterStatus, entry_of
from taurine.ledger.fences import fence_of
from taurine.ledger.generations import NewGeneration, redriven_as, start_generation
from taurine.ledger.page_room import AT_ONCE, fill
from taurine.ledger.records import JobRecord, NewRecord, insert_records, record_of
from taurine.ledger.schema import dead_letter, job
from taurine.ledger.statuses import TERMINAL

__all__ = [
    "DeadLetterFilter",
    "DeadLetterPage",
    "Discard",
    "Redrive",
    "conditions_of",
    "depth",
    "discard",
    "find_dead_letter",
    "get_dead_letter",
    "get_dead_letters",
    "list_dead_letters",
    "mark_mirrored",
    "mark_unmirrored",
    "opened_since",
    "redrive",
    "take_resolved_mirrored",
    "take_unmirrored",
]

MOST_ENTRIES = 500
"""Entries on one page; payloads may be large."""


# Finding ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which entries to list; each one that is given must hold. Default: those that nobody has dealt with.

    failed_before: ms since the epoch. not_type: of other types.
    """

    status: DeadLetterStatus | None = "open"
    queue: str | None = None
    type: str | None = None
    tenant: str | None = None
    error_fingerprint: str | None = None
    job_id: str | None = None
    failed_before: int | None = None
    not_type: str | None = None


class DeadLetterPage(NamedTuple):
    """Some entries, newest first. next_cursor: for the page after this one; None when this is the last."""

    entries: list[DeadLetter]
    next_cursor: str | None


def list_dead_letters(
    connection: Connection,
    filter: DeadLetterFilter,  # noqa: A002 - the word for it
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> DeadLetterPage:
    """One page of the entries that `filter` lets through, the latest failure first.

    cursor: `next_cursor` of the page before, with the same filter. limit: 1 to 500 entries. A page whose payloads are
    large has fewer, and a cursor (`page_room.py`).
    Raises InvalidOption for a cursor that no page gave, or a limit out of range.
    """
    if not 1 <= limit <= MOST_ENTRIES:
        raise InvalidOption(f"expected limit to be from 1 to {MOST_ENTRIES}, got {limit!r:.40}")
    after = None if cursor is None else _read_cursor(cursor)
    rows, more = fill(_rows(connection, filter, after, min(limit + 1, AT_ONCE)), limit, lambda row: len(row.payload))
    return DeadLetterPage([entry_of(row) for row in rows], _cursor_of(rows[-1]) if more else None)


def _rows(
    connection: Connection, wanted: DeadLetterFilter, after: tuple[int, str] | None, at_once: int
) -> Iterator[Any]:
    """The rows of a list from a position on, so many at once."""
    place = tuple_(dead_letter.c.failed_at, dead_letter.c.id)
    while True:
        query = _select_newest().where(*conditions_of(wanted))
        if after is not None:
            query = query.where(place < after)
        rows = connection.execute(query.limit(at_once)).all()
        yield from rows
        if len(rows) < at_once:
            return
        after = (rows[-1].failed_at, rows[-1].id)


def _select_newest() -> Select[Any]:
    return select(dead_letter).order_by(dead_letter.c.failed_at.desc(), dead_letter.c.id.desc())


def conditions_of(wanted: DeadLetterFilter) -> Iterator[ColumnElement[bool]]:
    """What an entry must be for a filter to let it through."""
    for entry in fields(wanted):
        value = getattr(wanted, entry.name)
        if value is None:
            continue
        if entry.name == "failed_before":
            yield dead_letter.c.failed_at < value
        elif entry.name == "not_type":
            yield dead_letter.c.type != value
        else:
            yield dead_letter.c[entry.name] == value


_CURSOR = re.compile(r"(\d{1,18})\.([0-9a-f]{32})", re.ASCII)


def _cursor_of(row: Row[Any]) -> str:
    return f"{row.failed_at}.{row.id}"


def _read_cursor(cursor: str) -> tuple[int, str]:
    """Where a cursor points. It comes back from clients, who may send anything."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidOption("expected the cursor of an earlier page, got another text; leave it out for the first page")
    return int(found[1]), found[2]


def get_dead_letter(connection: Connection, entry_id: str) -> DeadLetter | None:
    """The entry of this id, or None."""
    row = connection.execute(select(dead_letter).where(dead_letter.c.id == entry_id)).one_or_none()
    return None if row is None else entry_of(row)


def get_dead_letters(connection: Connection, entry_ids: Sequence[str]) -> list[DeadLetter]:
    """The entries of these ids, at most 500, in their order; those that are not there are left out."""
    rows = connection.execute(select(dead_letter).where(dead_letter.c.id.in_(list(entry_ids))))
    found = {row.id: entry_of(row) for row in rows}
    return [found[one] for one in dict.fromkeys(entry_ids) if one in found]


def find_dead_letter(connection: Connection, entry_or_job_id: str) -> DeadLetter | None:
    """The entry of this id, or else the latest one of the job of this id; None where there is none."""
    entry = get_dead_letter(connection, entry_or_job_id)
    if entry is not None:
        return entry
    of_job = select(dead_letter).where(dead_letter.c.job_id == entry_or_job_id)
    row = connection.execute(of_job.order_by(dead_letter.c.generation.desc()).limit(1)).one_or_none()
    return None if row is None else entry_of(row)


def depth(connection: Connection) -> dict[str, int]:
    """How many entries of each queue nobody has dealt with; queues without one are left out."""
    rows = connection.execute(
        select(dead_letter.c.queue, func.count().label("number"))
        .where(dead_letter.c.status == "open")
        .group_by(dead_letter.c.queue)
    )
    return {row.queue: row.number for row in rows}


def opened_since(connection: Connection, since: int) -> dict[str, int]:
    """How many entries of each queue are of a time since `since`, ms since the epoch, and nobody has dealt with; queues
    without one are left out.
    """
    rows = connection.execute(
        select(dead_letter.c.queue, func.count().label("number"))
        .where(dead_letter.c.status == "open", dead_letter.c.failed_at >= since)
        .group_by(dead_letter.c.queue)
    )
    return {row.queue: row.number for row in rows}


# Dealing with them --------------------------------------------------------------------------------------------------------------


class Redrive(NamedTuple):
    """Run the job of an entry again. at: now, ms since the epoch.

    queue: where the job goes now; None for where it failed. payload: JSON text in place of the one that failed; None
    for the same. max_attempts: None for as many as before. scheduled_for: not before, ms; None for when there is room.
    """

    entry_id: str
    at: int
    actor: str | None = None
    payload: str | None = None
    max_attempts: int | None = None
    scheduled_for: int | None = None
    queue: str | None = None


def redrive(connection: Connection, items: Sequence[Redrive]) -> list[JobRecord | RecordError]:
    """Run jobs of entries again, each as a new generation that needs a dispatch; returns their new records, or what
    forbids it.

    A job whose record is gone gets a new one, from the entry. Entry, record and audit change together. Of two that
    redrive one entry at once the second is refused.
    The errors are RecordNotFound, and TransitionRefused for an entry that was dealt with and for a job that runs or has
    completed meanwhile.
    """
    answers: dict[int, JobRecord | RecordError] = {}
    # Jobs are locked in one order, so that two redrives of many cannot wait for each other.
    jobs = _jobs_of(connection, [item.entry_id for item in items])
    for number, item in sorted(enumerate(items), key=lambda pair: jobs.get(pair[1].entry_id, "")):
        try:
            answers[number] = _redrive(connection, item, jobs.get(item.entry_id))
        except RecordError as error:
            answers[number] = error
    return [answers[number] for number in range(len(items))]


def _jobs_of(connection: Connection, entry_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for first in range(0, len(entry_ids), MOST_ENTRIES):
        some = dead_letter.c.id.in_(entry_ids[first : first + MOST_ENTRIES])
        rows = connection.execute(select(dead_letter.c.id, dead_letter.c.job_id).where(some))
        found |= {row.id: row.job_id for row in rows}
    return found


def _redrive(connection: Connection, item: Redrive, job_id: str | None) -> JobRecord:
    # The job first and then its entries, as everybody who runs a job again.
    row = connection.execute(select(job).where(job.c.id == job_id).with_for_update()).one_or_none()
    entry = _open_entry(connection, item.entry_id)
    if row is None:
        return _make_record(connection, entry, item)
    if row.tenant != entry.tenant:
        # The entry has outlived its record, and what has the id now is none of this tenant's.
        raise JobIdUnusable(entry.job_id)
    if row.status not in TERMINAL:
        raise TransitionRefused(f"job {entry.job_id!r} is {row.status} again already", job_id=entry.job_id)
    if row.status == "completed":
        raise TransitionRefused(
            f"job {entry.job_id!r} has completed since it failed; discard the entry, or run the job again by its id",
            job_id=entry.job_id,
        )
    # The record may have another payload by now. With the one it has, it keeps what the handler saved.
    payload = entry.payload_json if item.payload is None and row.payload != entry.payload_json else item.payload
    (record,) = start_generation(
        connection,
        [
            NewGeneration(
                id=entry.job_id,
                at=item.at,
                action="redrive",
                actor=item.actor,
                cause=entry.id,
                queue=item.queue,
                payload=payload,
                max_attempts=item.max_attempts,
                scheduled_for=item.scheduled_for,
            )
        ],
    )
    assert record is not None, "its row is locked"
    return record


def _open_entry(connection: Connection, entry_id: str) -> DeadLetter:
    row = connection.execute(select(dead_letter).where(dead_letter.c.id == entry_id).with_for_update()).one_or_none()
    if row is None:
        raise RecordNotFound(f"the ledger holds no dead letter {entry_id!r:.80}", job_id=entry_id)
    if row.status != "open":
        by = f" by {row.resolved_by}" if row.resolved_by else ""
        raise TransitionRefused(
            f"the dead letter of job {row.job_id!r} was {row.status}{by} already", job_id=row.job_id
        )
    return entry_of(row)


def _make_record(connection: Connection, entry: DeadLetter, item: Redrive) -> JobRecord:
    """The job's record is gone: it gets another, in a generation after all that are known."""
    (inserted,) = insert_records(
        connection,
        [
            NewRecord(
                id=entry.job_id,
                type=entry.type,
                queue=item.queue or entry.queue,
                tenant=entry.tenant,
                payload=item.payload or entry.payload_json,
                max_attempts=item.max_attempts or entry.max_attempts,
                priority=entry.priority,
                options=entry.options or None,
                tags=tuple(entry.tags),
                metadata=entry.metadata_json,
                trace=entry.trace,
                created_at=item.at,
                scheduled_for=item.scheduled_for,
                source="redrive",
            )
        ],
    )
    if inserted.existing is not None and inserted.existing.tenant != entry.tenant:
        raise JobIdUnusable(entry.job_id)
    if inserted.existing is not None:
        raise TransitionRefused(f"a new job {entry.job_id!r} was put in just now", job_id=entry.job_id)
    others = dead_letter.c.job_id == entry.job_id
    generation = connection.execute(select(func.max(dead_letter.c.generation)).where(others)).scalar_one() + 1
    row = connection.execute(
        update(job)
        .where(job.c.id == entry.job_id)
        # Who asked for the job has not asked for this record: set here, it makes no such line in the audit.
        .values(generation=generation, fence=fence_of(generation, 0), created_by=entry.created_by)
        .returning(job)
    ).one()
    _resolve(connection, entry, "redriven", item, redriven_as(entry.job_id, generation))
    detail = json.dumps({"generation": generation, "cause": entry.id})
    record_actions(connection, [AuditEntry(item.at, item.actor, "redrive", entry.job_id, entry.tenant, detail)])
    return record_of(row)


class Discard(NamedTuple):
    """Put an entry aside: its job stays failed. at: now, ms since the epoch."""

    entry_id: str
    at: int
    actor: str | None = None


def discard(connection: Connection, items: Sequence[Discard]) -> list[DeadLetter | RecordError]:
    """Put entries aside, with their audit; returns them as they are then, or RecordNotFound, or TransitionRefused for
    one that was dealt with.
    """
    answers: dict[int, DeadLetter | RecordError] = {}
    for number, item in sorted(enumerate(items), key=lambda pair: pair[1].entry_id):
        try:
            answers[number] = _discard(connection, item)
        except RecordError as error:
            answers[number] = error
    return [answers[number] for number in range(len(items))]


def _discard(connection: Connection, item: Discard) -> DeadLetter:
    entry = _open_entry(connection, item.entry_id)
    row = _resolve(connection, entry, "discarded", item, None)
    detail = json.dumps({"generation": entry.generation, "cause": entry.id})
    record_actions(connection, [AuditEntry(item.at, item.actor, "discard", entry.job_id, entry.tenant, detail)])
    return entry_of(row)


def _resolve(
    connection: Connection, entry: DeadLetter, status: DeadLetterStatus, item: Redrive | Discard, became: str | None
) -> Row[Any]:
    values = {"status": status, "resolved_at": item.at, "resolved_by": item.actor, "redriven_as": became}
    return connection.execute(
        update(dead_letter).where(dead_letter.c.id == entry.id).values(values).returning(dead_letter)
    ).one()


# Mirroring ----------------------------------------------------------------------------------------------------------------------


def take_unmirrored(connection: Connection, queues: Sequence[str], limit: int) -> list[DeadLetter]:
    """Entries of these queues that were not copied to a queue yet and that nobody has dealt with, oldest first.

    Nothing is locked: copying is idempotent by the entry's id.
    """
    rows = connection.execute(
        select(dead_letter)
        .where(
            dead_letter.c.status == "open", dead_letter.c.mirrored_at.is_(None), dead_letter.c.queue.in_(list(queues))
        )
        .order_by(dead_letter.c.failed_at, dead_letter.c.id)
        .limit(limit)
    )
    return [entry_of(row) for row in rows]


_mirrored = (
    update(dead_letter)
    .where(dead_letter.c.id.in_(bindparam("ids", expanding=True)), dead_letter.c.mirrored_at.is_(None))
    .values(mirrored_at=bindparam("at", type_=BigInteger))
)


def mark_mirrored(connection: Connection, entry_ids: Sequence[str], at: int) -> None:
    """Write that entries were copied to a queue; the first time counts. at: now, ms since the epoch."""
    for first in range(0, len(entry_ids), MOST_ENTRIES):
        connection.execute(_mirrored, {"ids": entry_ids[first : first + MOST_ENTRIES], "at": at})


def take_resolved_mirrored(connection: Connection, queues: Sequence[str], limit: int) -> list[DeadLetter]:
    """Entries of these queues that were dealt with while a copy of them is in a queue, oldest first.

    Nothing is locked: removing a copy is idempotent.
    """
    rows = connection.execute(
        select(dead_letter)
        .where(
            dead_letter.c.status.in_(("redriven", "discarded")),
            dead_letter.c.mirrored_at.is_not(None),
            dead_letter.c.queue.in_(list(queues)),
        )
        .order_by(dead_letter.c.failed_at, dead_letter.c.id)
        .limit(limit)
    )
    return [entry_of(row) for row in rows]


def mark_unmirrored(connection: Connection, entry_ids: Sequence[str]) -> None:
    """Write that the copies of entries are gone."""
    for first in range(0, len(entry_ids), MOST_ENTRIES):
        some = dead_letter.c.id.in_(entry_ids[first : first + MOST_ENTRIES])
        connection.execute(update(dead_letter).where(some).values(mirrored_at=None))
