"""`/v1/jobs`: looking at jobs, one or many. Nothing here changes anything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from taurine.errors import RecordNotFound
from taurine.http.calls import Call, ReadCall, calls
from taurine.http.incoming import Body, Cursor, Parameters, Word
from taurine.http.paths import InPath
from taurine.http.representations import (
    AttemptPage,
    AuditPage,
    Counts,
    Job,
    JobPage,
    LogPage,
    Lookup,
    WhyAnswer,
    json_response,
)
from taurine.ledger.statuses import Phase, Status

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["jobs"])


class ListQuery(Parameters):
    """Each filter that is given must hold."""

    q: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Text that stands in the id, the type, a tag or the error. A page looks at 10,000 jobs at most: go on while there is a `next_cursor`.",
    )
    status: Status | None = None
    phase: Phase | None = None
    type: Word | None = None
    queue: Word | None = None
    tenant: Word | None = None
    tag: Word | None = None
    user: Word | None = Field(default=None, description="Who enqueued them.")
    since: AwareDatetime | None = Field(default=None, description="Created at this time or later.")
    until: AwareDatetime | None = Field(default=None, description="Created before this time.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before, with the same filters.")
    limit: int = Field(default=50, ge=1, le=500)


class LogQuery(Parameters):
    """A page of lines."""

    after: int = Field(default=0, ge=0, le=2**31 - 1, description="The number of the last line of the page before.")
    limit: int = Field(default=100, ge=1, le=1000)
    newest_first: bool = False


class HistoryQuery(Parameters):
    """A page of what has happened to a job."""

    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before, in the same order.")
    limit: int = Field(default=100, ge=1, le=500)
    newest_first: bool = False


class CountQuery(Parameters):
    """What is counted."""

    tenant: Word | None = None
    queue: Word | None = None


class Ids(Body):
    """Ids of jobs."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"ids": ["invite:ada", "invite:eve"]}]}}

    ids: list[Word] = Field(min_length=1, max_length=500)


@router.get("/jobs", response_model=JobPage, summary="List jobs")
async def list_jobs(
    query: Annotated[ListQuery, Query()], call: Annotated[Call, calls("read", heeds_tag=True)]
) -> Response:
    """Jobs, the newest first, in pages.

    A page costs the same wherever it is, and jobs that come or go meanwhile move nothing.
    """
    filters: dict[str, Any] = query.model_dump(exclude_none=True)
    tenant = call.tenant_for(filters.pop("tenant", None))
    text = filters.pop("q", None)
    if text is None:
        page = await call.app.list(tenant=tenant, **filters)
    else:
        page = await call.app.search(text, tenant=tenant, **filters)
    return json_response({"items": await call.jobs(page.items), "next_cursor": page.next_cursor})


@router.get("/jobs/{job_id}", response_model=Job, summary="Show a job")
async def get_job(job_id: InPath, call: ReadCall) -> Response:
    """A job's record, also when its queue no longer has it.

    `phase` is for simple clients: `queued`, `running`, `completed` or `failed`.
    """
    record = await call.app.get(job_id, tenant=call.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response(await call.job(record))


@router.post("/lookup", response_model=Lookup, summary="Show many jobs by id")
async def look_up(ids: Ids, call: ReadCall) -> Response:
    """The jobs of up to 500 ids in one call, in the order of the ids.

    It changes nothing; it is a POST since ids are long.
    """
    found = await call.app.look_up(ids.ids, tenant=call.tenant)
    return json_response(
        {"items": await call.jobs(found.records), "missing": found.missing, "left_out": found.left_out}
    )


@router.get("/counts", response_model=Counts, summary="Count jobs by status")
async def count_jobs(query: Annotated[CountQuery, Query()], call: ReadCall) -> Response:
    """How many jobs there are of each status, exact up to 10,000 of each."""
    tenant = call.tenant_for(query.tenant)
    counts = await call.app.counts(tenant=tenant, queue=query.queue)
    return json_response({"counts": {status: count._asdict() for status, count in counts.items()}})


@router.get("/jobs/{job_id}/attempts", response_model=AttemptPage, summary="List a job's attempts")
async def list_attempts(job_id: InPath, query: Annotated[HistoryQuery, Query()], call: ReadCall) -> Response:
    """The attempts of a job with their errors and times, the one that runs included."""
    page = await call.app.attempts(job_id, tenant=call.tenant, **query.model_dump())
    return json_response({"items": await call.attempts(page), "next_cursor": page.next_cursor})


@router.get("/jobs/{job_id}/logs", response_model=LogPage, summary="Read a job's log")
async def read_log(job_id: InPath, query: Annotated[LogQuery, Query()], call: ReadCall) -> Response:
    """The lines that the job's handler wrote; the latest 1,000 are kept."""
    lines = await call.app.logs(job_id, tenant=call.tenant, **query.model_dump())
    return json_response(
        {
            "items": await call.lines(lines),
            "next_after": lines[-1].number if len(lines) == query.limit else None,
        }
    )


@router.get("/jobs/{job_id}/audit", response_model=AuditPage, summary="Show who did what to a job")
async def read_audit(job_id: InPath, query: Annotated[HistoryQuery, Query()], call: ReadCall) -> Response:
    """Who did what to a job; also of one whose record is no longer kept."""
    page = await call.app.audit(job_id, tenant=call.tenant, **query.model_dump())
    known = bool(page) or await call.app.get(job_id, tenant=call.tenant) is not None
    if not known:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response({"items": [*map(call.shown.action, page)], "next_cursor": page.next_cursor})


@router.get("/jobs/{job_id}/why", response_model=WhyAnswer, summary="Ask why a job is not running")
async def ask_why(job_id: InPath, call: Annotated[Call, calls("read", queues=True)]) -> Response:
    """Why a job is not running, in a sentence and in a code, and what is expected next.

    It answers within seconds also when a server is down.
    """
    why = await call.app.why(job_id, tenant=call.tenant, whole=call.caller.sees_all)
    if why.code == "not_found":
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response(call.shown.why(why))
