"""Headers of safety on every answer, which say to a browser what it must not do with it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SAFETY_HEADERS", "SafetyHeaders"]

SAFETY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    # An answer of the API is data: nothing in it runs or loads, and no page shows it in a frame.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Addresses of the API name jobs and may hold a public token.
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class SafetyHeaders:
    """The ASGI layer that adds them to each answer that does not have them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers.extend(header for header in SAFETY_HEADERS if header[0] not in there)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)
