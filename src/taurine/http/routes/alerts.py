"""`/v1/alerts`: what fires. Alerts belong to no tenant: callers with one get 403."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import Call, ReadAllCall
from taurine.http.incoming import Parameters
from taurine.http.representations import iso, json_response
from taurine.jobs.operations.alerts import AlertView
from taurine.jobs.reporting.alerts import Severity
from taurine.ledger.alerts import AlertPhase

__all__ = ["router"]

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


class ListQuery(Parameters):
    """Which alerts."""

    all: bool = Field(default=False, description="What is pending, or was over in the last day, as well.")


class AlertItem(BaseModel):
    """What a rule finds of a subject: a queue, a schedule, or for events a queue and a job type.

    value: as it was found last; of events how many there were. limit: null for events. since: when the state began.
    told_at: when all that are told of alerts knew of it.
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


def _alert_json(call: Call, view: AlertView) -> dict[str, Any]:
    words = ("rule", "kind", "subject", "state", "severity", "value", "limit")
    times = ("since", "seen_at", "raised_at", "told_at")
    # By the rules of today: it may have been written before they were.
    document = {name: getattr(view, name) for name in words} | {"message": call.redact.text(view.message)}
    return document | {name: iso(getattr(view, name)) for name in times}


@router.get("", response_model=AlertPage, summary="List alerts")
async def list_alerts(query: Annotated[ListQuery, Query()], call: ReadAllCall) -> Response:
    """The alerts that fire. They are looked at every 15 seconds while a worker, or `taurine serve`, runs."""
    views = await call.app.alerts.list(all=query.all)
    return json_response({"items": [_alert_json(call, view) for view in views]})
