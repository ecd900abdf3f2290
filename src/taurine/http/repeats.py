"""What may be said once: a request in which a parameter of the query, or the idempotency key, stands twice is refused.

Of two values one would count, and nobody knows which: the last one here, perhaps the first for a proxy in front that
has checked the request. A body in which a name stands twice is refused for the same reason.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from taurine.http.access.refusing import header_values
from taurine.http.problems import Invalid, answer_to, pointer
from taurine.jobs.reporting.redaction import Redact

__all__ = ["Repeats"]


class Repeats:
    """The ASGI layer that refuses them with 400, and an idempotency key of blanks, which many would share.

    redact: what problems must not show.
    """

    def __init__(self, app: ASGIApp, *, redact: Redact) -> None:
        self._app = app
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        fault = _fault_of(scope)
        if fault is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await answer_to(fault, instance=scope["path"], redact=self._redact)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": fault.title})


def _fault_of(scope: Scope) -> Invalid | None:
    if scope.get("query_string") and (name := _twice(scope["query_string"])) is not None:
        what = "given more than once; give it once"
        return Invalid(f"the parameter {name!r:.80} is {what}", errors=[(pointer("query", name[:80]), what)])
    if scope["type"] == "http" and scope["method"] == "POST":
        return _fault_of_key(header_values(scope, b"idempotency-key"))
    return None


def _twice(query: bytes) -> str | None:
    """The first parameter that is there again, by the rule by which routes read them."""
    seen: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in seen:
            return name
        seen.add(name)
    return None


def _fault_of_key(keys: list[str]) -> Invalid | None:
    if len(keys) > 1:
        return Invalid("the header Idempotency-Key is given more than once; a request has one key")
    if keys and not keys[0].strip():
        return Invalid("the header Idempotency-Key is empty; leave it out, or give each request a key of its own")
    return None
