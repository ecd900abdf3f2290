"""Job records: putting them in, and reading one or many by id.

A record is put in once per id. An id that is taken gives the record that is there, so that a repeated request learns
the true status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import Connection, Row, bindparam, insert, select
from sqlalchemy.dialects import postgresql

from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.rows import OverRows, is_postgresql
from taurine.ledger.schema import job, job_tag, status_beside_id
from taurine.ledger.statuses import TERMINAL, Phase, Status, phase_of

__all__ = [
    "Inserted",
    "JobRecord",
    "NewRecord",
    "get_ended",
    "get_record",
    "get_records",
    "insert_records",
    "record_of",
]


@dataclass(slots=True, kw_only=True)
class NewRecord:
    """What is written when a job is accepted. Times in ms since the epoch; JSON as text."""

    id: str
    type: str
    queue: str
    payload: str
    created_at: int
    max_attempts: int
    tenant: str | None = None
    priority: int = 0
    options: Mapping[str, Any] | None = None
    metadata: str | None = None
    created_by: str | None = None
    source: str | None = None
    trace: str | None = None
    scheduled_for: int | None = None
    expires_at: int | None = None
    tags: tuple[str, ...] = ()
    fresh: bool = False
    """True for an id that was made up just now, which cannot be taken."""
    idempotency: IdempotencyKey | None = None
    """The client's own key for this request, for `accept_records`."""
    on_taken: Literal["return", "rerun"] = "return"
    """For `accept_records`, when a record has the id: give it back, or run it again if it has ended."""


class Inserted(NamedTuple):
    """What became of a new record: `existing` is the record that was there already, or None when the new one was put
    in.

    rerun: `existing` had ended and is a new generation now, which needs a dispatch.
    purged: the id of the job that took the same idempotency key and whose record is gone; nothing was put in then
    either.
    """

    existing: JobRecord | None
    rerun: bool = False
    purged: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as the product knows it; a snapshot.

    `phase` is the short word for simple clients. `error` and `progress` are None where there is none. Times are aware
    datetimes, UTC.
    """

    id: str
    type: str
    queue: str
    tenant: str | None
    status: Status
    generation: int
    attempts: int
    """Attempts that ended."""
    max_attempts: int
    priority: int
    worker: str | None
    created_by: str | None
    source: str | None
    trace: str | None
    created_at: datetime
    updated_at: datetime
    scheduled_for: datetime | None
    """The start that was asked for; the same after all attempts."""
    next_attempt_at: datetime | None
    """When the attempt after this one may begin. None for a job that runs, or that need not wait."""
    expires_at: datetime | None
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    fence: int = field(repr=False)
    _json: Mapping[str, str | None] = field(repr=False)

    @property
    def phase(self) -> Phase:
        return phase_of(self.status)

    @property
    def due_at(self) -> datetime | None:
        """The time before which it is not to run, as it stands: that of its next attempt, or the start that was asked
        for of a job that has not begun.
        """
        if self.next_attempt_at is not None:
            return self.next_attempt_at
        return self.scheduled_for if self.started_at is None else None

    @cached_property
    def payload(self) -> Any:
        return json.loads(self.payload_json)

    @property
    def payload_json(self) -> str:
        """The payload as it is stored and as it travels."""
        return cast("str", self._json["payload"])

    @property
    def text_size(self) -> int:
        """Characters of its payload, result and other JSON together."""
        return sum(len(text) for text in self._json.values() if text is not None)

    @cached_property
    def output(self) -> Any:
        """What the handler returned; a cancelled job's may be partial."""
        return self._decode("output")

    @property
    def output_json(self) -> str | None:
        return self._json["output"]

    @cached_property
    def error(self) -> dict[str, Any] | None:
        """The latest failed attempt's error: `type`, `message`, `traceback`."""
        return self._decode("error")

    @property
    def error_json(self) -> str | None:
        return self._json["error"]

    @property
    def error_fingerprint(self) -> str | None:
        """The same for errors of the same type from the same place."""
        return self._json["error_fingerprint"]

    @property
    def state_json(self) -> str | None:
        return self._json["state"]

    @property
    def progress_json(self) -> str | None:
        return self._json["progress"]

    @cached_property
    def progress(self) -> Any:
        return self._decode("progress")

    @cached_property
    def state(self) -> Any:
        """What the handler saved for its next attempt."""
        return self._decode("state")

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return self._decode("metadata") or {}

    @cached_property
    def tags(self) -> list[str]:
        return (self.options.get("tags") or []) if self._json["options"] else []

    @cached_property
    def options(self) -> dict[str, Any]:
        """What this job was given beside its type's own options."""
        return self._decode("options") or {}

    def _decode(self, name: str) -> Any:
        text = self._json[name]
        return None if text is None else json.loads(text)


_JSON = ("payload", "output", "error", "error_fingerprint", "progress", "state", "metadata", "options")
_TIMES = (
    *("created_at", "updated_at", "scheduled_for", "next_attempt_at", "expires_at", "dispatched_at", "started_at"),
    *("finished_at", "cancel_requested_at"),
)
_PLAIN = tuple(entry.name for entry in fields(JobRecord) if entry.name not in (*_TIMES, "_json"))


def record_of(row: Row[Any]) -> JobRecord:
    """A record from a row of the whole table."""
    mapping = row._mapping  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's public name for it
    times = {
        name: None if mapping[name] is None else datetime.fromtimestamp(mapping[name] / 1000, UTC) for name in _TIMES
    }
    return JobRecord(
        **{name: mapping[name] for name in _PLAIN},
        **cast("Any", times),
        _json={name: mapping[name] for name in _JSON},
    )


_INSERTED = (
    *("id", "type", "queue", "tenant", "status", "max_attempts", "priority", "payload", "options", "metadata"),
    *("created_by", "source", "trace", "created_at", "updated_at", "scheduled_for", "expires_at"),
)
_insert = OverRows(job, _INSERTED, lambda given: insert(job).from_select(list(_INSERTED), given))
_insert_unless_there = OverRows(
    job,
    _INSERTED,
    lambda given: (
        postgresql.insert(job)
        .from_select(list(_INSERTED), given)
        .on_conflict_do_nothing(index_elements=[job.c.id])
        .returning(job.c.id)
    ),
)
_IDS_AT_ONCE = 500
"""Ids in one query: SQLite takes up to 32,766 variables, older builds 999."""
_among_ids = job.c.id.in_(bindparam("ids", expanding=True))
_by_ids = select(job).where(_among_ids)
_ended_by_ids = select(job.c.id).where(_among_ids, status_beside_id.in_(sorted(TERMINAL)))


def insert_records(connection: Connection, records: Sequence[NewRecord]) -> list[Inserted]:
    """Put in new records; one whose id is taken is left as it is, and its record is returned.

    Of two new records with one id the first counts. Atomic with whatever else the transaction holds.
    """
    unique: dict[str, NewRecord] = {}
    for record in records:
        unique.setdefault(record.id, record)
    taken = _insert_absent(connection, list(unique.values()))
    _insert_companions(connection, [record for record in unique.values() if record.id not in taken])
    repeated = [record.id for record in records if unique[record.id] is not record]
    there = taken | get_records(connection, repeated) if repeated else taken
    return [Inserted((taken if unique[record.id] is record else there).get(record.id)) for record in records]


def _insert_absent(connection: Connection, records: Sequence[NewRecord]) -> dict[str, JobRecord]:
    """Put in what is not there; returns the records that were, by id."""
    if is_postgresql(connection):
        # Everybody goes by the ids: two transactions that put in the same ones cannot wait for each other.
        return _insert_by_conflict(connection, sorted(records, key=lambda record: record.id))
    # This transaction holds SQLite's one write lock: nobody can put a record in between.
    taken = get_records(connection, [record.id for record in records if not record.fresh])
    absent = [_row(record) for record in records if record.id not in taken]
    if absent:
        _insert.execute(connection, absent)
    return taken


def _insert_by_conflict(connection: Connection, records: Sequence[NewRecord]) -> dict[str, JobRecord]:
    put_in = set(_insert_unless_there.returned(connection, [_row(record) for record in records]))
    if len(put_in) == len(records):
        return {}
    refused = [record for record in records if record.id not in put_in]
    taken = get_records(connection, [record.id for record in refused])
    # One that was in the way and is not there any more: it was purged in between, so that the id is free.
    freed = [record for record in refused if record.id not in taken]
    return taken | _insert_by_conflict(connection, freed) if freed else taken


def _row(record: NewRecord) -> tuple[Any, ...]:
    """In the order of `_INSERTED`."""
    return (
        *(record.id, record.type, record.queue, record.tenant, "queued", record.max_attempts, record.priority),
        *(record.payload, None if record.options is None else json.dumps(record.options), record.metadata),
        *(record.created_by, record.source, record.trace, record.created_at, record.created_at),
        *(record.scheduled_for, record.expires_at),
    )


def _insert_companions(connection: Connection, records: Sequence[NewRecord]) -> None:
    """Tags, and an audit row where it is known who asked; without that the record's own creation time says as much."""
    tags = [
        {"job_id": record.id, "tag": tag, "created_at": record.created_at}
        for record in records
        for tag in dict.fromkeys(record.tags)
    ]
    if tags:
        connection.execute(insert(job_tag), tags)
    record_actions(
        connection,
        [
            AuditEntry(record.created_at, record.created_by, "enqueue", record.id, record.tenant)
            for record in records
            if record.created_by is not None
        ],
    )


def get_record(connection: Connection, job_id: str) -> JobRecord | None:
    """The record of this id, or None."""
    return get_records(connection, [job_id]).get(job_id)


def get_records(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobRecord]:
    """The records of these ids that are there, by id."""
    found: dict[str, JobRecord] = {}
    for first in range(0, len(job_ids), _IDS_AT_ONCE):
        rows = connection.execute(_by_ids, {"ids": job_ids[first : first + _IDS_AT_ONCE]})
        found |= {row.id: record_of(row) for row in rows}
    return found


def get_ended(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Those of these ids whose records have ended."""
    return [
        row.id
        for first in range(0, len(job_ids), _IDS_AT_ONCE)
        for row in connection.execute(_ended_by_ids, {"ids": job_ids[first : first + _IDS_AT_ONCE]})
    ]
