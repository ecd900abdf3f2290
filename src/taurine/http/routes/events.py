"""`/v1/jobs/{job_id}/events` and `/v1/events`: what changes, as it happens, as server-sent events or over a WebSocket at the same path.

The first event of a job is the job as it is now, and the stream ends with the job. Of a tag or a tenant it begins with the next change. Each event has an id; who comes back with the last one that it has seen, in
`Last-Event-ID` or `after`, goes on behind it, in whichever process. An event may come twice, none is left out without a `reset`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from taurine.errors import RecordNotFound
from taurine.http.access.caller import Caller
from taurine.http.access.requires import requires
from taurine.http.calls import Api, api_of, tenant_for
from taurine.http.live.server_sent import ServerSentEvents
from taurine.http.live.sockets import serve_socket
from taurine.http.live.streams import Streams
from taurine.http.paths import InPath, Word
from taurine.http.problems import Invalid
from taurine.jobs.changes.subscription import Place
from taurine.ledger.statuses import TERMINAL

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["live"])

Position = Annotated[str, Field(max_length=40, pattern=r"^\d{1,15}-[0-9a-f]{8}$")]

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `job`, `reset`, `end` and `dropped`, until the stream ends.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The job has ended, and there is nothing to say behind that event: do not come back."},
}


class JobStream(BaseModel):
    """How one job is followed."""

    model_config = ConfigDict(extra="forbid")

    after: Position | None = Field(default=None, description="The id of the last event that was seen.")
    follow: bool = Field(default=False, description="Go on after the job has ended: it may be run again.")
    access_token: str | None = Field(
        default=None, description="A public token, for a browser's EventSource or WebSocket."
    )


class ManyStream(BaseModel):
    """What is followed; with both, the jobs of the tag that belong to the tenant."""

    model_config = ConfigDict(extra="forbid")

    tag: Word | None = None
    tenant: Word | None = None
    after: Position | None = Field(default=None, description="The id of the last event that was seen.")
    access_token: str | None = Field(
        default=None, description="A public token, for a browser's EventSource or WebSocket."
    )


@router.get("/jobs/{job_id}/events", response_class=Response, responses=_STREAM, summary="Follow a job")
async def follow_job(
    request: Request, job_id: InPath, query: Annotated[JobStream, Query()], caller: Annotated[Caller, requires("read")]
) -> Response:
    """A job's changes as server-sent events: what it is now, each change of status and progress, and an `end` when it has ended."""
    api, streams = await _ready(request, caller)
    after = _after(request, query.after)
    async with api.in_time():
        record = await api.app.get(job_id, tenant=caller.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    # A browser comes back for ever to a stream that has ended, unless it is told so.
    over = record.status in TERMINAL and not query.follow
    if over and after is not None and Place.read(after).ms >= round(record.updated_at.timestamp() * 1000):
        return Response(status_code=204)
    changes = api.app.changes(job_id=job_id, tenant=caller.tenant, after=after, follow=query.follow)
    return ServerSentEvents(
        changes, caller=caller, shown=api.shown(request, caller), streams=streams, allowed=_asking(api, request)
    )


@router.get("/events", response_class=Response, responses={200: _STREAM[200]}, summary="Follow a tag or a tenant")
async def follow_many(
    request: Request, query: Annotated[ManyStream, Query()], caller: Annotated[Caller, requires("read", heeds_tag=True)]
) -> Response:
    """The changes of all jobs of a tag, or of a tenant, as server-sent events."""
    api, streams = await _ready(request, caller)
    changes = api.app.changes(**_topic(caller, query), after=_after(request, query.after))
    return ServerSentEvents(
        changes, caller=caller, shown=api.shown(request, caller), streams=streams, allowed=_asking(api, request)
    )


@router.websocket("/jobs/{job_id}/events")
async def follow_job_by_socket(
    socket: WebSocket, job_id: InPath, query: Annotated[JobStream, Query()], caller: Annotated[Caller, requires("read")]
) -> None:
    """The same as messages of a WebSocket."""
    api, streams = await _ready(socket, caller)
    async with api.in_time():
        record = await api.app.get(job_id, tenant=caller.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    changes = api.app.changes(job_id=job_id, tenant=caller.tenant, after=query.after, follow=query.follow)
    await serve_socket(
        socket, changes, caller=caller, shown=api.shown(socket, caller), streams=streams, allowed=_asking(api, socket)
    )


@router.websocket("/events")
async def follow_many_by_socket(
    socket: WebSocket,
    query: Annotated[ManyStream, Query()],
    caller: Annotated[Caller, requires("read", heeds_tag=True)],
) -> None:
    """The same as messages of a WebSocket."""
    api, streams = await _ready(socket, caller)
    changes = api.app.changes(**_topic(caller, query), after=query.after)
    await serve_socket(
        socket, changes, caller=caller, shown=api.shown(socket, caller), streams=streams, allowed=_asking(api, socket)
    )


async def _ready(connection: HTTPConnection, caller: Caller) -> tuple[Api, Streams]:
    api, streams = api_of(connection), connection.app.state.streams
    streams.require_room(caller)
    await api.open()
    return api, streams


def _asking(api: Api, connection: HTTPConnection) -> Callable[[], Awaitable[object]]:
    """Whether the caller of a stream that is open may still listen."""
    return lambda: api.gate.caller(connection, "read", heeds_tag=True)


def _after(request: Request, asked: str | None) -> str | None:
    """Where a client goes on: a browser that comes back by itself says it in the header, and with the query that it began with."""
    last = request.headers.get("last-event-id", "")
    return str(Place.read(last)) if last else asked


def _topic(caller: Caller, query: ManyStream) -> dict[str, Any]:
    tenant = tenant_for(caller, query.tenant)
    if tenant is None and query.tag is None:
        raise Invalid("expected tag or tenant: what to follow", errors=[("/query/tag", "expected tag or tenant")])
    return {"tag": query.tag, "tenant": tenant}
