"""Cross-origin requests (CORS): none, unless the origin is on an exact list.

Cookies are never among what such a page may send.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taurine.http.access.origins import Origins
from taurine.http.access.refusing import header_values

__all__ = ["CrossOrigin"]

_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID"),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = (b"access-control-expose-headers", b"Location, Retry-After, Link")


class CrossOrigin:
    """The ASGI layer that tells a browser that pages of the listed origins may read answers, and answers its questions
    before a request.
    """

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        given = header_values(scope, b"origin")
        origin = given[0] if len(given) == 1 and self._origins.knows(given[0]) else None
        if origin is None:
            await self._app(scope, receive, _with_headers(send, ()))
            return
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        if scope["method"] == "OPTIONS" and header_values(scope, b"access-control-request-method"):
            headers = [allowed, *_PREFLIGHT, (b"vary", b"Origin"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        readable = (b"cross-origin-resource-policy", b"cross-origin")
        await self._app(scope, receive, _with_headers(send, (allowed, _EXPOSED, readable)))


def _with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers, (b"vary", b"Origin")]
        await send(message)

    return sending
