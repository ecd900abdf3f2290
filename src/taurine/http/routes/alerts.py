"""`/v1/alerts`: what fires. Alerts belong to no tenant: callers with one get 403."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as InQuery
from pydantic import BaseModel, Field
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from taurine.http.calls import api_of
from taurine.http.operators import Query, Reader
from taurine.http.representations import iso, json_response
from taurine.jobs.operations.alerts import AlertView
from taurine.jobs.reporting.alerts import Severity
from taurine.ledger.alerts import AlertPhase

__all__ = ["router"]

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


class ListQuery(Query):
    """Which alerts."""

    all: bool = Field(default=False, description="What is pending, or was over in the last day, as well.")


class AlertItem(BaseModel):
    """What a rule finds of a subject: a queue, a schedule, or for events a queue and a job type.

    value: as it was found last; of events how many there were. limit: null for events. since: when the state began. told_at: when all that are told of alerts knew of it.
    """

    rule: str
    kind: str
    subject: str
    state: AlertPhase
    severity: Severity
    value: float
    limit: float | None
    message: str
    since: datetime
    seen_at: datetime
    raised_at: datetime | None
    told_at: datetime | None


class AlertPage(BaseModel):
    """Alerts, the latest first."""

    items: list[AlertItem]


def _alert_json(view: AlertView) -> dict[str, Any]:
    words = ("rule", "kind", "subject", "state", "severity", "value", "limit", "message")
    times = ("since", "seen_at", "raised_at", "told_at")
    return {name: getattr(view, name) for name in words} | {name: iso(getattr(view, name)) for name in times}


@router.get("", response_model=AlertPage, summary="List alerts")
async def list_alerts(request: HTTPRequest, query: Annotated[ListQuery, InQuery()], caller: Reader) -> Response:
    """The alerts that fire. They are looked at every 15 seconds while a worker, or `taurine serve`, runs."""
    del caller
    api = api_of(request)
    await api.open()
    async with api.in_time():
        views = await api.app.alerts.list(all=query.all)
    return json_response({"items": [*map(_alert_json, views)]})
