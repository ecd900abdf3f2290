"""`/cron/{id}`: a declared schedule's job, run when somebody outside says that its time has come.

This is the one GET that changes something, since services that call at set times (a platform's cron, an uptime service)
can do nothing else. No page in a browser can make it do so: it asks for a secret in a header, which a link, an image or
a form cannot send. And a repeat within the minute, as caches and impatient clients make it, runs nothing twice. Without
the setting `cron_secret` nothing of it is there.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taurine.errors import ScheduleNotFound, Unauthenticated
from taurine.http.api import api_of
from taurine.http.incoming import Parameters
from taurine.http.paths import InPath, link
from taurine.http.problems import Invalid, Refusal
from taurine.http.representations import json_response
from taurine.jobs.enqueue.handle import JobHandle
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import TERMINAL, Status

__all__ = ["router"]

router = APIRouter(prefix="/cron", tags=["cron"])

_USER = "cron"
"""Who has asked, as the jobs' records say."""

_WRONG_SECRETS = "wrong cron secrets"
"""Who shows one is nobody that is known: all of them are one subject, so that operators hear of who guesses."""

_WAIT = 25.0
"""Seconds that a call waits for the job's end, unless it says otherwise: less than after which platforms cut a call
off.
"""

_LATEST = timedelta(days=7)
_EARLIEST = timedelta(minutes=5)
"""How far from now a call's own time may be: retries of services come late, and clocks differ."""


class CronFailed(Refusal):
    """The job ended otherwise than well. It is the caller's to try again, at another time."""

    status, code, title = 500, "cron_job_failed", "The job has not completed"


class CallQuery(Parameters):
    """When the call is for, and how long it waits."""

    at: AwareDatetime | None = Field(
        default=None, description="The time that this run is for: one run for each. Default: this minute."
    )
    wait: float = Field(default=_WAIT, ge=0, le=60, description="Seconds to wait for the job's end.")


class CronRun(BaseModel):
    """A run. `result` is what the job returned, once it has completed.

    `duplicate`: the run of this time was there already.
    """

    id: str
    schedule: str
    status: Status
    scheduled_for: datetime
    duplicate: bool
    result: Any = None
    links: dict[str, str]


class CronEntry(BaseModel):
    """One schedule that waits to be called. `schedule` is its pattern, in the zone `tz`."""

    path: str
    schedule: str
    tz: str
    description: str


class CronTable(BaseModel):
    """What is to be called, and when."""

    crons: list[CronEntry]


async def _secret_is_shown(request: Request) -> None:
    api = api_of(request)
    secret = api.app.settings.cron_secret
    if secret is None:
        raise HTTPException(404, "there is nothing at this path")
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    # Both as bytes: text that is not ASCII cannot be compared in constant time.
    is_right = hmac.compare_digest(shown.strip().encode(), secret.get_secret_value().encode())
    if scheme.lower() == "bearer" and is_right:
        return
    error = Unauthenticated("the cron secret is needed, in the header `Authorization`, as `Bearer <CRON_SECRET>`")
    if shown.strip():  # who shows nothing guesses nothing
        api.gate.refusals.note_unknown(_WRONG_SECRETS, error)
    raise error


_Secret = Depends(_secret_is_shown)


@router.get("", response_model=CronTable, summary="List what is to be called", dependencies=[_Secret])
async def list_crons(request: Request) -> Response:
    """The schedules that are declared with `by="http"`, in the form in which platforms take them: paths and patterns."""
    api = api_of(request)
    await api.open()
    infos = [info for info in await api.app.schedules.list() if info.declared and info.by == "http"]
    return json_response(
        {
            "crons": [
                {
                    "path": link(request, "cron", info.id),
                    "schedule": info.pattern,
                    "tz": info.tz,
                    "description": info.description,
                }
                for info in infos
            ]
        }
    )


@router.get(
    "/{schedule_id}", name="call_by_get", response_model=CronRun, summary="Run a schedule's job", dependencies=[_Secret]
)
@router.post("/{schedule_id}", response_model=CronRun, summary="Run a schedule's job", dependencies=[_Secret])
async def call(request: Request, schedule_id: InPath, query: Annotated[CallQuery, Query()]) -> Response:
    """Run a declared schedule's job and wait for its result: 200 with it, or 202 with the run's path where it takes
    longer. The same call within the minute, or for the same `at`, gives the same run. A job that did not complete is
    500, so that the caller's service shows it.
    """
    api = api_of(request)
    await api.open()
    at = _time_of(query.at, api.app.clock.now())
    # A call would be a second run of the time that a worker ticks.
    if api.app.schedules.ticked_by(schedule_id) != "http":
        raise ScheduleNotFound(
            f'schedule {schedule_id!r:.80} is ticked by workers; one that is to be called is declared with by="http"',
            schedule_id=schedule_id,
        )
    handle = await api.app.schedules.trigger(schedule_id, scheduled_for=at, user=_USER)
    record = await api.app.wait(handle.id, query.wait)
    return _answer(request, schedule_id, at, handle, record)


def _time_of(asked: datetime | None, now: float) -> datetime:
    """The time that a run is for, to the second. Raises Invalid for one that is far from now."""
    here = datetime.fromtimestamp(now, UTC)
    if asked is None:
        return here.replace(second=0, microsecond=0)
    if not here - _LATEST <= asked <= here + _EARLIEST:
        raise Invalid("at: expected a time of the last seven days", errors=[("/query/at", "too far from now")])
    return asked.astimezone(UTC).replace(microsecond=0)


def _answer(
    request: Request, schedule_id: str, at: datetime, handle: JobHandle[Any], record: JobRecord | None
) -> Response:
    api = api_of(request)
    redact = api.gate.redact_for(None)
    status = handle.status if record is None else record.status
    document: dict[str, Any] = {
        "id": handle.id,
        "schedule": schedule_id,
        "status": status,
        "scheduled_for": at.isoformat(),
        "duplicate": handle.duplicate,
        "links": {"job": link(request, "v1", "jobs", handle.id)},
    }
    if record is None or status not in TERMINAL:
        return json_response(document, 202, {"Location": document["links"]["job"]})
    if status != "completed":
        raise CronFailed(_words(record))
    if api.payloads:
        document["result"] = redact.data(record.output)
    return json_response(document)


def _words(record: JobRecord) -> str:
    if record.status != "failed":
        return f"the job {record.id!r} is {record.status}"
    error = record.error or {}
    return f"the job {record.id!r} has failed: {error.get('type', 'unknown')}: {error.get('message', '')}"
