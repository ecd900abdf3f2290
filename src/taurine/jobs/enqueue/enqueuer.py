"""Accepting jobs: authorise, check, record, and only then queue.

The record is what makes a job accepted. Handing it to the queue follows in the same call when the server of queues answers, and is the outbox's work
otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from taurine.clock import Clock
from taurine.errors import DuplicateJob, EmbeddedServerError, RecordError, StoreError, TenantMismatch
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions, Request, unkeyed
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.enqueue.handle import JobHandle, Records
from taurine.jobs.enqueue.joining import plain_session, run_in, tell_after_commit
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.reporting.lines import current_context
from taurine.ledger.database import Database, Work
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.records import Inserted, NewRecord
from taurine.ledger.requests import accept_records

__all__ = ["Enqueuer"]

log = logging.getLogger("taurine.jobs")

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

_HANDOVER_SECONDS = 0.5
"""Seconds that an enqueue waits for the queue to take the job; then it returns, and the outbox hands it over."""

_HANDOVER_SECONDS_EACH = 0.001
"""Seconds beside those, for each job of a list."""

_PAUSE_AFTER_FAILURE = 1.0
"""Seconds after a failed handing over in which jobs are left to the outbox at once: nobody waits for a server that is down."""

_SLICE = 1000
"""Jobs of one `enqueue_many` that are recorded in one transaction."""


class Enqueuer:
    """Accepts jobs of one application on one event loop. Used on that loop, except for `record_in`.

    source: what a request says of where it comes from unless its caller does. undelivered: told when jobs were recorded that the queue did not take.
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
        source: str,
    ) -> None:
        self._database = database
        self._group = group
        self._dispatcher = dispatcher
        self._records = records
        self._authorize = authorize
        self._undelivered = undelivered
        self._clock = clock
        self._source = source
        self._down_until = 0.0
        self._loop = asyncio.get_running_loop()

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue`."""
        request = self.request(job_type, options)
        record = await self._checked(job_type, payload, request)
        session = options.get("session")
        if session is None:
            answer = settled(record, await self._group.submit(accept_records, record), request)
            await self._hand_over([record], [answer])
        else:
            (answer,) = await self._join(plain_session(session), [record], request)
        return self.handle(job_type, record, answer)

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many`."""
        request, records = await self.checked_many(job_type, payloads, options)
        session = options.get("session")
        if session is None:
            answers = await self._record_in_slices(records, request)
        else:
            answers = await self._join(plain_session(session), records, request)
        return [self.handle(job_type, record, answer) for record, answer in zip(records, answers, strict=True)]

    async def checked_many(
        self, job_type: JobType[PayloadT, Any], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> tuple[Request, list[NewRecord]]:
        """The records of several accepted payloads, not written yet. Raises what `JobType.enqueue_many` raises for a bad one."""
        request = self.request(job_type, unkeyed(options))
        return request, await self._checked_all(job_type, payloads, request)

    async def checked_one(
        self, job_type: JobType[PayloadT, Any], payload: PayloadT, options: EnqueueOptions
    ) -> tuple[Request, list[NewRecord]]:
        """As `checked_many`, of one payload, which may have a job id and an idempotency key."""
        request = self.request(job_type, options)
        return request, [await self._checked(job_type, payload, request)]

    # Checking -------------------------------------------------------------------------------------------------------------------

    def request(self, job_type: JobType[Any, Any], options: EnqueueOptions) -> Request:
        """What the caller asks for, checked. Within a handler it goes on from what the handler's own job was asked for by."""
        request = Request.of(options, job_type.options, now=self._clock.now(), source=self._source)
        context = current_context.get()
        if context is not None:
            request.user = request.user or context.user
            request.trace = context.trace
            if "source" not in options:
                request.source = f"job {context.job_id}"
        return request

    async def _checked(self, job_type: JobType[PayloadT, Any], payload: PayloadT, request: Request) -> NewRecord:
        if self._authorize is None:
            return self._record_of(job_type, payload, request)
        claimed = request.tenant or job_type.tenant_claimed(payload)
        await self._ask(job_type, payload, request, claimed)
        record = self._record_of(job_type, payload, request)
        if record.tenant != claimed:
            # What was allowed is a request of the tenant that the unchecked payload seemed to name.
            await self._ask(job_type, payload, request, record.tenant)
        return record

    async def _checked_all(
        self, job_type: JobType[PayloadT, Any], payloads: Sequence[PayloadT], request: Request
    ) -> list[NewRecord]:
        records: list[NewRecord] = []
        for number, payload in enumerate(payloads, 1):
            records.append(await self._checked(job_type, payload, request))
            if number % _SLICE == 0:
                await asyncio.sleep(0)  # others have their turn in a long list
        return records

    async def _ask(self, job_type: JobType[Any, Any], payload: object, request: Request, tenant: str | None) -> None:
        asked = AccessRequest(
            action="enqueue", job_type=job_type.name, tenant=tenant, user=request.user, payload=payload
        )
        await authorized(self._authorize, asked)

    def _record_of(self, job_type: JobType[PayloadT, Any], payload: PayloadT, request: Request) -> NewRecord:
        accepted, text = job_type.payload.accept(payload)
        job_id = request.job_id
        identity = job_type.identity
        if job_id is None:
            job_id = identity.id_for(accepted, request.created_at / 1000)
        return request.new_record(
            job_id,
            job_type=job_type.name,
            payload=text,
            tenant=job_type.tenant_of(accepted, request.tenant),
            fresh=request.job_id is None and identity.is_fresh,
        )

    # Recording ------------------------------------------------------------------------------------------------------------------

    async def _record_in_slices(self, records: Sequence[NewRecord], request: Request) -> list[Inserted]:
        answers: list[Inserted] = []
        async with contextlib.AsyncExitStack() as last:
            for first in range(0, len(records), _SLICE):
                part = records[first : first + _SLICE]
                answered = await self._database.write(_accepting(part, request))
                await last.aclose()
                # The next slice is recorded while the queue takes this one; slices are handed over in their order.
                last.push_async_callback(_awaited, asyncio.create_task(self._hand_over(part, answered)))
                answers += answered
        return answers

    async def _join(
        self, session: Session | AsyncSession, records: Sequence[NewRecord], request: Request
    ) -> list[Inserted]:
        if isinstance(session, AsyncSession):
            return await session.run_sync(lambda inner: self.record_in(inner, records, request))
        return self.record_in(session, records, request)

    def record_in(self, session: Session, records: Sequence[NewRecord], request: Request) -> list[Inserted]:
        """Record in the caller's transaction, in its thread; the outbox is told when it is committed."""
        answers = run_in(session, _accepting(records, request), whole=len(records) > 1)
        if any(map(_needs_delivery, answers)):
            tell_after_commit(session, self._tell)
        return answers

    def _tell(self) -> None:
        # The transaction is committed: nothing may fail in it any more. A loop that is closed leaves it to the outbox of another process.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._undelivered)

    # Handing over ---------------------------------------------------------------------------------------------------------------

    async def _hand_over(self, records: Sequence[NewRecord], answers: Sequence[Inserted]) -> None:
        """Give what was recorded to the queue, without making the caller wait for a server that does not answer."""
        if self._clock.monotonic() < self._down_until or not any(map(_needs_delivery, answers)):
            return
        again = [answer.existing for answer in answers if answer.existing is not None and answer.rerun]
        fresh = [record for record, answer in zip(records, answers, strict=True) if answer.existing is None]
        within = _HANDOVER_SECONDS + len(records) * _HANDOVER_SECONDS_EACH
        try:
            if fresh:
                await self._dispatcher.dispatch_new(fresh, within=within)
            if again:
                async with asyncio.timeout(within):
                    await self._dispatcher.dispatch(again)
        except (StoreError, EmbeddedServerError, TimeoutError) as error:
            self._pause(error)
        except asyncio.CancelledError:
            self._undelivered()
            raise
        except Exception:
            log.exception("recorded jobs could not be handed over; the outbox tries again")
            self._undelivered()

    def _pause(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now >= self._down_until:
            reason = str(error) or f"it gave no answer within {_HANDOVER_SECONDS:g} s"
            log.warning("jobs are recorded and wait for the server of queues: %s", reason)
        self._down_until = now + _PAUSE_AFTER_FAILURE
        self._undelivered()

    # Answering --------------------------------------------------------------------------------------------------------------------

    def handle(self, job_type: JobType[Any, ResultT], record: NewRecord, answer: Inserted) -> JobHandle[ResultT]:
        """What the caller gets."""
        existing = answer.existing
        return JobHandle(
            job_id=record.id if existing is None else existing.id,
            job_type=record.type,
            queue=record.queue,
            status="queued" if existing is None else existing.status,
            duplicate=existing is not None and not answer.rerun,
            rerun=answer.rerun,
            created_at=datetime.fromtimestamp(record.created_at / 1000, UTC)
            if existing is None
            else existing.created_at,
            result=job_type.result,
            records=self._records,
        )


def settled(record: NewRecord, answer: Inserted | RecordError, request: Request) -> Inserted:
    """The answer, if it is one that the caller may have. Nothing was put in otherwise.

    Raises what the ledger answered, DuplicateJob and TenantMismatch.
    """
    if isinstance(answer, Exception):
        raise answer
    if answer.purged is not None:
        raise DuplicateJob(
            f"the idempotency key was used for job {answer.purged!r}, which has ended and whose record is no longer kept",
            job_id=answer.purged,
        )
    existing = answer.existing
    if existing is None:
        return answer
    if existing.tenant != record.tenant:
        raise TenantMismatch(
            f"{record.type}: the job id {record.id!r} is taken by another tenant; put the tenant into the id"
        )
    if existing.type != record.type:
        raise DuplicateJob(
            f"the job id {existing.id!r} is taken by a job of type {existing.type!r}; put the kind of job into the id",
            job_id=existing.id,
        )
    if request.on_duplicate == "error":
        raise DuplicateJob(f"a job {existing.id!r} exists already, and is {existing.status}", job_id=existing.id)
    return answer


def _accepting(records: Sequence[NewRecord], request: Request) -> Work[list[Inserted]]:
    """Accept all of `records`, or raise in the transaction at hand, which undoes it."""

    def accept(connection: Connection) -> list[Inserted]:
        answers = accept_records(connection, records)
        return [settled(record, answer, request) for record, answer in zip(records, answers, strict=True)]

    return accept


def _needs_delivery(answer: Inserted) -> bool:
    return answer.existing is None or answer.rerun


async def _awaited(task: asyncio.Task[None]) -> None:
    await task
