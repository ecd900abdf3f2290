"""Accepting jobs: authorise, check, record, and only then queue.

The record is what makes a job accepted. Handing it to the queue follows in the same call when the server of queues answers, and is the outbox's work
otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from taurine.clock import Clock
from taurine.errors import DuplicateJob, InvalidOption, PayloadError, RecordError, StoreError
from taurine.ids import wire_id
from taurine.jobs.access import AccessRequest, Authorize, authorized
from taurine.jobs.dispatch import Dispatcher
from taurine.jobs.envelope import retry_to_json
from taurine.jobs.handle import JobHandle, Records
from taurine.jobs.job_type import JobType
from taurine.jobs.requests import EnqueueOptions
from taurine.ledger.database import Database, translated
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.records import Inserted, JobRecord, NewRecord
from taurine.ledger.requests import accept_records
from taurine.options import MAX_PRIORITY, to_milliseconds

__all__ = ["Enqueuer"]

log = logging.getLogger("taurine.jobs")

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

_HANDOVER_SECONDS = 0.5
"""Seconds that an enqueue waits for the queue to take the job; then it returns, and the handing over goes on behind it."""

_PAUSE_AFTER_FAILURE = 1.0
"""Seconds after a failed handing over in which jobs are left to the outbox at once: nobody waits for a server that is down."""

_IDEMPOTENCY_SECONDS = 24 * 3600.0
"""Seconds that an idempotency key stands for its request."""

_SLICE = 1000
"""Jobs of one `enqueue_many` that are recorded in one transaction."""

Answer: TypeAlias = Inserted | RecordError

_KNOWN = frozenset(EnqueueOptions.__annotations__)


class Enqueuer:
    """Accepts jobs of one application on one event loop.

    undelivered: told when jobs were recorded that the queue did not take.
    """

    def __init__(
        self,
        *,
        database: Database,
        group: GroupCommit,
        dispatcher: Dispatcher,
        records: Records,
        authorize: Authorize | None,
        undelivered: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._database = database
        self._group = group
        self._dispatcher = dispatcher
        self._records = records
        self._authorize = authorize
        self._undelivered = undelivered
        self._clock = clock
        self._down_until = 0.0
        self._handovers: set[asyncio.Task[None]] = set()

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue`."""
        record = await self.checked(job_type, payload, options)
        session = options.get("session")
        if session is not None:
            (inserted,) = await self._record_in_session(session, [record])
        else:
            inserted = await self._group.submit(accept_records, record)
            await self._hand_over([record], [inserted])
        return self.handle(job_type, record, inserted, options)

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many`."""
        for option in ("job_id", "idempotency_key"):
            if option in options:
                raise InvalidOption(
                    f"{option} can be of one job only; enqueue them one by one, concurrently if there are many"
                )
        records = [await self.checked(job_type, payload, options) for payload in payloads]
        handles: list[JobHandle[ResultT]] = []
        session = options.get("session")
        for first in range(0, len(records), _SLICE):
            part = records[first : first + _SLICE]
            if session is not None:
                inserted = await self._record_in_session(session, part)
            else:
                inserted = await self._database.write(lambda connection, part=part: accept_records(connection, part))
                await self._hand_over(part, inserted)
            handles += [
                self.handle(job_type, record, answer, options) for record, answer in zip(part, inserted, strict=True)
            ]
        return handles

    async def close(self) -> None:
        """Return when what is being handed over was handed over, or failed."""
        if self._handovers:
            await asyncio.wait(self._handovers)

    # Checking -------------------------------------------------------------------------------------------------------------------

    async def checked(self, job_type: JobType[PayloadT, Any], payload: PayloadT, options: EnqueueOptions) -> NewRecord:
        """The record of one accepted request, not written yet. Raises what `JobType.enqueue` raises for a bad one."""
        if not options.keys() <= _KNOWN:
            unknown = sorted(options.keys() - _KNOWN)
            raise InvalidOption(f"unknown enqueue option {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
        if self._authorize is not None:
            await authorized(
                self._authorize,
                AccessRequest(
                    action="enqueue",
                    job_type=job_type.name,
                    tenant=options.get("tenant"),
                    user=options.get("user"),
                    payload=payload,
                ),
            )
        checked = job_type.payload.check(payload)
        now = self._clock.now()
        now_ms = round(now * 1000)
        job_id = options.get("job_id")
        record = NewRecord(
            id=job_type.identity.id_for(checked, now) if job_id is None else job_id,
            type=job_type.name,
            queue=job_type.queue,
            payload=job_type.payload.encode(checked),
            created_at=now_ms,
            max_attempts=job_type.options.retry.attempts,
            tenant=job_type.tenant_of(checked, options.get("tenant")),
            priority=job_type.options.priority,
            fresh=job_id is None and job_type.identity.is_fresh,
        )
        if not record.fresh:
            wire_id(record.id)  # refuses what the queue could not store
        if job_type.options.expires_in is not None:
            record.expires_at = now_ms + to_milliseconds(job_type.options.expires_in, "expires_in")
        if options:
            self._apply(options, record)
        return record

    def _apply(self, options: EnqueueOptions, record: NewRecord) -> None:
        """What this one enqueue was given."""
        own: dict[str, Any] = {}
        record.scheduled_for = _start_ms(options, record.created_at)
        if (expires_in := options.get("expires_in")) is not None:
            record.expires_at = record.created_at + to_milliseconds(expires_in, "expires_in", minimum=0.001)
        if (priority := options.get("priority")) is not None:
            if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
                raise InvalidOption(
                    f"expected priority to be a whole number from 0 to {MAX_PRIORITY}, got {priority!r:.40}"
                )
            record.priority = priority
        if (retry := options.get("retry")) is not None:
            record.max_attempts = retry.attempts
            own["retry"] = retry_to_json(retry)
        if tags := options.get("tags"):
            record.tags = _checked_tags(tags)
            own["tags"] = list(record.tags)
        if (metadata := options.get("metadata")) is not None:
            record.metadata = _json_of(metadata, "metadata")
        record.created_by, record.source = options.get("user"), options.get("source")
        record.options = own or None
        record.on_taken = "rerun" if _on_duplicate(options) == "rerun" else "return"
        if (key := options.get("idempotency_key")) is not None:
            record.idempotency = _idempotency_key(key, record)

    # Recording ------------------------------------------------------------------------------------------------------------------

    async def _record_in_session(
        self, session: Session | AsyncSession, records: Sequence[NewRecord]
    ) -> Sequence[Answer]:
        loop = asyncio.get_running_loop()
        if isinstance(session, AsyncSession):
            return await session.run_sync(lambda inner: self.record_in(inner, records, loop))
        return self.record_in(session, records, loop)

    def record_in(
        self, session: Session, records: Sequence[NewRecord], loop: asyncio.AbstractEventLoop
    ) -> Sequence[Answer]:
        """Record in the caller's transaction, in its thread; what is to follow the commit is arranged. loop: this enqueuer's own."""
        connection = session.connection()
        try:
            answers = accept_records(connection, records)
        except Exception as error:
            raise translated(error, connection.engine.url) from error

        def committed(_: Session) -> None:
            # A savepoint that is released calls this too: whether the records are there is seen when the outbox reads them.
            loop.call_soon_threadsafe(self._undelivered)

        if any(_is_new(answer) or _is_rerun(answer) for answer in answers):
            event.listen(session, "after_commit", committed)
            event.listen(session, "after_transaction_end", partial(_forget_when_over, committed))
        return answers

    # Handing over ---------------------------------------------------------------------------------------------------------------

    async def _hand_over(self, records: Sequence[NewRecord], answers: Sequence[Answer]) -> None:
        """Give what was recorded to the queue, without making the caller wait for a server that does not answer."""
        fresh = [record for record, answer in zip(records, answers, strict=True) if _is_new(answer)]
        again = [
            answer.existing
            for answer in answers
            if not isinstance(answer, Exception) and answer.rerun and answer.existing
        ]
        if not fresh and not again:
            return
        if self._clock.monotonic() < self._down_until:
            self._undelivered()
            return
        handover = asyncio.create_task(self._deliver(fresh, again), name="taurine handover")
        self._handovers.add(handover)
        handover.add_done_callback(self._handovers.discard)
        await asyncio.wait({handover}, timeout=_HANDOVER_SECONDS)

    async def _deliver(self, fresh: Sequence[NewRecord], again: Sequence[JobRecord]) -> None:
        try:
            if fresh:
                await self._dispatcher.dispatch_new(fresh)
            if again:
                await self._dispatcher.dispatch(again)
        except StoreError as error:
            if self._clock.monotonic() >= self._down_until:
                log.warning("jobs are recorded and wait for the server of queues: %s", error)
            self._down_until = self._clock.monotonic() + _PAUSE_AFTER_FAILURE
            self._undelivered()
        except Exception:
            log.exception("recorded jobs could not be handed over; the outbox tries again")
            self._undelivered()

    # Answering --------------------------------------------------------------------------------------------------------------------

    def handle(
        self, job_type: JobType[Any, ResultT], record: NewRecord, inserted: Answer, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """What the caller gets. Raises what the ledger answered, and DuplicateJob where that was asked for."""
        if isinstance(inserted, Exception):
            raise inserted
        if inserted.purged is not None:
            raise DuplicateJob(
                f"the idempotency key was used for job {inserted.purged!r}, which has ended and whose record is no longer kept",
                job_id=inserted.purged,
            )
        existing = inserted.existing
        if existing is not None and _on_duplicate(options) == "error":
            raise DuplicateJob(f"a job {existing.id!r} exists already, and is {existing.status}", job_id=existing.id)
        return JobHandle(
            job_id=record.id if existing is None else existing.id,
            job_type=record.type,
            queue=record.queue,
            status="queued" if existing is None else existing.status,
            duplicate=existing is not None and not inserted.rerun,
            created_at=datetime.fromtimestamp(record.created_at / 1000, UTC)
            if existing is None
            else existing.created_at,
            result=job_type.result,
            records=self._records,
        )


def _forget_when_over(hook: Callable[[Session], None], session: Session, transaction: SessionTransaction) -> None:
    """Take `hook` off a session whose outermost transaction has ended."""
    if transaction.parent is None and event.contains(session, "after_commit", hook):
        event.remove(session, "after_commit", hook)


def _is_new(answer: Answer) -> bool:
    return not isinstance(answer, Exception) and answer.existing is None and answer.purged is None


def _is_rerun(answer: Answer) -> bool:
    return not isinstance(answer, Exception) and answer.rerun


def _on_duplicate(options: EnqueueOptions) -> str:
    chosen = options.get("on_duplicate", "return")
    if chosen not in ("return", "error", "rerun"):
        raise InvalidOption(f"expected on_duplicate to be 'return', 'error' or 'rerun', got {chosen!r:.40}")
    return chosen


def _start_ms(options: EnqueueOptions, now_ms: int) -> int | None:
    delay, run_at = options.get("delay"), options.get("run_at")
    if run_at is not None:
        if delay is not None:
            raise InvalidOption("expected delay or run_at, got both")
        if not isinstance(run_at, datetime) or run_at.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected run_at to be an aware datetime, got {run_at!r:.60}; give it a tzinfo")
        return round(run_at.timestamp() * 1000)
    if delay is None:
        return None
    delay_ms = to_milliseconds(delay, "delay")
    return now_ms + delay_ms if delay_ms else None


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or any(not isinstance(tag, str) or not tag or not tag.isprintable() for tag in tags):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected tags to be a list of printable words, got {tags!r:.80}")
    return tuple(dict.fromkeys(tags))


def _json_of(value: Any, what: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError) as error:
        raise PayloadError(f"{what} cannot be stored as JSON: {error}") from None
    if "\\u0000" in text:
        raise PayloadError(f"{what} holds a null character, which cannot be stored")
    return text


def _idempotency_key(key: str, record: NewRecord) -> IdempotencyKey:
    if not isinstance(key, str) or not key or not key.isprintable() or len(key) > 255:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption("expected idempotency_key to be printable text of at most 255 characters")
    request = hashlib.sha256(f"{record.type}\0{record.payload}".encode()).hexdigest()
    return IdempotencyKey(
        scope=record.tenant or "",
        key=key,
        request_hash=request,
        expires_at=record.created_at + round(_IDEMPOTENCY_SECONDS * 1000),
    )
