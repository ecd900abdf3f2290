"""The entry that a job leaves which failed for good: what it keeps of the job, and writing it.

It keeps all that a new generation of the job keeps, since it may outlive the record; only what the handler saved goes
with the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from sqlalchemy import BigInteger, Connection, Row, literal, select

from taurine.ids import sortable_id
from taurine.ledger.rows import upsert
from taurine.ledger.schema import dead_letter, job

__all__ = ["DeadLetter", "DeadLetterReason", "DeadLetterStatus", "entry_of", "write_entry"]

DeadLetterReason: TypeAlias = Literal["exhausted", "permanent", "crashed", "unknown_type"]
DeadLetterStatus: TypeAlias = Literal["open", "redriven", "discarded"]


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A job that failed for good, as it was then; a snapshot. Times are aware datetimes, UTC."""

    id: str
    job_id: str
    generation: int
    type: str
    queue: str
    tenant: str | None
    reason: DeadLetterReason
    attempts: int
    max_attempts: int
    priority: int
    created_by: str | None
    trace: str | None
    error_fingerprint: str | None
    """The same for errors of the same type from the same place."""
    status: DeadLetterStatus
    resolved_by: str | None
    redriven_as: str | None
    """Once redriven: the job and its generation, as in `mail:42#1`."""
    failed_at: datetime
    resolved_at: datetime | None
    mirrored_at: datetime | None
    payload_json: str = field(repr=False)
    """The payload as it travelled."""
    error_json: str = field(repr=False)
    options_json: str | None = field(repr=False)
    metadata_json: str | None = field(repr=False)

    @cached_property
    def payload(self) -> Any:
        return json.loads(self.payload_json)

    @cached_property
    def error(self) -> dict[str, Any]:
        """The last attempt's error: `type`, `message`, `traceback`."""
        return json.loads(self.error_json)

    @cached_property
    def options(self) -> dict[str, Any]:
        """What the job was given beside its type's own options."""
        return {} if self.options_json is None else json.loads(self.options_json)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return {} if self.metadata_json is None else json.loads(self.metadata_json)

    @property
    def tags(self) -> list[str]:
        return self.options.get("tags") or []


_TIMES = ("failed_at", "resolved_at", "mirrored_at")
_JSON = ("payload", "error", "options", "metadata")
_PLAIN = tuple(
    entry.name for entry in fields(DeadLetter) if entry.name not in _TIMES and not entry.name.endswith("_json")
)


def entry_of(row: Row[Any]) -> DeadLetter:
    """An entry from a row of the whole table."""
    columns = row._mapping  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's public name for it
    times: dict[str, Any] = {
        name: None if columns[name] is None else datetime.fromtimestamp(columns[name] / 1000, UTC) for name in _TIMES
    }
    texts: dict[str, Any] = {f"{name}_json": columns[name] for name in _JSON}
    plain = {name: columns[name] for name in _PLAIN}
    return DeadLetter(**plain, **times, **texts)


_OF_JOB = (
    *("generation", "type", "queue", "tenant", "payload", "error", "error_fingerprint", "attempts", "max_attempts"),
    *("priority", "options", "metadata", "created_by", "trace"),
)
"""Columns that the entry has from the job's row."""

_RESOLUTION = ("resolved_at", "resolved_by", "redriven_as", "mirrored_at")


def write_entry(connection: Connection, job_id: str, reason: DeadLetterReason, at: int) -> None:
    """Write the entry of a job, from its row as it stands: with the job's last status, and in the transaction that
    writes that. at: when it failed, ms.
    """
    source = select(
        literal(sortable_id(at / 1000)),
        job.c.id,
        literal(reason),
        literal(at, BigInteger()),
        *(job.c[name] for name in _OF_JOB),
    ).where(job.c.id == job_id)
    columns = ["id", "job_id", "reason", "failed_at", *_OF_JOB]
    entry = upsert(connection, dead_letter).from_select(columns, source)
    # The entry of an earlier life of the id may still be kept though that record was purged: this one is the one to look at.
    fresh = {name: entry.excluded[name] for name in columns} | dict.fromkeys(_RESOLUTION) | {"status": "open"}
    connection.execute(entry.on_conflict_do_update(index_elements=["job_id", "generation"], set_=fresh))
