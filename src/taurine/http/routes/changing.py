"""`/v1/jobs/{id}/…`: changing one job by hand. Each is written into the audit with the caller's name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from taurine.http.access.caller import Caller
from taurine.http.access.requires import requires
from taurine.http.calls import api_of
from taurine.http.paths import InPath
from taurine.http.representations import Job, json_response
from taurine.ledger.records import JobRecord

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs", tags=["changing jobs"])

Operator = Annotated[Caller, requires("operate")]


class CancelRequest(BaseModel):
    """Why the job is cancelled."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "the order was withdrawn"}]})

    reason: str = Field(default="cancelled", min_length=1, max_length=1000)


class RetryRequest(BaseModel):
    """How the job is run again."""

    model_config = ConfigDict(extra="forbid")

    payload: Any = Field(default=None, description="In place of the one that it had, of a job that has ended.")


class RescheduleRequest(BaseModel):
    """When the job is to start; one of the two."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"delay": 3600}]})

    run_at: AwareDatetime | None = None
    delay: float | None = Field(default=None, ge=0, description="Seconds from now; 0 for at once.")


@router.post("/{job_id}/cancel", response_model=Job, summary="Cancel a job")
async def cancel(request: Request, job_id: InPath, caller: Operator, body: CancelRequest | None = None) -> Response:
    """Cancel a job, wherever it is: one that has not started never will; a running one hears of it within a second, and its record still says `running` here."""
    api = api_of(request)
    await api.open()
    reason = (body or CancelRequest()).reason
    return _shown(request, caller, await api.app.cancel(job_id, reason=reason, user=caller.name, tenant=caller.tenant))


@router.post("/{job_id}/retry", response_model=Job, summary="Run a job again")
async def retry(request: Request, job_id: InPath, caller: Operator, body: RetryRequest | None = None) -> Response:
    """Run a job again that has ended, with another payload if one is given, as a new generation with all its attempts; one that waits for its next attempt runs at once."""
    api = api_of(request)
    await api.open()
    payload = None if body is None else body.payload
    return _shown(request, caller, await api.app.retry(job_id, payload=payload, user=caller.name, tenant=caller.tenant))


@router.post("/{job_id}/reschedule", response_model=Job, summary="Give a job another time to start at")
async def reschedule(request: Request, job_id: InPath, caller: Operator, body: RescheduleRequest) -> Response:
    """Let a job that waits for its start, or for its next attempt, begin at another time."""
    api = api_of(request)
    await api.open()
    record = await api.app.reschedule(
        job_id, run_at=body.run_at, delay=body.delay, user=caller.name, tenant=caller.tenant
    )
    return _shown(request, caller, record)


def _shown(request: Request, caller: Caller, record: JobRecord) -> Response:
    return json_response(api_of(request).shown(request, caller).job(record))
