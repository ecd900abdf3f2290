"""`/v1/queues`: how queues stand, and running their affairs. Queues belong to no tenant: callers with one get 403."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.errors import UnknownName
from taurine.http.calls import Call, OperateAllCall, ReadAllCall
from taurine.http.incoming import Body
from taurine.http.paths import InPath, link
from taurine.http.problems import Refusal
from taurine.http.representations import CountItem, json_response
from taurine.ids import check_queue_name
from taurine.jobs.operations.queues import Cleanable, Queues, QueueView
from taurine.ledger.statuses import Status
from taurine.options import RateLimit, to_seconds
from taurine.queue.reading import WorkerInfo

__all__ = ["router"]

router = APIRouter(prefix="/v1/queues", tags=["queues"])

_LARGEST = 2**31 - 1
_LONGEST_WINDOW = 86_400.0 * 30
_OLDEST = 86_400.0 * 3660
_MOST_AT_ONCE = 10_000
"""Jobs that one request cancels or removes."""

_SECONDS_EACH = 0.005
"""Seconds more that each of them may take."""


class QueueUnknown(Refusal):
    """No job type goes to such a queue, and there is no record of it."""

    status, code, title = 404, "queue_not_found", "There is no such queue"


# What comes in --------------------------------------------------------------------------------------------------------------------


class Drain(Body):
    """What is cancelled of what waits."""

    delayed: bool = Field(
        default=False, strict=True, description="Also jobs of a later time, and those that wait for their next attempt."
    )
    reason: str = Field(default="the queue was drained", min_length=1, max_length=1000)
    limit: int = Field(default=_MOST_AT_ONCE, ge=1, le=_MOST_AT_ONCE, strict=True)


class Clean(Body):
    """Which jobs are cleared away."""

    status: Cleanable = Field(description="Ended ones are removed; queued and retrying ones are cancelled.")
    older_than: float = Field(
        default=0, ge=0, le=_OLDEST, strict=True, description="Seconds since their end, or since they were accepted."
    )
    limit: int = Field(default=_MOST_AT_ONCE, ge=1, le=_MOST_AT_ONCE, strict=True)


class Concurrency(Body):
    """Jobs at once, over all workers; null for no limit."""

    concurrency: int | None = Field(ge=1, le=_LARGEST, strict=True)


class Window(Body):
    """Job starts per window, over all workers."""

    max: int = Field(ge=1, le=_LARGEST, strict=True)
    duration: float = Field(ge=0.001, le=_LONGEST_WINDOW, strict=True, description="Seconds.")


class RateLimiting(Body):
    """A limit of job starts; null for none."""

    rate_limit: Window | None


# What goes out --------------------------------------------------------------------------------------------------------------------


class RateLimitItem(BaseModel):
    """Job starts per window, over all workers. duration: seconds."""

    max: int
    duration: float


class ConnectedWorker(BaseModel):
    """A worker that is connected. age, idle: seconds since it has connected, and since its last command."""

    name: str
    address: str
    age: float
    idle: float


class Standing(BaseModel):
    """What the server of queues says. workers: those that are connected now; null where the server does not let us ask."""

    counts: dict[Literal["waiting", "active", "prioritized", "delayed", "waiting-children", "completed", "failed"], int]
    paused: bool
    workers: list[ConnectedWorker] | None
    concurrency: int | None
    rate_limit: RateLimitItem | None


class QueueLinks(BaseModel):
    """Paths of what can be done to a queue."""

    self: str
    pause: str
    resume: str
    drain: str
    clean: str
    concurrency: str
    rate_limit: str


class QueueItem(BaseModel):
    """A queue.

    `records` counts them by status; `oldest_waiting` is how many seconds the first job has been due that waits for its
    first start. `standing` is null, and `error` says why, where the server of queues does not answer.
    """

    name: str
    declared: bool
    records: dict[Status, CountItem]
    oldest_waiting: float | None
    undelivered: int
    dead_letters: int
    standing: Standing | None
    error: str | None
    links: QueueLinks


class QueuePage(BaseModel):
    """All queues, by name."""

    items: list[QueueItem]


class Done(BaseModel):
    """How many jobs an operation has changed. more: it stopped at its limit, so there may be more of them."""

    queue: str
    number: int
    more: bool


def _queue_json(call: Call, view: QueueView) -> dict[str, Any]:
    """A queue as a document."""
    at = link(call.request, "v1", "queues", view.name)
    return {
        "name": view.name,
        "declared": view.declared,
        "records": {status: count._asdict() for status, count in view.records.items()},
        "oldest_waiting": view.oldest_waiting,
        "undelivered": view.undelivered,
        "dead_letters": view.dead_letters,
        "standing": _standing_json(view),
        "error": view.error,
        "links": {
            "self": at,
            **{word: f"{at}/{word}" for word in ("pause", "resume", "drain", "clean", "concurrency")},
            "rate_limit": f"{at}/rate-limit",
        },
    }


def _standing_json(view: QueueView) -> dict[str, Any] | None:
    standing = view.standing
    if standing is None:
        return None
    limit = standing.rate_limit
    return {
        "counts": dict(standing.counts),
        "paused": standing.paused,
        "workers": None if standing.workers is None else [*map(_worker_json, standing.workers)],
        "concurrency": standing.concurrency,
        "rate_limit": None if limit is None else {"max": limit.max, "duration": to_seconds(limit.duration, "duration")},
    }


def _worker_json(worker: WorkerInfo) -> dict[str, Any]:
    return {name: getattr(worker, name) for name in ("name", "address", "age", "idle")}


# Looking --------------------------------------------------------------------------------------------------------------------------


@router.get("", response_model=QueuePage, summary="List queues")
async def list_queues(call: ReadAllCall) -> Response:
    """All queues that job types go to, and those of which there are records: what waits in each and since when, who
    works on it, and its dead letters.
    """
    return json_response({"items": [_queue_json(call, view) for view in await call.app.queues.list()]})


@router.get("/{name}", response_model=QueueItem, summary="Show a queue")
async def get_queue(name: InPath, call: ReadAllCall) -> Response:
    """How a queue stands."""
    return await _shown(call, name)


# Running their affairs ------------------------------------------------------------------------------------------------------------


@router.post("/{name}/pause", response_model=QueueItem, summary="Pause a queue")
async def pause(name: InPath, call: OperateAllCall) -> Response:
    """Let no worker start jobs of the queue, until it is resumed, or the server loses its data.

    Running jobs go on, and jobs are accepted.
    """
    queues = await _queues_with(call, name)
    await queues.pause(name, user=call.user)
    return await _shown(call, name)


@router.post("/{name}/resume", response_model=QueueItem, summary="Resume a queue")
async def resume(name: InPath, call: OperateAllCall) -> Response:
    """Let workers start its jobs again."""
    queues = await _queues_with(call, name)
    await queues.resume(name, user=call.user)
    return await _shown(call, name)


@router.post("/{name}/drain", response_model=Done, summary="Drain a queue")
async def drain(name: InPath, call: OperateAllCall, what: Drain | None = None) -> Response:
    """Cancel what waits in the queue, up to 10,000 jobs in one call; running jobs go on.

    While the answer says that there may be `more`, call again, or cancel them in bulk.
    """
    queues, what = await _queues_with(call, name), what or Drain()
    call.may_take(what.limit * _SECONDS_EACH)
    number = await queues.drain(name, user=call.user, **what.model_dump())
    return _done(name, number, what.limit)


@router.post("/{name}/clean", response_model=Done, summary="Clean a queue")
async def clean(name: InPath, call: OperateAllCall, what: Clean) -> Response:
    """Clear away jobs of one status that have had it for long enough, up to 10,000 in one call: ended ones are removed,
    with their records; queued and retrying ones are cancelled. While the answer says that there may be `more`, call
    again.
    """
    queues = await _queues_with(call, name)
    call.may_take(what.limit * _SECONDS_EACH)
    words = what.model_dump(exclude={"status"})
    return _done(name, await queues.clean(name, what.status, user=call.user, **words), what.limit)


def _done(queue: str, number: int, limit: int) -> Response:
    return json_response({"queue": queue, "number": number, "more": number >= limit})


@router.put("/{name}/concurrency", response_model=QueueItem, summary="Limit the jobs at once of a queue")
async def set_concurrency(name: InPath, call: OperateAllCall, what: Concurrency) -> Response:
    """Let at most so many of its jobs run at once, over all workers."""
    queues = await _queues_with(call, name)
    await queues.set_concurrency(name, what.concurrency, user=call.user)
    return await _shown(call, name)


@router.put("/{name}/rate-limit", response_model=QueueItem, summary="Limit the job starts of a queue")
async def set_rate_limit(name: InPath, call: OperateAllCall, what: RateLimiting) -> Response:
    """Let at most so many of its jobs start in each window, over all workers."""
    queues = await _queues_with(call, name)
    limit = None if what.rate_limit is None else RateLimit(what.rate_limit.max, what.rate_limit.duration)
    await queues.set_rate_limit(name, limit, user=call.user)
    return await _shown(call, name)


async def _shown(call: Call, name: str) -> Response:
    return json_response(_queue_json(call, await _view(call, name)))


async def _queues_with(call: Call, name: str) -> Queues:
    """The application's queues, if there is one of this name.

    Raises QueueUnknown, and InvalidName for what no queue can be called.
    """
    if not call.app.catalog.has_queue(check_queue_name(name)):
        await _view(call, name)
    return call.app.queues


async def _view(call: Call, name: str) -> QueueView:
    check_queue_name(name)
    try:
        return await call.app.queues.get(name)
    except UnknownName as error:
        raise QueueUnknown(str(error)) from None
