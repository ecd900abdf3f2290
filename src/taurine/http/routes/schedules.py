"""`/v1/schedules`: jobs that come back. Schedules belong to the application: callers with a tenant get 403."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import Call, OperateAllCall, ReadAllCall
from taurine.http.incoming import Parameters
from taurine.http.paths import InPath, link
from taurine.http.representations import Accepted, accepted_json, iso, json_response
from taurine.jobs.schedules.declaring import TickedBy
from taurine.jobs.schedules.schedules import ScheduleInfo

__all__ = ["router"]

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])


class NextQuery(Parameters):
    """How many of the next runs."""

    count: int = Field(default=5, ge=1, le=100)


class ScheduleLinks(BaseModel):
    """Paths of what can be done with a schedule."""

    self: str
    next: str
    trigger: str


class ScheduleItem(BaseModel):
    """A schedule. `every` is in seconds; `text` says its times in words.

    `next_run` is null where no worker has installed it yet. `declared` is false of one that stands in a queue and that
    the application does not declare.
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


def _schedule_json(call: Call, info: ScheduleInfo) -> dict[str, Any]:
    """A schedule as a document."""
    words = ("id", "type", "queue", "every", "pattern", "tz", "description", "text")
    at = link(call.request, "v1", "schedules", info.id)
    return {
        **{name: getattr(info, name) for name in words},
        "next_run": iso(info.next_run),
        "declared": info.declared,
        "by": info.by,
        "links": {"self": at, "next": f"{at}/next", "trigger": f"{at}/trigger"},
    }


@router.get("", response_model=SchedulePage, summary="List schedules")
async def list_schedules(call: ReadAllCall) -> Response:
    """All schedules that are declared, and all that stand in the queues of the application."""
    return json_response({"items": [_schedule_json(call, info) for info in await call.app.schedules.list()]})


@router.get("/{schedule_id}", response_model=ScheduleItem, summary="Show a schedule")
async def get_schedule(schedule_id: InPath, call: ReadAllCall) -> Response:
    """When a schedule ticks, and when next."""
    return json_response(_schedule_json(call, await call.app.schedules.get(schedule_id)))


@router.get("/{schedule_id}/next", response_model=NextRuns, summary="List the next runs of a schedule")
async def next_runs(schedule_id: InPath, query: Annotated[NextQuery, Query()], call: ReadAllCall) -> Response:
    """When a schedule ticks next, up to 100 times."""
    info = await call.app.schedules.get(schedule_id)
    return json_response({"id": info.id, "runs": [iso(run) for run in info.next_runs(query.count)]})


@router.post("/{schedule_id}/trigger", response_model=Accepted, status_code=202, summary="Run a schedule's job now")
async def trigger(schedule_id: InPath, call: OperateAllCall) -> Response:
    """Run a declared schedule's job now, as a job of its own: no tick is moved or left out."""
    handle = await call.app.schedules.trigger(schedule_id, user=call.user)
    document = accepted_json(call.request, handle)
    return json_response(document, 202, {"Location": document["links"]["self"]})


@router.delete("/{schedule_id}", status_code=204, response_class=Response, summary="End an undeclared schedule")
async def remove(schedule_id: InPath, call: OperateAllCall) -> Response:
    """End a schedule that is not declared any more, and take its next tick out of the queue.

    One that is declared is refused: workers would install it again.
    """
    await call.app.schedules.remove(schedule_id, user=call.user)
    return Response(status_code=204)
