"""`/v1/audit`: who did what, to all jobs, queues and quotas. A caller with a tenant sees what concerns its tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from taurine.http.calls import ReadCall
from taurine.http.incoming import Parameters, Word
from taurine.http.representations import json_response

__all__ = ["router"]

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class ListQuery(Parameters):
    """Each filter that is given must hold."""

    actor: Word | None = Field(default=None, description="Who did it.")
    action: Word | None = Field(default=None, examples=["cancel", "pause_queue"])
    tenant: Word | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: Annotated[str, Field(max_length=20)] | None = None
    limit: int = Field(default=50, ge=1, le=500)


class ActionItem(BaseModel):
    """One action. job_id: the job that it was about; null for a queue, and for a quota."""

    at: datetime
    actor: str | None
    action: str
    job_id: str | None
    tenant: str | None
    detail: Any


class ActionPage(BaseModel):
    """Actions, the latest first."""

    items: list[ActionItem]
    next_cursor: str | None


@router.get("", response_model=ActionPage, summary="List who did what")
async def list_actions(query: Annotated[ListQuery, Query()], call: ReadCall) -> Response:
    """Who did what, the latest first, in pages."""
    filters = query.model_dump(exclude={"tenant"})
    tenant = call.tenant_for(query.tenant)
    page = await call.app.actions(tenant=tenant, **filters)
    items = [{**call.shown.action(action), "job_id": action.job_id, "tenant": action.tenant} for action in page]
    return json_response({"items": items, "next_cursor": page.next_cursor})
