"""`/v1/schedules`: jobs that come back. Schedules belong to the application: callers with a tenant get 403."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as InQuery
from pydantic import BaseModel, Field
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from taurine.http.calls import api_of
from taurine.http.operators import Operator, Query, Reader
from taurine.http.paths import InPath, link
from taurine.http.representations import Accepted, accepted_json, iso, json_response
from taurine.jobs.schedules.declaring import TickedBy
from taurine.jobs.schedules.schedules import ScheduleInfo

__all__ = ["router"]

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])


class NextQuery(Query):
    """How many of the next runs."""

    count: int = Field(default=5, ge=1, le=100)


class ScheduleLinks(BaseModel):
    """Paths of what can be done with a schedule."""

    self: str
    next: str
    trigger: str


class ScheduleItem(BaseModel):
    """A schedule. `every` is in seconds; `text` says its times in words. `next_run` is null where no worker has installed it yet. `declared` is false of one that stands in a queue and that the
    application does not declare.
    """

    id: str
    type: str
    queue: str
    every: float | None
    pattern: str | None
    tz: str | None
    description: str
    text: str
    next_run: datetime | None
    declared: bool
    by: TickedBy = Field(description="Who sees to it that it ticks: workers, or whoever calls `/cron/{id}`.")
    links: ScheduleLinks


class SchedulePage(BaseModel):
    """All schedules, by id."""

    items: list[ScheduleItem]


class NextRuns(BaseModel):
    """When a schedule ticks next, in its own zone."""

    id: str
    runs: list[datetime]


def schedule_json(request: HTTPRequest, info: ScheduleInfo) -> dict[str, Any]:
    """A schedule as a document."""
    words = ("id", "type", "queue", "every", "pattern", "tz", "description", "text")
    at = link(request, "v1", "schedules", info.id)
    return {
        **{name: getattr(info, name) for name in words},
        "next_run": iso(info.next_run),
        "declared": info.declared,
        "by": info.by,
        "links": {"self": at, "next": f"{at}/next", "trigger": f"{at}/trigger"},
    }


@router.get("", response_model=SchedulePage, summary="List schedules")
async def list_schedules(request: HTTPRequest, caller: Reader) -> Response:
    """All schedules that are declared, and all that stand in the queues of the application."""
    del caller
    api = api_of(request)
    await api.open()
    return json_response({"items": [schedule_json(request, info) for info in await api.app.schedules.list()]})


@router.get("/{schedule_id}", response_model=ScheduleItem, summary="Show a schedule")
async def get_schedule(request: HTTPRequest, schedule_id: InPath, caller: Reader) -> Response:
    """When a schedule ticks, and when next."""
    del caller
    api = api_of(request)
    await api.open()
    return json_response(schedule_json(request, await api.app.schedules.get(schedule_id)))


@router.get("/{schedule_id}/next", response_model=NextRuns, summary="List the next runs of a schedule")
async def next_runs(
    request: HTTPRequest, schedule_id: InPath, query: Annotated[NextQuery, InQuery()], caller: Reader
) -> Response:
    """When a schedule ticks next, up to 100 times."""
    del caller
    api = api_of(request)
    await api.open()
    info = await api.app.schedules.get(schedule_id)
    return json_response({"id": info.id, "runs": [iso(run) for run in info.next_runs(query.count)]})


@router.post("/{schedule_id}/trigger", response_model=Accepted, status_code=202, summary="Run a schedule's job now")
async def trigger(request: HTTPRequest, schedule_id: InPath, caller: Operator) -> Response:
    """Run a declared schedule's job now, as a job of its own: no tick is moved or left out."""
    api = api_of(request)
    await api.open()
    handle = await api.app.schedules.trigger(schedule_id, user=caller.name)
    document = accepted_json(request, handle)
    return json_response(document, 202, {"Location": document["links"]["self"]})


@router.delete("/{schedule_id}", status_code=204, response_class=Response, summary="End an undeclared schedule")
async def remove(request: HTTPRequest, schedule_id: InPath, caller: Operator) -> Response:
    """End a schedule that is not declared any more, and take its next tick out of the queue. One that is declared is refused: workers would install it again."""
    api = api_of(request)
    await api.open()
    await api.app.schedules.remove(schedule_id, user=caller.name)
    return Response(status_code=204)
