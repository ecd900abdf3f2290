"""`/v1/jobs/{id}/…`: changing one job by hand. Each is written into the audit with the caller's name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from taurine.http.calls import OperateCall
from taurine.http.incoming import Body
from taurine.http.paths import InPath
from taurine.http.representations import Job, json_response

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs", tags=["changing jobs"])


class CancelRequest(Body):
    """Why the job is cancelled."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"reason": "the order was withdrawn"}]}}

    reason: str = Field(default="cancelled", min_length=1, max_length=1000)


class RetryRequest(Body):
    """How the job is run again."""

    payload: Any = Field(default=None, description="In place of the one that it had, of a job that has ended.")


class RescheduleRequest(Body):
    """When the job is to start; one of the two."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"delay": 3600}]}}

    run_at: AwareDatetime | None = None
    delay: float | None = Field(default=None, ge=0, description="Seconds from now; 0 for at once.")


@router.post("/{job_id}/cancel", response_model=Job, summary="Cancel a job")
async def cancel(job_id: InPath, call: OperateCall, body: CancelRequest | None = None) -> Response:
    """Cancel a job, wherever it is: one that has not started never will; a running one hears of it within a second, and
    its record still says `running` here.
    """
    reason = (body or CancelRequest()).reason
    record = await call.app.cancel(job_id, reason=reason, user=call.user, tenant=call.tenant)
    return json_response(await call.job(record))


@router.post("/{job_id}/retry", response_model=Job, summary="Run a job again")
async def retry(job_id: InPath, call: OperateCall, body: RetryRequest | None = None) -> Response:
    """Run a job again that has ended, with another payload if one is given, as a new generation with all its attempts;
    one that waits for its next attempt runs at once.
    """
    payload = None if body is None else body.payload
    record = await call.app.retry(job_id, payload=payload, user=call.user, tenant=call.tenant)
    return json_response(await call.job(record))


@router.post("/{job_id}/reschedule", response_model=Job, summary="Give a job another time to start at")
async def reschedule(job_id: InPath, call: OperateCall, body: RescheduleRequest) -> Response:
    """Let a job that waits for its start, or for its next attempt, begin at another time."""
    record = await call.app.reschedule(job_id, run_at=body.run_at, delay=body.delay, user=call.user, tenant=call.tenant)
    return json_response(await call.job(record))
