"""A job that a Recorder has accepted: what was asked for, and what has become of it since."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.records import JobRecord, NewRecord
from taurine.ledger.statuses import TERMINAL, Status

__all__ = ["RecordedJob"]


@dataclass(slots=True, kw_only=True, eq=False)
class RecordedJob:
    """One accepted job, as the enqueue asked for it.

    id, type, queue, tenant, priority, tags, user, source, trace, max_attempts, idempotency_key: as in `enqueue`.
    payload: as the handler will get it.
    status: `queued`, until somebody says what came of it. error: what it failed with.
    """

    job_type: JobType[Any, Any] = field(repr=False)
    record: NewRecord = field(repr=False)
    """What would be written into the ledger."""
    status: Status = "queued"
    generation: int = 0
    attempts: int = 0
    output: str | None = field(default=None, repr=False)
    error: BaseException | None = None
    reason: str | None = field(default=None, repr=False)
    changed_at: int | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.id} ({self.type})"

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def type(self) -> str:
        return self.record.type

    @property
    def queue(self) -> str:
        return self.record.queue

    @property
    def payload(self) -> Any:
        return self.job_type.payload.decode(self.record.payload)

    @property
    def payload_json(self) -> Any:
        """The payload as plain JSON, as it would travel."""
        return json.loads(self.record.payload)

    @property
    def tenant(self) -> str | None:
        return self.record.tenant

    @property
    def priority(self) -> int:
        return self.record.priority

    @property
    def tags(self) -> list[str]:
        return list(self.record.tags)

    @property
    def metadata(self) -> dict[str, Any]:
        return {} if self.record.metadata is None else json.loads(self.record.metadata)

    @property
    def user(self) -> str | None:
        return self.record.created_by

    @property
    def source(self) -> str | None:
        return self.record.source

    @property
    def trace(self) -> str | None:
        return self.record.trace

    @property
    def max_attempts(self) -> int:
        return self.record.max_attempts

    @property
    def idempotency_key(self) -> str | None:
        return None if self.record.idempotency is None else self.record.idempotency.key

    @property
    def delay(self) -> float:
        """Seconds from the enqueue to the start that it asked for; 0 for at once."""
        scheduled_for = self.record.scheduled_for
        return 0.0 if scheduled_for is None else (scheduled_for - self.record.created_at) / 1000

    @property
    def scheduled_for(self) -> datetime | None:
        return _time(self.record.scheduled_for)

    @property
    def expires_at(self) -> datetime | None:
        return _time(self.record.expires_at)

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.record.created_at / 1000, UTC)

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL

    def snapshot(self) -> JobRecord:
        """The record as the application would read it."""
        changed_at = _time(self.changed_at)
        message = None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)}
        options = self.record.options
        known: dict[str, Any] = {
            "id": self.id,
            "type": self.type,
            "queue": self.queue,
            "tenant": self.tenant,
            "status": self.status,
            "generation": self.generation,
            "attempts": self.attempts,
            "max_attempts": self.max_attempts,
            "priority": self.priority,
            "created_by": self.user,
            "source": self.source,
            "trace": self.trace,
            "created_at": self.created_at,
            "updated_at": changed_at or self.created_at,
            "scheduled_for": self.scheduled_for,
            "expires_at": self.expires_at,
            "finished_at": changed_at if self.has_ended else None,
            "cancel_requested_at": changed_at if self.status == "cancelled" else None,
            "cancel_reason": self.reason,
            "fence": 0,
        }
        texts: dict[str, str | None] = {
            "payload": self.record.payload,
            "output": self.output,
            "error": None if message is None else json.dumps({**message, "traceback": ""}),
            "metadata": self.record.metadata,
            "options": None if options is None else json.dumps(options),
        }
        # What no server has told is not there: the worker, the times of its starts, the state.
        values: dict[str, Any] = dict.fromkeys(entry.name for entry in fields(JobRecord))
        values.update(known)
        values["_json"] = defaultdict(_nothing, texts)
        return JobRecord(**values)


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _nothing() -> None:
    return None
