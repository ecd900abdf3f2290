"""`/health/…`: whether the process lives, is ready, and its queues are well.

Probes have no credentials, so without any there is a word and a status, and no name, number or host. Whoever may read
sees why.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from taurine.errors import Forbidden, Unauthenticated
from taurine.http.access.caller import Caller
from taurine.http.access.optional import optional_caller
from taurine.http.api import api_of
from taurine.http.incoming import Parameters
from taurine.observe.health import HealthLimits, QueueHealth, health_of_queues

__all__ = ["router"]

router = APIRouter(prefix="/health", tags=["instruments"])

_Reader = Annotated[Caller | None, optional_caller("read")]


class Health(BaseModel):
    """A word, and whether all is well. Members with details are there for callers who may read."""

    status: str
    healthy: bool


class QueuesQuery(Parameters):
    """Limits above which a queue is not well.

    All but `totals` are for callers who may read: who may set limits finds out counts.
    """

    window: float = Field(default=300.0, ge=60, le=604800, description="Seconds for the failure rate.")
    max_failure_rate: float = Field(default=0.05, ge=0, le=1, description="Share of the jobs that ended.")
    min_ended: int = Field(default=20, ge=1, le=1_000_000, description="A rate of fewer jobs says nothing.")
    max_oldest_waiting: float = Field(default=300.0, ge=0, le=31_536_000, description="Seconds that a job is due.")
    max_dead_letters: int = Field(default=100, ge=0, le=1_000_000, description="Open ones.")
    totals: bool = Field(default=False, description="Look at how many wait and how many are kept as failed, too.")
    max_waiting: int = Field(default=100, ge=0, le=9_999, description="With `totals`.")
    max_failed: int = Field(default=50, ge=0, le=9_999, description="With `totals`.")

    def limits(self) -> HealthLimits:
        return HealthLimits(
            failure_rate=self.max_failure_rate,
            window=self.window,
            least_ended=self.min_ended,
            oldest_waiting=self.max_oldest_waiting,
            dead_letters=self.max_dead_letters,
            waiting=self.max_waiting if self.totals else None,
            failed=self.max_failed if self.totals else None,
        )


_UNWELL: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "It is not."}}


@router.get("/live", response_model=Health, responses=_UNWELL, summary="Whether the process lives")
async def live(request: Request) -> Response:
    """200 while the event loop of this process turns, of which an answer is the proof, and Taurine's own loops on it;
    503 "stuck" where one of those does not, which the log names.

    No server is asked, and a loop that waits for one turns: an outage restarts nothing.
    """
    healthy = api_of(request).instruments.lives()
    return _answer("ok" if healthy else "stuck", healthy=healthy)


@router.get("/ready", response_model=Health, responses=_UNWELL, summary="Whether the process can do its work")
async def ready(request: Request, caller: _Reader) -> Response:
    """200 "ready"; 200 "degraded" while the server of queues does not answer, since jobs are accepted without it; 503
    "unready" without the ledger, or with tables of another version.
    """
    await api_of(request).open()
    readiness = await api_of(request).instruments.readiness()
    status = "ready" if readiness.runs else "degraded" if readiness.accepts else "unready"
    detail = {"ledger": _word(readiness.ledger), "store": _word(readiness.store)} if _sees(caller) else {}
    return _answer(status, healthy=readiness.accepts, **detail)


@router.get("/queues", response_model=Health, responses=_UNWELL, summary="Whether the queues are well")
async def queues(request: Request, query: Annotated[QueuesQuery, Query()], caller: _Reader) -> Response:
    """503 where a queue has a figure above its limit: the share of failures in a window, the age of the oldest job that
    waits, dead letters; with `totals`, also how many wait or have failed.

    A queue that is paused is not unwell for jobs that wait. Without the ledger nothing is known, which is 503 as well.
    """
    given = query.model_fields_set - {"totals"}
    if given and not _sees(caller):
        if caller is None:
            raise Unauthenticated(
                "limits may be chosen by callers who may read; without a credential those of the default hold"
            )
        raise Forbidden(f"{caller.name!r:.200} may not do this: it is for callers who belong to no tenant")
    await api_of(request).open()
    found = await _look(request, query.limits())
    if found is None:
        return _answer("unknown", healthy=False)
    healthy = all(one.healthy for one in found)
    detail = {"queues": {one.name: _shown(one) for one in found}} if _sees(caller) else {}
    return _answer("ok" if healthy else "unhealthy", healthy=healthy, **detail)


async def _look(request: Request, limits: HealthLimits) -> list[QueueHealth] | None:
    readings, lately = await api_of(request).instruments.figures(limits.window)
    if readings.ledger is None or lately is None:
        return None
    return health_of_queues(readings, lately, limits, queues=api_of(request).app.catalog.queues)


def _sees(caller: Caller | None) -> bool:
    """Whether a caller may see names: those of all tenants are among them."""
    return caller is not None and caller.tenant is None and not caller.bound


def _word(trouble: str | None) -> str:
    """What a reader is told of a server; its address stays in the log."""
    return "ok" if trouble is None else "no answer"


def _shown(health: QueueHealth) -> dict[str, Any]:
    return {
        "healthy": health.healthy,
        "failure_rate": health.failure_rate,
        "ended": health.ended,
        "oldest_waiting": health.oldest_waiting,
        "dead_letters": health.dead_letters,
        "waiting": health.waiting,
        "failed": health.failed,
        "paused": health.paused,
        "troubles": [{"kind": one.kind, "value": one.value, "limit": one.limit} for one in health.troubles],
    }


def _answer(status: str, *, healthy: bool, **detail: Any) -> Response:
    body = json.dumps({"status": status, "healthy": healthy, **detail})
    return Response(body, 200 if healthy else 503, {"Cache-Control": "no-store"}, "application/json")
