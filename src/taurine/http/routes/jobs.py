"""`/v1/jobs`: looking at jobs, one or many. Nothing here changes anything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from taurine.errors import RecordNotFound
from taurine.http.access.caller import Caller
from taurine.http.access.requires import requires
from taurine.http.calls import api_of, tenant_for
from taurine.http.paths import InPath, Word
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

Reader = Annotated[Caller, requires("read")]


class ListQuery(BaseModel):
    """Each filter that is given must hold."""

    model_config = ConfigDict(extra="forbid")

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
    cursor: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters."
    )
    limit: int = Field(default=50, ge=1, le=500)


class LogQuery(BaseModel):
    """A page of lines."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=2**31 - 1, description="The number of the last line of the page before.")
    limit: int = Field(default=100, ge=1, le=1000)
    newest_first: bool = False


class CountQuery(BaseModel):
    """What is counted."""

    model_config = ConfigDict(extra="forbid")

    tenant: Word | None = None
    queue: Word | None = None


class Ids(BaseModel):
    """Ids of jobs."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": ["invite:ada", "invite:eve"]}]})

    ids: list[Word] = Field(min_length=1, max_length=500)


@router.get("/jobs", response_model=JobPage, summary="List jobs")
async def list_jobs(
    request: Request, query: Annotated[ListQuery, Query()], caller: Annotated[Caller, requires("read", heeds_tag=True)]
) -> Response:
    """Jobs, the newest first, in pages. A page costs the same wherever it is, and jobs that come or go meanwhile move nothing."""
    api = api_of(request)
    filters: dict[str, Any] = query.model_dump(exclude_none=True)
    tenant = tenant_for(caller, filters.pop("tenant", None))
    await api.open()
    async with api.in_time():
        text = filters.pop("q", None)
        listing = (
            api.app.list(tenant=tenant, **filters) if text is None else api.app.search(text, tenant=tenant, **filters)
        )
        page = await listing
    shown = api.shown(request, caller)
    return json_response({"items": [*map(shown.job, page.items)], "next_cursor": page.next_cursor})


@router.get("/jobs/{job_id}", response_model=Job, summary="Show a job")
async def get_job(request: Request, job_id: InPath, caller: Reader) -> Response:
    """A job's record, also when its queue no longer has it. `phase` is for simple clients: `queued`, `running`, `completed` or `failed`."""
    api = api_of(request)
    await api.open()
    async with api.in_time():
        record = await api.app.get(job_id, tenant=caller.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response(api.shown(request, caller).job(record))


@router.post("/lookup", response_model=Lookup, summary="Show many jobs by id")
async def look_up(request: Request, ids: Ids, caller: Reader) -> Response:
    """The jobs of up to 500 ids in one call, in the order of the ids. It changes nothing; it is a POST since ids are long."""
    api = api_of(request)
    await api.open()
    async with api.in_time():
        found = await api.app.get_many(ids.ids, tenant=caller.tenant)
    shown = api.shown(request, caller)
    unique = dict.fromkeys(ids.ids)
    return json_response(
        {
            "items": [shown.job(found[job_id]) for job_id in unique if job_id in found],
            "missing": [job_id for job_id in unique if job_id not in found],
        }
    )


@router.get("/counts", response_model=Counts, summary="Count jobs by status")
async def count_jobs(request: Request, query: Annotated[CountQuery, Query()], caller: Reader) -> Response:
    """How many jobs there are of each status, exact up to 10,000 of each."""
    api = api_of(request)
    tenant = tenant_for(caller, query.tenant)
    await api.open()
    async with api.in_time():
        counts = await api.app.counts(tenant=tenant, queue=query.queue)
    return json_response({"counts": {status: count._asdict() for status, count in counts.items()}})


@router.get("/jobs/{job_id}/attempts", response_model=AttemptPage, summary="List a job's attempts")
async def list_attempts(request: Request, job_id: InPath, caller: Reader) -> Response:
    """The attempts of a job with their errors and times, oldest first."""
    api = api_of(request)
    await api.open()
    async with api.in_time():
        attempts = await api.app.attempts(job_id, tenant=caller.tenant)
    return json_response({"items": [*map(api.shown(request, caller).attempt, attempts)]})


@router.get("/jobs/{job_id}/logs", response_model=LogPage, summary="Read a job's log")
async def read_log(request: Request, job_id: InPath, query: Annotated[LogQuery, Query()], caller: Reader) -> Response:
    """The lines that the job's handler wrote; the latest 1,000 are kept."""
    api = api_of(request)
    await api.open()
    async with api.in_time():
        lines = await api.app.logs(job_id, tenant=caller.tenant, **query.model_dump())
    return json_response(
        {
            "items": [*map(api.shown(request, caller).line, lines)],
            "next_after": lines[-1].number if len(lines) == query.limit else None,
        }
    )


@router.get("/jobs/{job_id}/audit", response_model=AuditPage, summary="Show who did what to a job")
async def read_audit(request: Request, job_id: InPath, caller: Reader) -> Response:
    """Who did what to a job, oldest first; also of one whose record is no longer kept."""
    api = api_of(request)
    await api.open()
    async with api.in_time():
        actions = await api.app.audit(job_id, tenant=caller.tenant)
        known = bool(actions) or await api.app.get(job_id, tenant=caller.tenant) is not None
    if not known:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response({"items": [*map(api.shown(request, caller).action, actions)]})


@router.get("/jobs/{job_id}/why", response_model=WhyAnswer, summary="Ask why a job is not running")
async def ask_why(request: Request, job_id: InPath, caller: Reader) -> Response:
    """Why a job is not running, in a sentence and in a code, and what is expected next. It answers within seconds also when a server is down."""
    api = api_of(request)
    await api.open()
    why = await api.app.why(job_id, tenant=caller.tenant)
    if why.code == "not_found":
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    return json_response(api.shown(request, caller).why(why))
