"""`/metrics`: for Prometheus.

It names queues and job types, so it is for callers of no tenant, and for admins unless the host says otherwise.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from taurine.http.api import api_of
from taurine.http.calls import require_no_tenant
from taurine.observe.prometheus import CONTENT_TYPE

__all__ = ["router"]

router = APIRouter(tags=["instruments"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text format."}},
)
async def metrics(request: Request) -> Response:
    """Counts, ages, totals and durations of the whole system, whichever process is asked.

    Scrapes within one second get the same.

    For callers with the scope that `create_app(metrics_for=…)` names, `admin` by default, who belong to no tenant. A
    server that does not answer within two seconds is told of by `taurine_up`, and the other's figures are there.
    """
    api = api_of(request)
    instruments = api.instruments
    caller = await api.gate.caller(request, instruments.metrics_for)
    require_no_tenant(caller)
    await api.open()
    return Response(await instruments.exposition.text(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})
