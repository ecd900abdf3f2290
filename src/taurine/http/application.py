"""`create_app`: the HTTP API of an application, as an ASGI application that stands by itself or is mounted under any
prefix of another one.

A request goes through these layers, each plain ASGI, and then to its route:

    Sending         an answer that nobody reads is dropped
    SafetyHeaders   headers of safety on every answer
    AllowedHosts    the Host header is one that the API is reached under
    Boundary        what nobody expected is answered with 500, without a traceback
    RequestSpans    a span for each, where the application has a telemetry
    CrossOrigin     pages of listed origins may read answers
    CrossSite       a browser's cross-site change is refused
    Paths           a slash inside of an id stays there
    Repeats         a parameter, or an idempotency key, that stands twice is refused
    Bodies          read up to the cap, decoded once
    Shortcut        the busiest route, without what FastAPI has around every route
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from taurine.app import Taurine
from taurine.http.access.access import Access
from taurine.http.access.caller import Scope
from taurine.http.access.cross_origin import CrossOrigin
from taurine.http.access.cross_site import CrossSite
from taurine.http.access.hosts import AllowedHosts
from taurine.http.access.origins import Origins
from taurine.http.access.safety_headers import SafetyHeaders
from taurine.http.api import Api
from taurine.http.aside import Aside
from taurine.http.bodies import MAX_BODY, Bodies
from taurine.http.document import describe, operation_id
from taurine.http.instruments import Instruments
from taurine.http.live.documents import Documents
from taurine.http.live.streams import Streams
from taurine.http.paths import Paths
from taurine.http.problems import Boundary, register
from taurine.http.repeats import Repeats
from taurine.http.routes import (
    alerts,
    api_keys,
    audit,
    bulk,
    changing,
    cron,
    dead_letters,
    enqueueing,
    events,
    health,
    jobs,
    metrics,
    oidc,
    queues,
    schedules,
    sessions,
    tokens,
    workers,
)
from taurine.http.traces import request_spans
from taurine.http.unread import Sending
from taurine.options import Seconds, require_count, to_seconds

__all__ = ["create_app"]

_ROUTERS: tuple[APIRouter, ...] = (
    enqueueing.router,
    jobs.router,
    events.router,
    changing.router,
    sessions.router,
    tokens.router,
    api_keys.router,
    oidc.router,
    dead_letters.router,
    bulk.router,
    queues.router,
    schedules.router,
    workers.router,
    alerts.router,
    audit.router,
    cron.router,
    health.router,
    metrics.router,
)


def create_app(
    app: Taurine,
    *,
    access: Access | None = None,
    title: str | None = None,
    docs: bool = True,
    payloads: bool = True,
    max_body: int = MAX_BODY,
    body_within: Seconds = 30.0,
    answer_within: Seconds = 0.9,
    metrics_for: Scope = "admin",
    max_streams: int = 10_000,
    max_streams_each: int = 1000,
    read_within: Seconds = 30.0,
) -> FastAPI:
    """The HTTP API of `app`: run it with any ASGI server, or mount it: `site.mount("/tasks", create_app(app))`.

    access: who may call. Default: `Access()`, so keys and logins, and in development anybody on this machine as long as
    there are none.
    title: in the OpenAPI document. Default: the application's name.
    docs: serve the OpenAPI document, at `openapi.json`, to callers who may read. Default: True.
    payloads: show payloads and results, redacted as `app` says. Default: True; False leaves them out everywhere.
    max_body: bytes of a request's body. Default: 1 MiB. body_within: seconds for a body to arrive. Default: 30.
    answer_within: seconds that an enqueue or a look waits for the ledger before it is answered with 503 and
    Retry-After; five more for what goes to the server of queues too, and some for megabytes of payloads. Default: 0.9.
    metrics_for: the scope that a caller of `/metrics` needs; "read" for scrapers that are to see nothing else of an
    admin's. Default: "admin".

    max_streams: live streams that may be open in this process, of which the callers of one tenant have a fifth;
    max_streams_each: of one caller. Defaults: 10,000 and 1,000.
    read_within: seconds after which a client is dropped that reads nothing: of its stream, or of any other answer.
    Default: 30.

    When it is the root application, its lifespan opens `app` and closes it. Mounted, it opens `app` at the first
    request, and whoever serves it closes it (`async with app` in the lifespan of the host). Raises InvalidOption.
    """
    read_seconds = to_seconds(read_within, "read_within", minimum=0.001)
    answer_seconds = to_seconds(answer_within, "answer_within", minimum=0.01)
    gate = (access or Access()).gate(app, answer_within=answer_seconds)
    aside = Aside()
    streams = Streams(
        Documents(aside),
        most=require_count(max_streams, "max_streams", minimum=0),
        most_each=require_count(max_streams_each, "max_streams_each", minimum=0),
        send_seconds=read_seconds,
    )
    api = Api(
        app,
        gate,
        aside=aside,
        streams=streams,
        instruments=Instruments(app, metrics_for=metrics_for),
        payloads=payloads,
        answer_seconds=answer_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await api.open_patiently()
        try:
            yield
        finally:
            await api.close()

    asgi = FastAPI(
        title=title or app.name,
        lifespan=lifespan,
        middleware=_layers(
            app,
            gate.access,
            max_body=require_count(max_body, "max_body", minimum=1),
            body_seconds=to_seconds(body_within, "body_within", minimum=0.001),
            read_seconds=read_seconds,
        ),
        # The document is served by a route of our own, which asks who calls; a redirect to a path with a slash would name the caller's Host header.
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    asgi.state.api = api
    register(asgi, app.redact)
    asgi.router.routes.append(enqueueing.route)
    for router in _ROUTERS:
        asgi.include_router(router)
    describe(asgi, app, serve=docs)
    return asgi


def _layers(
    app: Taurine, access: Access, *, max_body: int, body_seconds: float, read_seconds: float
) -> Sequence[Middleware]:
    """From the outside in."""
    origins = Origins(access.origins)
    return [
        Middleware(Sending, seconds=read_seconds),
        Middleware(SafetyHeaders),
        Middleware(AllowedHosts, hosts=access.hosts),
        Middleware(Boundary, redact=app.redact),
        *request_spans(app.telemetry),
        Middleware(CrossOrigin, origins=origins),
        Middleware(CrossSite, origins=origins),
        Middleware(Paths),
        Middleware(Repeats, redact=app.redact),
        Middleware(Bodies, max_bytes=max_body, seconds=body_seconds, redact=app.redact),
        Middleware(enqueueing.Shortcut, redact=app.redact),
    ]
