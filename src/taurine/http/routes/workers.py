"""`/v1/workers`: who works, and on what. Workers belong to no tenant: callers with one get 403."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import ReadAllCall
from taurine.http.incoming import Parameters
from taurine.http.representations import iso, json_response
from taurine.jobs.operations.workers import WorkerState, WorkerView

__all__ = ["router"]

router = APIRouter(prefix="/v1/workers", tags=["workers"])


class ListQuery(Parameters):
    """Which workers."""

    all: bool = Field(default=False, description="Those that have stopped in the last day as well.")


class LoopItem(BaseModel):
    """A loop of a worker, when it reported last. age: seconds since it had turned. late: it was to have turned by then."""

    age: float
    late: bool


class WorkerItem(BaseModel):
    """A worker, as it told of itself last. `state` is "lost" for one that has been silent for a minute."""

    id: str
    name: str
    host: str
    pid: int
    version: str
    queues: list[str]
    slots: int
    busy: int
    leases_lost: int
    loops: dict[str, LoopItem]
    state: WorkerState
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None


class WorkerPage(BaseModel):
    """Workers, those that were seen last first."""

    items: list[WorkerItem]


def _worker_json(view: WorkerView) -> dict[str, Any]:
    """A worker as a document."""
    words = ("id", "name", "host", "pid", "version", "slots", "busy", "leases_lost", "state")
    return {
        **{name: getattr(view, name) for name in words},
        "queues": list(view.queues),
        "loops": {name: {"age": loop.age, "late": loop.late} for name, loop in view.loops.items()},
        "started_at": iso(view.started_at),
        "seen_at": iso(view.seen_at),
        "stopped_at": iso(view.stopped_at),
    }


@router.get("", response_model=WorkerPage, summary="List workers")
async def list_workers(query: Annotated[ListQuery, Query()], call: ReadAllCall) -> Response:
    """The workers of all processes that run or are lost, with their slots and how many of those are busy."""
    views = await call.app.workers.list(all=query.all)
    return json_response({"items": [*map(_worker_json, views)]})
