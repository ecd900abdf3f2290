"""`/v1/bulk`: changing many jobs or dead letters, by a durable job. A caller with a tenant reaches those of its tenant.

What a filter reaches is counted first, and shown to whoever asks: `expected` says that they have seen it. More than
that by now is 409, and nothing is done.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import Call, OperateCall, ReadCall
from taurine.http.incoming import Body, Cursor, Parameters, Word
from taurine.http.paths import InPath, link
from taurine.http.problems import Invalid, Refusal, pointer
from taurine.http.representations import iso, iso_ms, json_response
from taurine.jobs.operations.bulk import MOST
from taurine.jobs.operations.bulk_orders import BulkAction, BulkFilter, BulkOrder, BulkRefusal, BulkResult, Matching
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import Phase, Status

__all__ = ["router"]

router = APIRouter(prefix="/v1/bulk", tags=["bulk"])

_MOST_IDS = 1000
"""Ids of one request; what the library takes is more than a body holds."""


class BulkUnknown(Refusal):
    """There is no such operation, or it is another tenant's."""

    status, code, title = 404, "bulk_not_found", "There is no such bulk operation"


# What comes in --------------------------------------------------------------------------------------------------------------------


class Filter(Body):
    """Which jobs, or which dead letters; each one that is given must hold.

    `status`, `tag`, `user`, `since` and `until` are asked of jobs only.
    """

    status: Status | None = None
    type: Word | None = None
    queue: Word | None = None
    tag: Word | None = None
    user: Word | None = Field(default=None, description="Who enqueued them.")
    since: AwareDatetime | None = Field(default=None, description="Created at this time or later.")
    until: AwareDatetime | None = Field(default=None, description="Created before this time.")
    fingerprint: Word | None = Field(default=None, description="Of the error: the same means one cause.")

    def wanted(self) -> BulkFilter:
        """The same in the library's words."""
        words = self.model_dump(include=set(BulkFilter.model_fields), exclude={"since", "until"}, exclude_none=True)
        for name in ("since", "until"):
            if (time := getattr(self, name)) is not None:
                words[name] = time.timestamp()
        return BulkFilter(**words)


class CountQuery(Filter, Parameters):
    """What is counted."""

    action: BulkAction
    tenant: Word | None = None


class Order(Body):
    """What is to be done, and to which: `ids`, or `where`, which may be empty for all."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"action": "redrive", "where": {"type": "invite.send"}, "expected": 120}]}
    }

    action: BulkAction = Field(description="redrive or discard dead letters; retry or cancel jobs.")
    ids: Annotated[list[Word], Field(min_length=1, max_length=_MOST_IDS)] | None = None
    where: Filter | None = None
    expected: int | None = Field(
        default=None,
        ge=0,
        le=MOST,
        strict=True,
        description="How many you have seen that the filter reaches; needed with `where`.",
    )
    at: AwareDatetime | None = Field(
        default=None, description="When that was, as the count has given it. Default: now."
    )
    limit: int | None = Field(default=None, ge=1, le=MOST, strict=True)
    rate: float | None = Field(default=None, gt=0, le=MOST, strict=True, description="How many a second at most.")
    reason: Annotated[str, Field(min_length=1, max_length=1000)] = "cancelled in bulk"
    tenant: Word | None = None


class ListQuery(Parameters):
    """A page of operations."""

    tenant: Word | None = None
    cursor: Cursor | None = None
    limit: int = Field(default=50, ge=1, le=500)


# What goes out --------------------------------------------------------------------------------------------------------------------


class BulkLinks(BaseModel):
    """Paths of what belongs to an operation."""

    self: str
    cancel: str
    job: str


class BulkItem(BaseModel):
    """A bulk operation, and how far it is.

    `number` is how many it reaches at most; `done`, `skipped` and `refused` count what became of those that it has come
    to.
    """

    id: str
    action: BulkAction
    status: Status
    phase: Phase
    tenant: str | None
    ids: int | None = Field(description="How many were named by their ids; null for a filter.")
    where: dict[str, Any] | None
    before: datetime = Field(description="The moment of the snapshot.")
    number: int
    done: int
    skipped: int = Field(description="Those that were no longer as they were when they were counted.")
    refused: int
    errors: list[BulkRefusal] = Field(description="Why, of the first 20 that were refused.")
    progress: Any
    created_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: BulkLinks


class BulkPage(BaseModel):
    """Operations, the newest first."""

    items: list[BulkItem]
    next_cursor: str | None


def _bulk_json(call: Call, record: JobRecord) -> dict[str, Any]:
    """An operation as a document."""
    order = BulkOrder.model_validate(record.payload)
    # The result is there at the end; until then, what was saved for the next attempt.
    state = cast("dict[str, Any]", record.state or {})
    result = BulkResult.model_validate(state.get("result", {}) if record.output is None else record.output)
    at = link(call.request, "v1", "bulk", record.id)
    return {
        "id": record.id,
        "action": order.action,
        "status": record.status,
        "phase": record.phase,
        "tenant": record.tenant,
        "ids": None if order.ids is None else len(order.ids),
        "where": call.redact.data(order.where.model_dump(exclude_none=True)) if order.ids is None else None,
        "before": iso_ms(order.before),
        "number": order.limit,
        **call.redact.data(result.model_dump()),
        "progress": record.progress,
        "created_by": record.created_by,
        "created_at": iso(record.created_at),
        "started_at": iso(record.started_at),
        "finished_at": iso(record.finished_at),
        "links": {"self": at, "cancel": f"{at}/cancel", "job": link(call.request, "v1", "jobs", record.id)},
    }


# Routes ---------------------------------------------------------------------------------------------------------------------------


@router.get("/count", response_model=Matching, summary="Count what a bulk operation would reach")
async def count(query: Annotated[CountQuery, Query()], call: ReadCall) -> Response:
    """How many, exact up to 100,000, and when that was.

    Show it, and send `number` as `expected` and `at` with the operation. It changes nothing.
    """
    tenant = call.tenant_for(query.tenant)
    matching = await call.app.bulk.count(query.action, query.wanted(), tenant=tenant)
    return json_response(matching.model_dump(mode="json"))


@router.post("", response_model=BulkItem, status_code=202, summary="Change many jobs or dead letters")
async def start(order: Order, call: OperateCall) -> Response:
    """Start an operation, which a worker carries out: 202 with its path.

    With a filter, `expected` is how many its caller has seen; more than that by now is 409.
    """
    if order.where is not None and order.expected is None:
        what = "expected the number that a count of the same filter gave: what it reaches may have grown"
        raise Invalid(f"expected: {what}", errors=[(pointer("expected"), what)])
    handle = await call.app.bulk.start(
        order.action,
        ids=order.ids,
        where=None if order.where is None else order.where.wanted(),
        user=call.user,
        tenant=call.tenant_for(order.tenant),
        **order.model_dump(include={"expected", "at", "limit", "rate", "reason"}),
    )
    document = _bulk_json(call, await _record(call, handle.id))
    return json_response(document, 202, {"Location": document["links"]["self"]})


@router.get("", response_model=BulkPage, summary="List bulk operations")
async def list_operations(query: Annotated[ListQuery, Query()], call: ReadCall) -> Response:
    """Operations that were asked for, the newest first, in pages."""
    tenant = call.tenant_for(query.tenant)
    page = await call.app.bulk.list(tenant=tenant, cursor=query.cursor, limit=query.limit)
    return json_response({"items": [_bulk_json(call, record) for record in page], "next_cursor": page.next_cursor})


@router.get("/{bulk_id}", response_model=BulkItem, summary="Show a bulk operation")
async def show(bulk_id: InPath, call: ReadCall) -> Response:
    """How far an operation is, and what became of what it has come to."""
    return json_response(_bulk_json(call, await _record(call, bulk_id)))


@router.post("/{bulk_id}/cancel", response_model=BulkItem, summary="Stop a bulk operation")
async def cancel(bulk_id: InPath, call: OperateCall) -> Response:
    """Stop an operation in the middle: within a second it begins no further step.

    What it has done until then stays done, and is counted.
    """
    await _record(call, bulk_id)
    await call.app.cancel(bulk_id, reason="stopped by its operator", user=call.user, tenant=call.tenant)
    return json_response(_bulk_json(call, await _record(call, bulk_id)))


async def _record(call: Call, bulk_id: str) -> JobRecord:
    record = await call.app.bulk.get(bulk_id, tenant=call.tenant)
    if record is None:
        raise BulkUnknown(f"there is no bulk operation {bulk_id!r:.200}")
    return record
