"""`/v1/jobs/{job_id}/events` and `/v1/events`: what changes, as it happens, as server-sent events or over a WebSocket
at the same path.

The first event of a job is the job as it is now, and the stream ends with the job. Of a tag or a tenant it begins with
the next change. Each event has an id; who comes back with the last one that it has seen, in `Last-Event-ID` or `after`,
goes on behind it, in whichever process. An event may come twice, none is left out without a `reset`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from taurine.errors import RecordNotFound
from taurine.http.calls import Call, ReadCall, calls
from taurine.http.incoming import Parameters, Word
from taurine.http.live.listener import Listener
from taurine.http.live.server_sent import ServerSentEvents
from taurine.http.live.sockets import serve_socket
from taurine.http.live.streams import Streams
from taurine.http.paths import InPath
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


class JobStream(Parameters):
    """How one job is followed."""

    after: Position | None = Field(default=None, description="The id of the last event that was seen.")
    follow: bool = Field(default=False, description="Go on after the job has ended: it may be run again.")


class ManyStream(Parameters):
    """What is followed; with both, the jobs of the tag that belong to the tenant."""

    tag: Word | None = None
    tenant: Word | None = None
    after: Position | None = Field(default=None, description="The id of the last event that was seen.")


@router.get("/jobs/{job_id}/events", response_class=Response, responses=_STREAM, summary="Follow a job")
async def follow_job(
    request: Request, job_id: InPath, query: Annotated[JobStream, Query()], call: ReadCall
) -> Response:
    """A job's changes as server-sent events: what it is now, each change of status and progress, and an `end` when it
    has ended.
    """
    streams = _streams(call)
    after = _after(request, query.after)
    record = await call.app.get(job_id, tenant=call.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    # A browser comes back for ever to a stream that has ended, unless it is told so.
    over = record.status in TERMINAL and not query.follow
    if over and after is not None and Place.read(after).ms >= round(record.updated_at.timestamp() * 1000):
        return Response(status_code=204)
    changes = call.app.changes(job_id=job_id, tenant=call.tenant, after=after, follow=query.follow)
    return ServerSentEvents(changes, listener=_listener(call), streams=streams)


@router.get("/events", response_class=Response, responses={200: _STREAM[200]}, summary="Follow a tag or a tenant")
async def follow_many(
    request: Request, query: Annotated[ManyStream, Query()], call: Annotated[Call, calls("read", heeds_tag=True)]
) -> Response:
    """The changes of all jobs of a tag, or of a tenant, as server-sent events."""
    streams = _streams(call)
    changes = call.app.changes(**_topic(call, query), after=_after(request, query.after))
    return ServerSentEvents(changes, listener=_listener(call), streams=streams)


@router.websocket("/jobs/{job_id}/events")
async def follow_job_by_socket(
    socket: WebSocket, job_id: InPath, query: Annotated[JobStream, Query()], call: ReadCall
) -> None:
    """The same as messages of a WebSocket."""
    streams = _streams(call)
    record = await call.app.get(job_id, tenant=call.tenant)
    if record is None:
        raise RecordNotFound(f"there is no job {job_id!r:.200}", job_id=job_id)
    changes = call.app.changes(job_id=job_id, tenant=call.tenant, after=query.after, follow=query.follow)
    call.may_take(None)
    await serve_socket(socket, changes, listener=_listener(call), streams=streams)


@router.websocket("/events")
async def follow_many_by_socket(
    socket: WebSocket, query: Annotated[ManyStream, Query()], call: Annotated[Call, calls("read", heeds_tag=True)]
) -> None:
    """The same as messages of a WebSocket."""
    streams = _streams(call)
    changes = call.app.changes(**_topic(call, query), after=query.after)
    call.may_take(None)
    await serve_socket(socket, changes, listener=_listener(call), streams=streams)


def _streams(call: Call) -> Streams:
    """Those of this process. Raises StreamsFull where there is no room for one more by now: before the ledger is asked."""
    streams = call.api.streams
    streams.require_room(call.caller)
    return streams


def _listener(call: Call) -> Listener:
    return Listener(
        caller=call.caller,
        shown=call.shown,
        open_seconds=call.api.answer_seconds,
        allowed=lambda: call.api.gate.caller(call.request, "read", heeds_tag=True),
    )


def _after(request: Request, asked: str | None) -> str | None:
    """Where a client goes on: a browser that comes back by itself says it in the header, and with the query that it
    began with.
    """
    last = request.headers.get("last-event-id", "")
    return str(Place.read(last)) if last else asked


def _topic(call: Call, query: ManyStream) -> dict[str, Any]:
    tenant = call.tenant_for(query.tenant)
    if tenant is None and query.tag is None:
        raise Invalid("expected tag or tenant: what to follow", errors=[("/query/tag", "expected tag or tenant")])
    return {"tag": query.tag, "tenant": tenant}
