"""One span for each request, so that the job that it enqueues is a part of the caller's trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taurine.telemetry import Telemetry

__all__ = ["RequestSpans", "request_spans"]

_READ_BY_CONTEXT = (b"traceparent", b"tracestate", b"baggage", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled")
"""Headers that a propagator may ask for. No other header is anybody's business."""


def request_spans(telemetry: Telemetry | None) -> Sequence[Middleware]:
    """The layer that tells of requests, or no layer where nobody would hear of them."""
    return [] if telemetry is None else [Middleware(RequestSpans, telemetry=telemetry)]


class RequestSpans:
    """The ASGI layer that tells a telemetry of each request, as a child of the context in its headers (`traceparent`).

    Where the host's own instrumentation has begun a span, that one is the request's, and no other is made. A stream is
    told of until it begins: it may last for hours.
    """

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self._app = app
        self._tracer = telemetry.tracer
        self._contexts = telemetry.context_manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        contexts = self._contexts
        if scope["type"] != "http" or contexts.inject(contexts.active()) is not None:
            await self._app(scope, receive, send)
            return
        parent = contexts.from_headers(_headers(scope))
        span = self._tracer.start_span(scope["method"], kind="server", context=parent)

        ended = False

        async def send_and_tell(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start" and span.is_recording:
                span.set_attributes(_answered(scope, message))
                if _is_stream(message):
                    ended = True
                    span.end()
            await send(message)

        try:
            with contexts.use(span.on_context(parent)):
                await self._app(scope, receive, send_and_tell)
        except Exception as error:
            if not ended:
                span.record_error(error)
            raise
        finally:
            if not ended:
                span.end()


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("ascii"): value.decode("latin-1") for name, value in scope["headers"] if name in _READ_BY_CONTEXT
    }


def _answered(scope: Scope, message: Message) -> dict[str, str | int]:
    """Which route it was, never the address: that one names jobs, and may hold a token."""
    route: Any = scope.get("route")
    path = getattr(route, "path_format", None)
    about: dict[str, str | int] = {
        "http.request.method": scope["method"],
        "http.response.status_code": message["status"],
        "url.scheme": scope.get("scheme", "http"),
    }
    return {**about, "http.route": path} if isinstance(path, str) else about


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
