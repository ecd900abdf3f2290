"""`POST /v1/jobs/{type}`: accepting jobs, one or many.

The body is an envelope: `payload`, and beside it what `JobType.enqueue` takes as options. A job type is data: it is
looked up among those that are declared, and nothing is ever imported for it.
The routes do without FastAPI's models, since they are the busiest: the body is decoded once by the layer in front, and
checked once, by the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from taurine.errors import InvalidOption, TaurineError, did_you_mean
from taurine.http.access.caller import Caller
from taurine.http.api import api_of
from taurine.http.bodies import json_of
from taurine.http.calls import EnqueueCall, noted_refusals, tenant_for
from taurine.http.paths import InPath, path_text
from taurine.http.problems import Invalid, Refusal, answer_to, pointer
from taurine.http.representations import accepted_json, json_bytes, json_response
from taurine.jobs.catalog.requests import EnqueueOptions
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.reporting.redaction import Redact

__all__ = ["MOST_PAYLOADS", "Shortcut", "aware_time", "route", "router"]

# Not in the document by themselves: it has a path of its own for each declared type, with that type's payload.
router = APIRouter(prefix="/v1/jobs", include_in_schema=False)

MOST_PAYLOADS = 1000
"""Payloads of one batch."""

_SECONDS_EACH = 0.005
"""Seconds more that each payload of a batch may take."""

_OF_ALL = frozenset({"delay", "run_at", "expires_in", "priority", "tags", "metadata", "tenant"})
_OF_ONE = _OF_ALL | {"job_id", "on_duplicate"}


async def enqueue(request: Request) -> tuple[bytes, bytes]:
    """Accept a job; returns the answer's body and where the job is found, once it is recorded.

    The same for one that is there already.
    """
    api = api_of(request)
    caller = await api.gate.caller(request, "enqueue")
    with noted_refusals(api, caller):
        envelope = _envelope(json_of(request), "payload", _OF_ONE)
        options = _options(envelope, caller, request)
        if (key := request.headers.get("idempotency-key")) is not None:
            options["idempotency_key"] = key
        await api.open()
        async with api.in_time():
            handle: JobHandle[Any] = await api.app.enqueue(_type_in(request), envelope["payload"], **options)
    document = accepted_json(request, handle)
    return json_bytes(document), document["links"]["self"].encode("ascii")


class _EnqueueRoute(Route):
    """`POST /v1/jobs/{type}`: plain ASGI, since what FastAPI does around a route costs as much as all that is done in
    this one.
    """

    def __init__(self) -> None:
        super().__init__("/v1/jobs/{type}", enqueue, methods=["POST"])

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the router, with `type` in the path's parameters."""
        if scope["method"] != "POST":
            await super().handle(scope, receive, send)  # 405
            return
        scope["route"] = self
        body, location = await enqueue(Request(scope, receive))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"location", location),
        ]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": body})


route: Route = _EnqueueRoute()


class Shortcut:
    """The innermost ASGI layer: the busiest route is called from here, without the layers that FastAPI has around every
    route. The router has it too, for other methods.

    redact: what problems must not show.
    """

    def __init__(self, app: ASGIApp, *, redact: Redact) -> None:
        self._app = app
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] == "http" and scope["method"] == "POST":
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)  # in place, as the router does: layers outside may look which route it was
                try:
                    await route.handle(scope, receive, send)
                except (TaurineError, Refusal) as error:
                    answer = answer_to(error, instance=cast("str", scope["path"]), redact=self._redact)
                    await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


@router.post("/{type}/batch", status_code=202)
async def enqueue_many(request: Request, type: InPath, call: EnqueueCall) -> Response:  # noqa: A002 - as above
    """Accept up to 1,000 jobs of one type, all or none of them."""
    envelope = _envelope(json_of(request), "payloads", _OF_ALL)
    payloads = envelope["payloads"]
    if not isinstance(payloads, list) or not 1 <= len(cast("list[Any]", payloads)) <= MOST_PAYLOADS:
        raise _invalid("payloads", f"expected a list of 1 to {MOST_PAYLOADS:,} payloads")
    if "idempotency-key" in request.headers:
        raise InvalidOption(
            "an Idempotency-Key can be of one job only; give the type a job_id, or enqueue them one by one"
        )
    payloads = cast("list[Any]", payloads)
    call.may_take(len(payloads) * _SECONDS_EACH)
    options = _options(envelope, call.caller, request)
    handles: list[JobHandle[Any]] = await call.app.enqueue_many(type, payloads, **options)
    return json_response({"items": [accepted_json(request, handle) for handle in handles]}, 202)


def _type_in(request: Request) -> str:
    try:
        return path_text(request.path_params["type"])
    except ValueError as error:
        raise Invalid(f"type: {error}", errors=[("/path/type", str(error))]) from None


def _envelope(body: Any, required: str, options: frozenset[str]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Invalid(
            f"expected an object with the member {required!r}, got another value", errors=[("", "not an object")]
        )
    envelope = cast("dict[str, Any]", body)
    if required not in envelope:
        raise _invalid(
            required, f"expected the member {required!r} beside any options; the payload is not the body itself"
        )
    for name in envelope:
        if name != required and name not in options:
            near = did_you_mean(name, sorted({*options, required}))
            raise _invalid(name, f"unknown member {name!r:.80}{near}")
    return envelope


def _options(envelope: Mapping[str, Any], caller: Caller, request: Request) -> EnqueueOptions:
    options: dict[str, Any] = {
        name: value
        for name, value in envelope.items()
        if value is not None and name not in ("payload", "payloads", "run_at", "tenant")
    }
    if (run_at := envelope.get("run_at")) is not None:
        options["run_at"] = aware_time(run_at, "run_at")
    asked = envelope.get("tenant")
    if asked is not None and not isinstance(asked, str):
        raise _invalid("tenant", "expected text")
    if (tenant := tenant_for(caller, asked)) is not None:
        options["tenant"] = tenant
    options["user"] = caller.name
    options["source"] = "POST /v1/jobs"
    return cast("EnqueueOptions", options)


def aware_time(text: object, name: str) -> datetime:
    """A time of a body. Raises Invalid for what is none, and for one without its zone."""
    try:
        time = datetime.fromisoformat(cast("str", text))
    except (TypeError, ValueError):
        raise _invalid(name, "expected a time in ISO 8601, such as 2030-01-31T09:00:00Z") from None
    if time.tzinfo is None:
        raise _invalid(name, "expected a time with its zone, such as 2030-01-31T09:00:00Z")
    return time


def _invalid(name: str, what: str) -> Invalid:
    return Invalid(f"{name:.80}: {what}", errors=[(pointer(f"{name:.80}"), what)])
