"""What comes in: a body is read up to its cap, within a time, and decoded once, by the rule of `decode_strictly`.

A request's declared length is believed only where it is too large. Encodings (gzip and others) are refused, so that no
small body becomes a large one here.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taurine.errors import PayloadError
from taurine.http.problems import Malformed, Refusal, answer_to
from taurine.jobs.catalog.strict_json import decode_strictly
from taurine.jobs.reporting.redaction import Redact

__all__ = ["MAX_BODY", "Bodies", "BodyTooLarge", "json_of"]

MAX_BODY = 1024 * 1024
"""Bytes of a body, unless the application says otherwise."""

_JSON = "taurine.json"
"""Where a request's scope has the decoded body."""

_MOST_MEMBERS = 100

_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class BodyTooLarge(Refusal):
    """The body is above its cap."""

    status, code, title = 413, "body_too_large", "The body is above its size limit"


class BodyTooSlow(Refusal):
    """The body did not arrive in time."""

    status, code, title = 408, "body_too_slow", "The body did not arrive in time"


class UnsupportedMedia(Refusal):
    """The body is not in a form that is read here."""

    status, code, title = 415, "unsupported_media_type", "The body is not in a form that is read here"


class Bodies:
    """The ASGI layer that reads bodies. max_bytes: the cap. seconds: for all of a body to arrive."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float, redact: Redact) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body is None:  # the client has gone
                return
            if body and _is_json(_header(scope, b"content-type")):
                scope[_JSON] = _decoded(body)
        except Refusal as refusal:
            await answer_to(refusal, instance=cast("str", scope["path"]), redact=self._redact)(scope, receive, send)
            return
        await self._app(scope, _given_once(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        encoding = _header(scope, b"content-encoding")
        if encoding and encoding != b"identity":
            raise UnsupportedMedia(
                "bodies are read without a Content-Encoding only; send it plain",
                headers={"Accept-Encoding": "identity"},
            )
        declared = _header(scope, b"content-length")
        if declared and _header(scope, b"transfer-encoding"):
            # A proxy in front may believe the other one, and take what follows for somebody else's request.
            raise Malformed(
                "the body has a Content-Length and a Transfer-Encoding; send one of them",
                headers={"Connection": "close"},
            )
        if declared.isdigit() and (len(declared) > 15 or int(declared) > self._max_bytes):
            raise self._too_large()
        message = await _next(receive, self._seconds)
        body = cast("bytes", message.get("body", b""))
        if message["type"] == "http.disconnect":
            return None
        if len(body) > self._max_bytes:
            raise self._too_large()
        if not message.get("more_body"):
            return body
        return await self._read_rest(body, receive)

    async def _read_rest(self, first: bytes, receive: Receive) -> bytes | None:
        body = bytearray(first)
        latest = asyncio.get_running_loop().time() + self._seconds
        more = True
        while more:
            message = await _next(receive, latest - asyncio.get_running_loop().time())
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        # What is still on its way is not read; the connection cannot be used for another request then.
        return BodyTooLarge(
            f"the body is above the limit of {self._max_bytes:,} bytes; store the data elsewhere and send its id or URL",
            headers={"Connection": "close"},
        )


def json_of(request: Request) -> Any:
    """The decoded body. Raises Malformed for none, and UnsupportedMedia for one that does not say that it is JSON."""
    try:
        return request.scope[_JSON]
    except KeyError:
        if _is_json(_header(request.scope, b"content-type")):
            raise Malformed("expected a body of JSON, got none") from None
        raise UnsupportedMedia("expected a body of JSON; send the header Content-Type: application/json") from None


async def _next(receive: Receive, seconds: float) -> Message:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        raise BodyTooSlow("the body did not arrive in time", headers={"Connection": "close"}) from None


def _decoded(body: bytes) -> object:
    try:
        value = decode_strictly(body, what="the body")
    except PayloadError as error:
        raise Malformed(str(error)) from None
    # Each member too many would be an error to make, whoever sends it.
    if isinstance(value, dict) and len(cast("dict[str, object]", value)) > _MOST_MEMBERS:
        raise Malformed(f"the body has more than {_MOST_MEMBERS} members; none that is read here has so many")
    return cast("object", value)


def _is_json(media_type: bytes) -> bool:
    name = media_type.partition(b";")[0].strip()
    return name == b"application/json" or (name.startswith(b"application/") and name.endswith(b"+json"))


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return value.strip().lower()
    return b""


def _given_once(body: bytes, receive: Receive) -> Receive:
    """What was read, to those behind; then whatever else the client does."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
