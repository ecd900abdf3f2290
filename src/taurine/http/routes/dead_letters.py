"""`/v1/dead-letters`: the jobs that failed for good. A caller with a tenant sees, and changes, those of its tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import Call, OperateCall, ReadAllCall, ReadCall
from taurine.http.incoming import Body, Parameters, Word
from taurine.http.paths import InPath, link
from taurine.http.problems import Refusal
from taurine.http.representations import AttemptItem, AuditItem, Job, LogItem, iso, json_response
from taurine.ledger.dead_letter_entry import DeadLetter

__all__ = ["router"]

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


class DeadLetterUnknown(Refusal):
    """There is no such entry, or it is another tenant's."""

    status, code, title = 404, "dead_letter_not_found", "There is no such dead letter"


# What comes in --------------------------------------------------------------------------------------------------------------------


class ListQuery(Parameters):
    """Each filter that is given must hold."""

    status: Literal["open", "redriven", "discarded", "all"] = "open"
    queue: Word | None = None
    type: Word | None = None
    tenant: Word | None = None
    fingerprint: Word | None = Field(default=None, description="Of the error: the same means one cause.")
    job_id: Word | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: int = Field(default=50, ge=1, le=500)


class Redrive(Body):
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
    """Everything that is known of one, to judge it by: all attempts of its job, the latest 1,000 lines, and who did
    what.
    """

    dead_letter: DeadLetterItem
    attempts: list[AttemptItem]
    lines: list[LogItem]
    actions: list[AuditItem]


class DeadLetterDepths(BaseModel):
    """How many open entries each queue has; queues without one are left out."""

    queues: dict[str, int]
    total: int


def _entry_json(call: Call, entry: DeadLetter) -> dict[str, Any]:
    """A dead letter as a document."""
    words = ("id", "job_id", "generation", "type", "queue", "tenant", "status", "reason", "attempts", "max_attempts")
    document = {name: getattr(entry, name) for name in (*words, "priority")}
    if call.api.payloads:
        document["payload"] = call.redact.data(entry.payload)
    document["error"] = call.shown.error(entry.error)
    at = link(call.request, "v1", "dead-letters", entry.id)
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
            "job": link(call.request, "v1", "jobs", entry.job_id),
        },
    }


async def _entry_aside(call: Call, entry: DeadLetter) -> dict[str, Any]:
    return await call.aside(len(entry.payload_json), lambda: _entry_json(call, entry))


# Looking --------------------------------------------------------------------------------------------------------------------------


@router.get("", response_model=DeadLetterPage, summary="List dead letters")
async def list_dead_letters(query: Annotated[ListQuery, Query()], call: ReadCall) -> Response:
    """Jobs that failed for good, the latest failure first, in pages."""
    filters = query.model_dump(exclude={"status", "tenant"})
    tenant = call.tenant_for(query.tenant)
    status = None if query.status == "all" else query.status
    page = await call.app.dead_letters.list(status=status, tenant=tenant, **filters)
    size = sum(len(entry.payload_json) for entry in page)
    items = await call.aside(size, lambda: [_entry_json(call, entry) for entry in page])
    return json_response({"items": items, "next_cursor": page.next_cursor})


@router.get("/depth", response_model=DeadLetterDepths, summary="Count open dead letters by queue")
async def show_depth(call: ReadAllCall) -> Response:
    """How many entries of each queue nobody has dealt with."""
    queues = await call.app.dead_letters.depth()
    return json_response({"queues": queues, "total": sum(queues.values())})


@router.get("/{entry_id}", response_model=DeadLetterExamination, summary="Examine a dead letter")
async def examine(entry_id: InPath, call: ReadCall) -> Response:
    """The entry with the attempts of its job, their errors and times, the log lines, and who did what.

    The id of a job stands for its latest entry.
    """
    entry = await _entry(call, entry_id)
    found = await call.app.dead_letters.examine(entry, tenant=call.tenant)
    return json_response(
        {
            "dead_letter": await _entry_aside(call, found.entry),
            "attempts": await call.attempts(found.attempts),
            "lines": await call.lines(found.lines),
            "actions": [*map(call.shown.action, found.actions)],
        }
    )


# Dealing with them ----------------------------------------------------------------------------------------------------------------


@router.post("/{entry_id}/redrive", response_model=Job, status_code=202, summary="Run a dead letter again")
async def redrive(entry_id: InPath, call: OperateCall, how: Redrive | None = None) -> Response:
    """Run the job of an entry again, as a new generation with all its attempts, with another payload or the same.

    Repeating it is refused with 409.
    """
    entry = await _entry(call, entry_id)
    payload = None if how is None else how.payload
    record = await call.app.dead_letters.redrive(entry.id, payload=payload, user=call.user, tenant=call.tenant)
    headers = {"Location": link(call.request, "v1", "jobs", record.id)}
    return json_response(await call.job(record), 202, headers)


@router.post("/{entry_id}/discard", response_model=DeadLetterItem, summary="Put a dead letter aside")
async def discard(entry_id: InPath, call: OperateCall) -> Response:
    """Put an entry aside: its job stays failed, and nobody need look at it any more. It is kept, and can be listed."""
    entry = await _entry(call, entry_id)
    discarded = await call.app.dead_letters.discard(entry.id, user=call.user, tenant=call.tenant)
    return json_response(await _entry_aside(call, discarded))


async def _entry(call: Call, entry_id: str) -> DeadLetter:
    entry = await call.app.dead_letters.get(entry_id, tenant=call.tenant)
    if entry is None:
        raise DeadLetterUnknown(f"there is no dead letter {entry_id!r:.200}")
    return entry
