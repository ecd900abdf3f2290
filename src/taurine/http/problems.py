"""What goes wrong, as documents of RFC 9457: one table from errors to statuses and codes.

`code` is stable, and made for programs; `type` is the same word as a URN. `title` says what the code means, `detail`
what was wrong this time, in the error's own words after redaction. `errors` lists members of the request that are
wrong, each with a JSON pointer. Nothing here shows a traceback, or a setting.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from taurine.errors import (
    AccessError,
    AlreadyDeclared,
    DuplicateJob,
    EmbeddedServerError,
    Forbidden,
    HandlerMissing,
    IdempotencyConflict,
    InvalidName,
    InvalidOption,
    JobError,
    JobIdUnusable,
    JobNotFound,
    LedgerRefused,
    LedgerUnavailable,
    MoreThanExpected,
    PayloadError,
    PayloadInvalid,
    PayloadTooLarge,
    QueueBusy,
    QueueError,
    QueueNotPaused,
    QuotaExceeded,
    RecordError,
    RecordNotFound,
    ScheduleNotFound,
    SchedulerError,
    SchemaMismatch,
    StoreRefused,
    StoreUnavailable,
    StreamsFull,
    TaurineError,
    TenantMismatch,
    TooManyTries,
    TransitionRefused,
    Unauthenticated,
    UnknownJobType,
)
from taurine.jobs.reporting.failures import failure_of
from taurine.jobs.reporting.redaction import Redact

__all__ = [
    "CODES",
    "PROBLEM_JSON",
    "Boundary",
    "Invalid",
    "Kind",
    "Malformed",
    "Refusal",
    "answer_to",
    "pointer",
    "problem_response",
    "register",
]

PROBLEM_JSON = "application/problem+json"

log = logging.getLogger("taurine.http")


class Kind(NamedTuple):
    """What one code stands for.

    retry_after: seconds until the same request may be repeated; None where that would change nothing.
    """

    status: int
    code: str
    title: str
    retry_after: int | None = None


_MOST_POINTERS = 100
"""Wrong members that one document lists."""

_UNEXPECTED = Kind(500, "internal_error", "The request could not be handled; the server's log says why")

_KINDS: tuple[tuple[type[TaurineError], Kind], ...] = (
    (PayloadTooLarge, Kind(413, "payload_too_large", "The data is above its size limit")),
    (PayloadInvalid, Kind(422, "payload_invalid", "The payload is not what the job type declares")),
    (PayloadError, Kind(400, "payload_unstorable", "The data cannot be stored exactly as JSON")),
    (InvalidName, Kind(400, "invalid_name", "This name or id cannot be stored")),
    (InvalidOption, Kind(400, "invalid_option", "An option is out of its range")),
    (UnknownJobType, Kind(404, "unknown_job_type", "No job type of this name is declared")),
    (RecordNotFound, Kind(404, "job_not_found", "There is no such job")),
    (ScheduleNotFound, Kind(404, "schedule_not_found", "There is no such schedule")),
    (JobNotFound, Kind(404, "job_not_found", "There is no such job")),
    (JobIdUnusable, Kind(409, "job_id_unusable", "This job id cannot be used here; choose another")),
    (DuplicateJob, Kind(409, "duplicate_job", "A job of this id exists")),
    (IdempotencyConflict, Kind(409, "idempotency_conflict", "The idempotency key stands for another request")),
    (QuotaExceeded, Kind(429, "quota_exceeded", "The tenant has, or has added, as many jobs as it may", 5)),
    (MoreThanExpected, Kind(409, "more_than_expected", "It would reach more than was expected")),
    (TransitionRefused, Kind(409, "transition_refused", "The job's status does not allow this")),
    (TenantMismatch, Kind(403, "tenant_mismatch", "This belongs to another tenant")),
    (TooManyTries, Kind(429, "too_many_tries", "Too many tries to log in of late", 60)),
    (Unauthenticated, Kind(401, "unauthenticated", "Nobody is known to call; give credentials")),
    (Forbidden, Kind(403, "forbidden", "The caller may not do this")),
    (AccessError, Kind(403, "not_authorized", "The caller may not do this")),
    (QueueNotPaused, Kind(409, "queue_not_paused", "The queue must be paused first")),
    (QueueBusy, Kind(409, "queue_busy", "The queue has active jobs")),
    (LedgerUnavailable, Kind(503, "ledger_unavailable", "The database does not answer; repeat the request", 1)),
    (StoreUnavailable, Kind(503, "store_unavailable", "The server of queues does not answer; repeat the request", 1)),
    (
        EmbeddedServerError,
        Kind(503, "store_unavailable", "The server of queues does not answer; repeat the request", 1),
    ),
    (LedgerRefused, Kind(500, "ledger_refused", "The database refused; the server's log says why")),
    (SchemaMismatch, Kind(500, "schema_mismatch", "The database's tables are not those of this version")),
    (StoreRefused, Kind(500, "store_refused", "The server of queues refused; the server's log says why")),
    (HandlerMissing, Kind(500, "handler_missing", "The application is not complete; the server's log says why")),
    (AlreadyDeclared, Kind(500, "already_declared", "The application is not complete; the server's log says why")),
    (StreamsFull, Kind(429, "too_many_streams", "Too many streams are open", 30)),
    (RecordError, Kind(409, "job_refused", "The job could not be changed so")),
    (JobError, Kind(409, "job_refused", "The job could not be changed so")),
    (QueueError, Kind(409, "queue_refused", "The queue could not be changed so")),
    (SchedulerError, Kind(409, "schedule_refused", "The schedule could not be changed so")),
)
"""By the kind of error, the first that fits; others are unexpected."""

_BY_STATUS: dict[int, Kind] = {
    400: Kind(400, "bad_request", "The request cannot be understood"),
    401: Kind(401, "unauthenticated", "Nobody is known to call; give credentials"),
    403: Kind(403, "forbidden", "The caller may not do this"),
    404: Kind(404, "not_found", "There is nothing at this path"),
    405: Kind(405, "method_not_allowed", "This path knows other methods"),
    408: Kind(408, "body_too_slow", "The body did not arrive in time"),
    413: Kind(413, "body_too_large", "The body is above its size limit"),
    415: Kind(415, "unsupported_media_type", "The body is not in a form that is read here"),
    421: Kind(421, "misdirected_request", "This host is not served here"),
    429: Kind(429, "too_many_requests", "Too many requests", 5),
    503: Kind(503, "unavailable", "A server does not answer; repeat the request", 1),
}
"""What the framework refuses by a status alone."""

_MALFORMED = Kind(400, "malformed_body", "The body cannot be read")
_INVALID = Kind(400, "invalid_request", "Members or parameters of the request are wrong")

CODES: dict[str, Kind] = {
    kind.code: kind for kind in (_UNEXPECTED, _MALFORMED, _INVALID, *_BY_STATUS.values(), *(kind for _, kind in _KINDS))
}
"""Every code, for the OpenAPI document and the reference."""


class Refusal(Exception):
    """What the boundary itself refuses; kinds of it say their status, code and title.

    errors: (JSON pointer, what is wrong) in turn. headers: of the answer.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request cannot be understood"
    retry_after: ClassVar[int | None] = None

    def __init__(
        self, detail: str, *, errors: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return Kind(self.status, self.code, self.title, self.retry_after)


def problem_response(
    kind: Kind,
    detail: str,
    *,
    instance: str | None = None,
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The document of one problem. instance: the path of the request. errors: (JSON pointer, what is wrong) in turn."""
    document: dict[str, Any] = {
        "type": f"urn:taurine:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }
    if instance is not None:
        document["instance"] = instance
    if errors:
        document["errors"] = [{"pointer": pointer, "detail": what} for pointer, what in errors]
    sent = dict(headers or {})
    if kind.retry_after is not None:
        sent.setdefault("Retry-After", str(kind.retry_after))
    # A lone surrogate in somebody's text is no reason to fail here of all places.
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return Response(body, kind.status, sent, PROBLEM_JSON)


def answer_to(error: Exception, *, instance: str | None, redact: Redact) -> Response:
    """The document for any error. What is not expected is told to the log, and to nobody else."""
    if isinstance(error, Refusal):
        errors = _shown(error.errors, redact)
        return problem_response(
            error.kind, redact.text(str(error)), instance=instance, errors=errors, headers=error.headers
        )
    if isinstance(error, TaurineError):
        kind = next((kind for known, kind in _KINDS if isinstance(error, known)), _UNEXPECTED)
        if kind.status == 500:
            failure = failure_of(error, redact)
            log.error("a request failed: %s", failure.message, exc_info=failure.shown)
            return problem_response(kind, kind.title, instance=instance)
        pointers = _shown(_pointers_of(error)[:_MOST_POINTERS], redact) if isinstance(error, PayloadInvalid) else ()
        return problem_response(
            kind, redact.text(str(error)), instance=instance, errors=pointers, headers=_headers_of(error)
        )
    if isinstance(error, RequestValidationError):
        return _of_validation(error, instance, redact)
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(error.status_code) or Kind(error.status_code, f"http_{error.status_code}", error.detail)
        return problem_response(kind, redact.text(str(error.detail)), instance=instance, headers=error.headers)
    log.error("a request failed unexpectedly", exc_info=failure_of(error, redact).shown)
    return problem_response(_UNEXPECTED, _UNEXPECTED.title, instance=instance)


def register(exceptions: Any, redact: Redact) -> None:
    """Let an application answer its errors so. exceptions: a FastAPI or Starlette application."""

    async def answer(connection: Request | WebSocket, error: Exception) -> Response | None:
        if isinstance(error, RequestValidationError) and _is_of_another_type(connection, error):
            error = HTTPException(415, "expected a body of JSON; send the header Content-Type: application/json")
        response = answer_to(error, instance=connection.url.path, redact=redact)
        if isinstance(connection, WebSocket):
            await _deny(connection, response)
            return None  # which has been said
        return response

    for kind in (TaurineError, Refusal, RequestValidationError, HTTPException):
        exceptions.add_exception_handler(kind, answer)


async def _deny(socket: WebSocket, response: Response) -> None:
    """Refuse a WebSocket, with the document where the server can send one before there is a socket."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(1008)


class Boundary:
    """The ASGI layer behind which no error gets: what nobody expected is answered with 500 and told to the log."""

    def __init__(self, app: ASGIApp, *, redact: Redact) -> None:
        self._app = app
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if started:  # the server closes the connection, so that nobody takes half an answer for a whole one
                raise
            await answer_to(error, instance=cast("str", scope["path"]), redact=self._redact)(scope, receive, send)


def pointer(*places: str | int) -> str:
    """A JSON pointer (RFC 6901) to a member."""
    return "".join("/" + str(place).replace("~", "~0").replace("/", "~1") for place in places)


def _headers_of(error: TaurineError) -> dict[str, str]:
    if isinstance(error, TooManyTries | QuotaExceeded) and error.retry_after is not None:
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return {"WWW-Authenticate": error.challenge} if isinstance(error, Unauthenticated) else {}


def _shown(errors: Sequence[tuple[str, str]], redact: Redact) -> Sequence[tuple[str, str]]:
    """A validator's words may have the value in them."""
    return [(place, redact.text(what)) for place, what in errors]


def _pointers_of(error: PayloadInvalid) -> Sequence[tuple[str, str]]:
    at = ("payload",) if error.index is None else ("payloads", error.index)
    return [(pointer(*at, *place), what) for place, (_, what) in zip(error.places, error.errors, strict=True)]


def _is_of_another_type(connection: Request | WebSocket, error: RequestValidationError) -> bool:
    """Whether a body was not read, since it does not say that it is JSON."""
    headers = connection.headers
    if headers.get("content-length", "0") == "0" or "json" in headers.get("content-type", ""):
        return False
    return any(found["loc"] == ("body",) for found in error.errors())


def _of_validation(error: RequestValidationError, instance: str | None, redact: Redact) -> Response:
    """Parameters are named by where they stand (`query/limit`), members of the body by their pointer.

    Values are left out, since they may be secret.
    """
    found = [
        (pointer(*problem["loc"][1:] if problem["loc"][:1] == ("body",) else problem["loc"]), str(problem["msg"]))
        for problem in error.errors()
    ]
    found = _shown(found[:_MOST_POINTERS], redact)
    detail = "; ".join(f"{place or 'the body'}: {what}" for place, what in found[:5])
    return problem_response(_INVALID, detail, instance=instance, errors=found)


class Malformed(Refusal):
    """The body cannot be read."""

    status, code, title = _MALFORMED.status, _MALFORMED.code, _MALFORMED.title


class Invalid(Refusal):
    """Members of the body are wrong."""

    status, code, title = _INVALID.status, _INVALID.code, _INVALID.title
