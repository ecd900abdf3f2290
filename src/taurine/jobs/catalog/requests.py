"""What a caller may say of one enqueue, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from taurine.clock import ms_of
from taurine.errors import InvalidOption, did_you_mean
from taurine.ids import wire_id
from taurine.jobs.catalog.declaring import JobOptions, not_a_retry
from taurine.jobs.catalog.payloads import encode_metadata
from taurine.jobs.envelope import retry_to_json
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.records import NewRecord
from taurine.options import MAX_PRIORITY, Seconds, require_count, to_milliseconds
from taurine.retry import Retry

__all__ = ["AnySession", "EnqueueOptions", "OnDuplicate", "Request", "start_ms", "unkeyed"]

OnDuplicate: TypeAlias = Literal["return", "error", "rerun"]
"""What an enqueue does whose job id is taken: give back that job, raise DuplicateJob, or run a finished job again."""

AnySession: TypeAlias = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]


class EnqueueOptions(TypedDict, total=False):
    """Options of `enqueue`. Each has its default when left out."""

    job_id: str
    """The job's id. Default: what the job type declares."""
    delay: Seconds
    """Start this much later, in seconds. Default: 0."""
    run_at: datetime
    """Start at this time, an aware datetime. Default: now."""
    expires_in: Seconds
    """Seconds that the job may wait for its start, from the time that it is to start at; then it expires. Default: the
    job type's.
    """
    priority: int
    """0 to 2097151; 0 is none and runs before all others, then lower numbers first. Default: the job type's."""
    retry: Retry
    """Attempts and back-off of this job. Default: the job type's."""
    tenant: str
    """Whose job it is. Default: what the job type declares. Raises TenantMismatch where the payload says otherwise."""
    idempotency_key: str
    """A client's own key for this request: a repeat within its life gives the same job. Default: none."""
    tags: Sequence[str]
    """Words to find the job by, at most 100. Default: none."""
    metadata: Mapping[str, Any]
    """JSON to keep with the record, at most 64 KiB; handlers do not see it. Default: none."""
    session: AnySession
    """The SQLAlchemy session whose transaction the record joins; it is committed, or not, with the rest. Default: one
    of its own.
    """
    on_duplicate: OnDuplicate
    """What to do when the id is taken: "return" that job as a duplicate, raise DuplicateJob ("error"), or "rerun" it if
    it has ended, which is no duplicate then
    (`JobHandle.rerun`). Default: "return"."""
    user: str
    """Who asks for it. Default: in a handler whoever asked for its job, else unknown."""
    source: str
    """Where the request came from, for example a route. Default: in a handler "job <id>", else the application's name."""


_KNOWN = frozenset(EnqueueOptions.__annotations__)
_ON_DUPLICATE = ("return", "error", "rerun")
_MOST_TAGS = 100
_MOST_CHARACTERS = 255


@dataclass(slots=True, kw_only=True)
class Request:
    """What one call asks for, the same for each of its payloads.

    Times in ms since the epoch; `new_record` makes the records.
    """

    declared: JobOptions
    created_at: int
    source: str
    priority: int
    max_attempts: int
    job_id: str | None = None
    tenant: str | None = None
    user: str | None = None
    trace: str | None = None
    scheduled_for: int | None = None
    expires_at: int | None = None
    options: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None
    idempotency_key: str | None = None
    on_duplicate: OnDuplicate = "return"

    @classmethod
    def of(cls, options: EnqueueOptions, declared: JobOptions, *, now: float, source: str) -> Request:
        """Check what a caller gave. now: wall seconds. source: where it comes from unless the caller says.

        Raises InvalidOption, InvalidName, PayloadError for metadata that are no JSON; nothing was stored.
        """
        request = cls(
            declared=declared,
            created_at=round(now * 1000),
            source=source,
            priority=declared.priority,
            max_attempts=declared.retry.attempts,
        )
        if options:
            request._apply(options)
        if (expires_in := options.get("expires_in", declared.expires_in)) is not None:
            start = request.scheduled_for or request.created_at
            request.expires_at = start + to_milliseconds(expires_in, "expires_in", minimum=0.001)
        return request

    def _apply(self, given: EnqueueOptions) -> None:
        for name in given:
            if name not in _KNOWN:
                raise InvalidOption(f"unknown enqueue option {name!r}{did_you_mean(name, sorted(_KNOWN))}")
        own: dict[str, Any] = {}
        self.scheduled_for = start_ms(given, self.created_at)
        if (job_id := given.get("job_id")) is not None:
            wire_id(job_id)  # refuses what the queue could not store
            self.job_id = job_id
        if (priority := given.get("priority")) is not None:
            if require_count(priority, "priority", minimum=0) > MAX_PRIORITY:
                raise InvalidOption(f"expected priority to be at most {MAX_PRIORITY}, got {priority}")
            self.priority = priority
        if (retry := given.get("retry")) is not None:
            if not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
                raise InvalidOption(not_a_retry(retry))
            self.max_attempts = retry.attempts
            own["retry"] = retry_to_json(retry)
        if (tags := given.get("tags")) is not None:
            self.tags = _checked_tags(tags)
            own |= {"tags": list(self.tags)} if self.tags else {}
        if (metadata := given.get("metadata")) is not None:
            self.metadata = encode_metadata(metadata)
        self.options = own or None
        self.tenant = _text(given.get("tenant"), "tenant")
        self.user = _text(given.get("user"), "user")
        self.source = _text(given.get("source"), "source") or self.source
        self.idempotency_key = _text(given.get("idempotency_key"), "idempotency_key")
        self.on_duplicate = given.get("on_duplicate", "return")
        if self.on_duplicate not in _ON_DUPLICATE:
            raise InvalidOption(
                f"expected on_duplicate to be one of {', '.join(_ON_DUPLICATE)}, got {self.on_duplicate!r:.40}"
            )

    def new_record(self, job_id: str, *, job_type: str, payload: str, tenant: str | None, fresh: bool) -> NewRecord:
        """The record of one payload. fresh: the id was made up just now, and cannot be taken."""
        record = NewRecord(
            id=job_id,
            type=job_type,
            queue=self.declared.queue,
            payload=payload,
            created_at=self.created_at,
            max_attempts=self.max_attempts,
            tenant=tenant,
            priority=self.priority,
            options=self.options,
            metadata=self.metadata,
            created_by=self.user,
            source=self.source,
            trace=self.trace,
            scheduled_for=self.scheduled_for,
            expires_at=self.expires_at,
            tags=self.tags,
            fresh=fresh,
            on_taken="rerun" if self.on_duplicate == "rerun" else "return",
        )
        if self.idempotency_key is not None:
            record.idempotency = self._key_of(self.idempotency_key, record)
        return record

    def _key_of(self, key: str, record: NewRecord) -> IdempotencyKey:
        return IdempotencyKey(
            scope=record.tenant or "",
            key=key,
            request_hash=hashlib.sha256(f"{record.type}\0{record.payload}".encode()).hexdigest(),
            expires_at=record.created_at + to_milliseconds(self.declared.keep_keys, "keep_keys"),
        )


def unkeyed(options: EnqueueOptions) -> EnqueueOptions:
    """Options of many jobs. Raises InvalidOption for one that can be of one job only."""
    for option in ("job_id", "idempotency_key"):
        if option in options:
            raise InvalidOption(
                f"{option} can be of one job only; enqueue them one by one, concurrently if there are many"
            )
    return options


def start_ms(given: EnqueueOptions, now_ms: int) -> int | None:
    """When a job is to start that was given `delay` or `run_at`, ms since the epoch; None for at once.

    Raises InvalidOption.
    """
    delay, run_at = given.get("delay"), given.get("run_at")
    if run_at is not None:
        if delay is not None:
            raise InvalidOption("expected delay or run_at, got both")
        if not isinstance(run_at, datetime) or run_at.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected run_at to be an aware datetime, got {run_at!r:.60}; give it a tzinfo")
        start_ms = ms_of(run_at)
        to_milliseconds(max(0, start_ms - now_ms) / 1000, "run_at from now")
        return start_ms
    if delay is None:
        return None
    delay_ms = to_milliseconds(delay, "delay")
    return now_ms + delay_ms if delay_ms else None


def _text(value: object, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > _MOST_CHARACTERS:
        raise InvalidOption(f"expected {name} to be printable text of 1 to {_MOST_CHARACTERS} characters")
    return value


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) > _MOST_TAGS:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected tags to be a list of at most {_MOST_TAGS} words, got {type(tags).__name__}")
    for tag in tags:
        if _text(tag, "each tag") is None:
            raise InvalidOption("expected each tag to be a word, got None")
    return tuple(dict.fromkeys(tags))
