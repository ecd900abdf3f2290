"""What goes out: records and their like as JSON, the same words as in the library and on the command line.

Times are ISO 8601 in UTC, absent ones null. What must not be shown is replaced (`Redact.data`) in everything that users
or handlers wrote.
Documents are made by hand from plain values, since they are many; the models are what the OpenAPI document says of
them, and a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from taurine.http.paths import link
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.operations.why import Why
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.attempts import Attempt
from taurine.ledger.audit import AuditEntry
from taurine.ledger.job_logs import NumberedLine
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import Phase, Status

__all__ = [
    "Accepted",
    "AttemptPage",
    "AuditPage",
    "Batch",
    "Counts",
    "Job",
    "JobPage",
    "LogPage",
    "Lookup",
    "Problem",
    "Shown",
    "WhyAnswer",
    "accepted_json",
    "iso",
    "json_bytes",
    "json_response",
]


class Model(BaseModel):
    """A document as the OpenAPI describes it."""

    model_config = ConfigDict(extra="forbid")


class Pointed(Model):
    """One member or parameter of the request that is wrong."""

    pointer: str = Field(examples=["/payload/address"], description="A JSON pointer into the body, or `/query/<name>`.")
    detail: str


class Problem(Model):
    """A problem document (RFC 9457)."""

    type: str = Field(examples=["urn:taurine:problem:job_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs.", examples=["job_not_found"])
    instance: str | None = None
    errors: list[Pointed] | None = None


class Links(Model):
    """Paths of what belongs to a job, as the client reaches them."""

    self: str
    logs: str
    attempts: str
    audit: str
    why: str
    cancel: str
    retry: str
    reschedule: str


class Accepted(Model):
    """A job that was accepted, or that was there already."""

    id: str
    type: str
    queue: str
    status: Status
    phase: Phase
    duplicate: bool = Field(description="The job was there already, and this request changed nothing.")
    rerun: bool = Field(description="The job had ended, and this request runs it again.")
    created_at: datetime
    links: Links


class Job(Model):
    """A job's record.

    `output` is there only of a completed job, and of a cancelled one that left a partial result; `error` only of a
    failed one.
    """

    id: str
    type: str
    queue: str
    tenant: str | None
    status: Status
    phase: Phase = Field(
        description="queued, running, completed or failed: the status in the words of a simple client."
    )
    payload: Any = Field(default=None, description="Left out where the application hides payloads.")
    output: Any = None
    error: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = Field(
        default=None,
        description="Of a job that is still to run, or was cancelled: what its latest attempt failed with.",
    )
    progress: Any
    attempts: int = Field(description="Attempts that have ended.")
    max_attempts: int
    generation: int
    priority: int
    tags: list[str]
    metadata: dict[str, Any]
    worker: str | None = Field(
        description="Its name has its host; null for callers of a tenant, and with a public token."
    )
    created_by: str | None
    source: str | None
    cancel_reason: str | None
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime
    scheduled_for: datetime | None
    next_attempt_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    links: Links


class JobPage(Model):
    """Jobs, the newest first. `next_cursor` is for the page after this one; null on the last."""

    items: list[Job]
    next_cursor: str | None


class Lookup(Model):
    """The jobs of some ids; `missing` are those that there are none of. `left_out` are those for which this answer has
    no room, since payloads are large: ask for them again.
    """

    items: list[Job]
    missing: list[str]
    left_out: list[str]


class Batch(Model):
    """The jobs of a batch, in its order."""

    items: list[Accepted]


class AttemptItem(Model):
    """One time that the job was started."""

    generation: int
    number: int
    outcome: Literal["retried", "failed", "snoozed", "cancelled", "completed", "running"]
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    next_at: datetime | None
    error: dict[str, Any] | None


class AttemptPage(Model):
    """Attempts of a job, oldest first unless the newest were asked for first.

    `next_cursor` is for the page after this one; null on the last.
    """

    items: list[AttemptItem]
    next_cursor: str | None


class LogItem(Model):
    """A line that the job's handler wrote."""

    number: int
    at: datetime
    level: Literal["debug", "info", "warning", "error", "critical"]
    message: str
    fields: dict[str, Any] | None


class LogPage(Model):
    """Lines of a job. `next_after` is the `after` of the page behind this one; null where this one was not full."""

    items: list[LogItem]
    next_after: int | None


class AuditItem(Model):
    """Who did what to the job."""

    at: datetime
    actor: str | None
    action: str
    detail: Any


class AuditPage(Model):
    """What was done to a job, oldest first unless the newest was asked for first.

    `next_cursor` is for the page after this one; null on the last.
    """

    items: list[AuditItem]
    next_cursor: str | None


class WhyReason(Model):
    """One reason why a job is not running."""

    code: str
    text: str
    next_event: str | None
    at: datetime | None
    details: dict[str, Any]


class WhyAnswer(Model):
    """Why a job is not running, what holds it now first."""

    job_id: str
    code: str
    sentence: str
    next_event: str | None
    next_at: datetime | None
    details: dict[str, Any]
    reasons: list[WhyReason]


class CountItem(Model):
    """How many. exact: false where there may be more."""

    number: int
    exact: bool


class Counts(Model):
    """How many records there are of each status."""

    counts: dict[Status, CountItem]


_PLAIN = ("id", "type", "queue", "tenant", "status", "phase", "attempts", "max_attempts", "generation", "priority")
_ASIDE = ("created_by", "source")
_TIMES = ("created_at", "updated_at", "scheduled_for", "next_attempt_at", "expires_at", "started_at", "finished_at")


class Shown:
    """Makes documents for one request.

    redact: what they must not show. payloads: whether payloads are shown at all. inside: whether tracebacks are shown,
    and who ran a job: both tell of the program and its hosts.
    """

    def __init__(self, connection: HTTPConnection, *, redact: Redact, payloads: bool, inside: bool) -> None:
        self._connection = connection
        self._redact = redact
        self._payloads = payloads
        self._inside = inside

    @property
    def rules(self) -> tuple[object, ...]:
        """What documents of one record depend on."""
        return self._redact, self._payloads, self._inside, link(self._connection)

    def job(self, record: JobRecord) -> dict[str, Any]:
        """A record."""
        return self._document(record, with_payload=self._payloads)

    def change(self, record: JobRecord) -> dict[str, Any]:
        """A record without its payload, which stays what it was."""
        return self._document(record, with_payload=False)

    def _document(self, record: JobRecord, *, with_payload: bool) -> dict[str, Any]:
        hide = self._redact.data
        document: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
        if with_payload:
            document["payload"] = hide(record.payload)
        if self._payloads:
            if record.output_json is not None:
                document["output"] = hide(record.output)
            elif record.status == "completed":
                document["output"] = None
        if record.error is not None:
            document["error" if record.status == "failed" else "last_error"] = self.error(record.error)
        document["progress"] = hide(record.progress)
        document["tags"] = hide(record.tags)
        document["metadata"] = hide(record.metadata)
        document["worker"] = record.worker if self._inside else None
        document |= {name: getattr(record, name) for name in _ASIDE}
        document["cancel_reason"] = None if record.cancel_reason is None else self._redact.text(record.cancel_reason)
        document["cancel_requested"] = record.cancel_requested_at is not None
        document |= {name: iso(getattr(record, name)) for name in _TIMES}
        document["links"] = links(self._connection, record.id)
        return document

    def attempt(self, attempt: Attempt) -> dict[str, Any]:
        """An attempt."""
        return {
            "generation": attempt.generation,
            "number": attempt.number,
            "outcome": attempt.outcome,
            "worker": attempt.worker if self._inside else None,
            "started_at": iso(attempt.started_at),
            "finished_at": iso(attempt.finished_at),
            "next_at": iso(attempt.next_at),
            "error": self.error(attempt.error),
        }

    def error(self, error: dict[str, Any] | None) -> dict[str, Any] | None:
        """An error that is kept with a record."""
        shown = self._redact.data(error)
        if shown is not None and not self._inside:
            shown.pop("traceback", None)
        return shown

    def line(self, line: NumberedLine) -> dict[str, Any]:
        """A line of a job's log."""
        return {
            "number": line.number,
            "at": iso_ms(line.at),
            "level": line.level,
            "message": self._redact.text(line.message),
            "fields": self._redact.data(line.fields),
        }

    def action(self, action: AuditEntry) -> dict[str, Any]:
        """An action on a job."""
        detail = None if action.detail is None else json.loads(action.detail)
        return {
            "at": iso_ms(action.at),
            "actor": action.actor,
            "action": action.action,
            "detail": self._redact.data(detail),
        }

    def why(self, why: Why) -> dict[str, Any]:
        """Why a job is not running."""
        return self._redact.data(why.to_json())


def links(connection: HTTPConnection, job_id: str) -> dict[str, str]:
    """Where a job's resources are."""
    job = link(connection, "v1", "jobs", job_id)
    return {
        "self": job,
        "logs": f"{job}/logs",
        "attempts": f"{job}/attempts",
        "audit": f"{job}/audit",
        "why": f"{job}/why",
        "cancel": f"{job}/cancel",
        "retry": f"{job}/retry",
        "reschedule": f"{job}/reschedule",
    }


def accepted_json(connection: HTTPConnection, handle: JobHandle[Any]) -> dict[str, Any]:
    """A job that was accepted."""
    return {
        "id": handle.id,
        "type": handle.type,
        "queue": handle.queue,
        "status": handle.status,
        "phase": handle.phase,
        "duplicate": handle.duplicate,
        "rerun": handle.rerun,
        "created_at": iso(handle.created_at),
        "links": links(connection, handle.id),
    }


def json_response(
    document: Mapping[str, Any] | Sequence[Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of JSON."""
    return Response(json_bytes(document), status, headers, "application/json")


def json_bytes(document: Any) -> bytes:
    """A document as it is sent. Text that no encoding holds is replaced, since an old record may have it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def iso(time: datetime | None) -> str | None:
    """A time as text."""
    return None if time is None else time.isoformat()


def iso_ms(at: int) -> str:
    """A time in ms since the epoch as text."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()
