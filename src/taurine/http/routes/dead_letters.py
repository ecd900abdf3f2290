"""`/v1/dead-letters`: the jobs that failed for good. A caller with a tenant sees, and changes, those of its tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Query as InQuery
from pydantic import BaseModel, Field
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from taurine.http.calls import api_of, tenant_for
from taurine.http.operators import Query, Reader, Request, TenantOperator, TenantReader, Word
from taurine.http.paths import InPath, link
from taurine.http.problems import Refusal
from taurine.http.representations import AttemptItem, AuditItem, Job, LogItem, iso, json_response
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.dead_letter_entry import DeadLetter

__all__ = ["router"]

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


class DeadLetterUnknown(Refusal):
    """There is no such entry, or it is another tenant's."""

    status, code, title = 404, "dead_letter_not_found", "There is no such dead letter"


# What comes in --------------------------------------------------------------------------------------------------------------------


class ListQuery(Query):
    """Each filter that is given must hold."""

    status: Literal["open", "redriven", "discarded", "all"] = "open"
    queue: Word | None = None
    type: Word | None = None
    tenant: Word | None = None
    fingerprint: Word | None = Field(default=None, description="Of the error: the same means one cause.")
    job_id: Word | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: int = Field(default=50, ge=1, le=500)


class Redrive(Request):
    """How to run it again. Without a payload, with the one that failed."""

    payload: Any = Field(default=None, description="In place of the one that failed; checked against the job type.")


# What goes out --------------------------------------------------------------------------------------------------------------------


class DeadLetterLinks(BaseModel):
    """Paths of what belongs to an entry."""

    self: str
    redrive: str
    discard: str
    job: str


class DeadLetterItem(BaseModel):
    """A job that failed for good. `payload` is left out where the application hides payloads."""

    id: str
    job_id: str
    generation: int
    type: str
    queue: str
    tenant: str | None
    status: Literal["open", "redriven", "discarded"]
    reason: Literal["exhausted", "permanent", "crashed", "unknown_type"]
    attempts: int
    max_attempts: int
    priority: int
    payload: Any = None
    error: dict[str, Any]
    error_fingerprint: str | None
    created_by: str | None
    failed_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    redriven_as: str | None
    links: DeadLetterLinks


class DeadLetterPage(BaseModel):
    """Entries, the latest failure first."""

    items: list[DeadLetterItem]
    next_cursor: str | None


class DeadLetterExamination(BaseModel):
    """Everything that is known of one, to judge it by: all attempts of its job, the latest 1,000 lines, and who did what."""

    dead_letter: DeadLetterItem
    attempts: list[AttemptItem]
    lines: list[LogItem]
    actions: list[AuditItem]


class DeadLetterDepths(BaseModel):
    """How many open entries each queue has; queues without one are left out."""

    queues: dict[str, int]
    total: int


def entry_json(request: HTTPRequest, entry: DeadLetter, *, redact: Redact, payloads: bool) -> dict[str, Any]:
    """A dead letter as a document."""
    words = ("id", "job_id", "generation", "type", "queue", "tenant", "status", "reason", "attempts", "max_attempts")
    document = {name: getattr(entry, name) for name in (*words, "priority")}
    if payloads:
        document["payload"] = redact.data(entry.payload)
    document["error"] = redact.data(entry.error)
    at = link(request, "v1", "dead-letters", entry.id)
    return document | {
        "error_fingerprint": entry.error_fingerprint,
        "created_by": entry.created_by,
        "failed_at": iso(entry.failed_at),
        "resolved_at": iso(entry.resolved_at),
        "resolved_by": entry.resolved_by,
        "redriven_as": entry.redriven_as,
        "links": {
            "self": at,
            "redrive": f"{at}/redrive",
            "discard": f"{at}/discard",
            "job": link(request, "v1", "jobs", entry.job_id),
        },
    }


# Looking --------------------------------------------------------------------------------------------------------------------------


@router.get("", response_model=DeadLetterPage, summary="List dead letters")
async def list_dead_letters(
    request: HTTPRequest, query: Annotated[ListQuery, InQuery()], caller: TenantReader
) -> Response:
    """Jobs that failed for good, the latest failure first, in pages."""
    api = api_of(request)
    filters = query.model_dump(exclude={"status", "tenant"})
    tenant = tenant_for(caller, query.tenant)
    status = None if query.status == "all" else query.status
    await api.open()
    async with api.in_time():
        page = await api.app.dead_letters.list(status=status, tenant=tenant, **filters)
    redact = api.gate.redact_for(caller)
    items = [entry_json(request, entry, redact=redact, payloads=api.payloads) for entry in page]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@router.get("/depth", response_model=DeadLetterDepths, summary="Count open dead letters by queue")
async def show_depth(request: HTTPRequest, caller: Reader) -> Response:
    """How many entries of each queue nobody has dealt with."""
    del caller
    api = api_of(request)
    await api.open()
    async with api.in_time():
        queues = await api.app.dead_letters.depth()
    return json_response({"queues": queues, "total": sum(queues.values())})


@router.get("/{entry_id}", response_model=DeadLetterExamination, summary="Examine a dead letter")
async def examine(request: HTTPRequest, entry_id: InPath, caller: TenantReader) -> Response:
    """The entry with the attempts of its job, their errors and times, the log lines, and who did what. The id of a job stands for its latest entry."""
    api = api_of(request)
    entry = await _entry(request, entry_id, caller.tenant)
    async with api.in_time():
        found = await api.app.dead_letters.examine(entry, tenant=caller.tenant)
    shown, redact = api.shown(request, caller), api.gate.redact_for(caller)
    return json_response(
        {
            "dead_letter": entry_json(request, found.entry, redact=redact, payloads=api.payloads),
            "attempts": [*map(shown.attempt, found.attempts)],
            "lines": [*map(shown.line, found.lines)],
            "actions": [*map(shown.action, found.actions)],
        }
    )


# Dealing with them ----------------------------------------------------------------------------------------------------------------


@router.post("/{entry_id}/redrive", response_model=Job, status_code=202, summary="Run a dead letter again")
async def redrive(
    request: HTTPRequest, entry_id: InPath, caller: TenantOperator, how: Redrive | None = None
) -> Response:
    """Run the job of an entry again, as a new generation with all its attempts, with another payload or the same. Repeating it is refused with 409."""
    api = api_of(request)
    entry = await _entry(request, entry_id, caller.tenant)
    payload = None if how is None else how.payload
    record = await api.app.dead_letters.redrive(entry.id, payload=payload, user=caller.name, tenant=caller.tenant)
    headers = {"Location": link(request, "v1", "jobs", record.id)}
    return json_response(api.shown(request, caller).job(record), 202, headers)


@router.post("/{entry_id}/discard", response_model=DeadLetterItem, summary="Put a dead letter aside")
async def discard(request: HTTPRequest, entry_id: InPath, caller: TenantOperator) -> Response:
    """Put an entry aside: its job stays failed, and nobody need look at it any more. It is kept, and can be listed."""
    api = api_of(request)
    entry = await _entry(request, entry_id, caller.tenant)
    discarded = await api.app.dead_letters.discard(entry.id, user=caller.name, tenant=caller.tenant)
    redact = api.gate.redact_for(caller)
    return json_response(entry_json(request, discarded, redact=redact, payloads=api.payloads))


async def _entry(request: HTTPRequest, entry_id: str, tenant: str | None) -> DeadLetter:
    api = api_of(request)
    await api.open()
    async with api.in_time():
        entry = await api.app.dead_letters.get(entry_id, tenant=tenant)
    if entry is None:
        raise DeadLetterUnknown(f"there is no dead letter {entry_id!r:.200}")
    return entry
