"""One delivery of one job, from the claim to the settled record.

The order is what the promises rest on. A delivery that may not be the first asks the ledger before it runs. The outcome is committed to the ledger, fenced,
before the queue hears of it. If the process dies between the two, the job is delivered again, and the ledger says that it need not run.

    admit ──► run ──► record ──► tell the queue
      │                 │
      │                 └─ refused: a later delivery, a cancel or an end was there first
      └─ ended before: acknowledged unrun
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from taurine.clock import Clock
from taurine.errors import (
    Cancel,
    LedgerError,
    Permanent,
    RateLimited,
    Release,
    Snooze,
    UnknownJobType,
    WaitForChildren,
)
from taurine.jobs.alerts import Alert, Alerts
from taurine.jobs.attendant import Attendant
from taurine.jobs.catalog import Catalog
from taurine.jobs.context import Context, Effects
from taurine.jobs.envelope import Envelope, retry_from_json
from taurine.jobs.executors import Call, Executor, ExecutorKind
from taurine.jobs.executors.call import takes_context
from taurine.jobs.failures import failure_of
from taurine.jobs.job_type import JobType
from taurine.jobs.lines import current_context, line_fields, log
from taurine.ledger.database import Database
from taurine.ledger.group_commit import Apply, GroupCommit
from taurine.ledger.outcomes import (
    Completion,
    DeadLetterReason,
    Ending,
    Granted,
    apply_completions,
    apply_endings,
    fence_of,
)
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.statuses import TERMINAL, Status
from taurine.queue import Job
from taurine.queue.attempt import Decided, bounded_delay
from taurine.queue.wire import Encoded
from taurine.retry import Retry

__all__ = ["Execution"]

ItemT = TypeVar("ItemT")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds between tries to record an outcome while the database is away. The job keeps its slot and its lease meanwhile."""


@dataclass(slots=True)
class _Delivery:
    """What is known of a delivery once it is admitted."""

    job: Job
    job_type: JobType[Any, Any]
    envelope: Envelope
    record: JobRecord | None
    fence: int
    attempt: int
    max_attempts: int
    retry: Retry
    started: int
    """ms since the epoch"""


class Execution:
    """Runs what a queue's worker claims.

    run: called by the engine for each claimed job; refuse: for one that must not run. What they return or raise settles the queue.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        database: Database,
        group: GroupCommit,
        executors: Mapping[ExecutorKind, Executor],
        attendant: Attendant,
        effects: Effects,
        alerts: Alerts,
        told: Callable[[str], None],
        adopt: Callable[[Job, JobType[Any, Any]], Any] | None,
        deps: Any,
        worker: str,
        clock: Clock,
        random: Random,
    ) -> None:
        self._catalog = catalog
        self._database = database
        self._group = group
        self._executors = executors
        self._attendant = attendant
        self._effects = effects
        self._alerts = alerts
        self._told = told
        self._adopt = adopt
        self._deps = deps
        self._worker = worker
        self._clock = clock
        self._random = random

    async def run(self, job: Job) -> Any:
        """Run a claimed job and record what became of it; returns the result for the queue, or raises what the queue is to do."""
        delivery = await self._admit(job)
        if not isinstance(delivery, _Delivery):
            return delivery
        context: Context | None = None
        try:
            context = self._context(delivery)
            value = await self._call(delivery, context)
            output = _encoded_result(delivery.job_type, value)
        except asyncio.CancelledError:
            if context is None or job.cancel_reason is not None or not context.cancelled:
                raise  # the worker stops, or lost the lease: whoever gets the job next goes on
            return await self._end(delivery, context, Cancel(context.cancel_reason or "cancelled"))
        except (RateLimited, Release, WaitForChildren):
            raise  # the queue's own affairs
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
            return await self._end(delivery, context, error)
        if context.cancelled and context.cancel_reason is not None:
            return await self._end(delivery, context, Cancel(context.cancel_reason), partial=output)
        return await self._complete(delivery, context, output)

    async def refuse(self, job: Job, reason: BaseException) -> Any:
        """Record that a job is given up unrun: its worker died too often, its data is broken, or a child of it failed."""
        envelope = Envelope.of(_options_of(job)) or Envelope()
        record = await self._read(job.id)
        if record is None or record.status in TERMINAL:
            raise Decided(reason, None)
        generation = max(envelope.generation, record.generation)
        failure = failure_of(reason)
        crashed = job.stalled_count > 0 and job.deferred_failure is not None
        attempts = max(record.attempts, envelope.attempts + job.attempts_started - 1)
        await self._commit(
            apply_endings,
            Ending(
                id=job.id,
                fence=fence_of(generation, job.attempts_started),
                status="failed",
                attempts=attempts,
                at=self._now_ms(),
                worker=self._worker,
                error=failure.json,
                error_fingerprint=failure.fingerprint,
                dead_letter="crashed" if crashed else "permanent",
            ),
        )
        log.error(
            "job %s (%s) is dead: %s", job.id, job.name, failure.message, extra={"job_id": job.id, "queue": job.queue}
        )
        await self._alerts.raise_alert(
            Alert("dead_letter", job.id, job.name, job.queue, record.tenant, failure.message)
        )
        self._told(job.id)
        raise Decided(reason, None)

    # Admitting --------------------------------------------------------------------------------------------------------------------

    async def _admit(self, job: Job) -> _Delivery | Any:
        """What is known of a delivery that is to run; for one that is not, what the queue is told of it."""
        envelope = Envelope.of(_options_of(job))
        job_type = self._catalog.find(job.name)
        record: JobRecord | None = None
        if envelope is None or envelope.generation or job.attempts_started > 1:
            record = await self._read(job.id)
            if record is None:
                record = await self._adopted(job, job_type)
            if record.status in TERMINAL:
                return self._acknowledge(job, record)
        envelope = envelope or Envelope()
        delivery = self._delivery(job, job_type, envelope, record)
        if record is not None and record.cancel_requested_at is not None:
            return await self._end(delivery, None, Cancel(record.cancel_reason or "cancelled"))
        if envelope.expires_at is not None and job.attempts_started == 1 and delivery.started > envelope.expires_at:
            return await self._expire(delivery)
        if not delivery.job_type.has_handler or delivery.job_type.queue != job.queue:
            return await self._end(delivery, None, self._unknown(job), reason="unknown_type")
        return delivery

    def _delivery(
        self, job: Job, job_type: JobType[Any, Any] | None, envelope: Envelope, record: JobRecord | None
    ) -> _Delivery:
        if job_type is None:
            raise Decided(self._unknown(job), None)
        retry = job_type.options.retry
        if envelope.retry is not None:
            retry = retry_from_json(envelope.retry, retry)
        generation = envelope.generation if record is None else max(envelope.generation, record.generation)
        return _Delivery(
            job=job,
            job_type=job_type,
            envelope=envelope,
            record=record,
            fence=fence_of(generation, job.attempts_started),
            attempt=envelope.attempts + job.attempts_made + 1,
            max_attempts=envelope.attempts + job.options.attempts,
            retry=retry,
            started=self._now_ms(),
        )

    def _acknowledge(self, job: Job, record: JobRecord) -> Any:
        log.info(
            "job %s (%s) was delivered again and is %s: not run",
            job.id,
            job.name,
            record.status,
            extra={"job_id": job.id},
        )
        if record.status == "completed":
            return Encoded(record.output_json or "null")
        raise Decided(Permanent(f"the record says {record.status}"), None)

    async def _adopted(self, job: Job, job_type: JobType[Any, Any] | None) -> JobRecord:
        """The record of a job that somebody else put into the queue. Raises Decided where that is not allowed."""
        record = None if self._adopt is None or job_type is None else await self._adopt(job, job_type)
        if record is None:
            error = Permanent(f"no record is kept of job {job.id!r}: it was not accepted by this application")
            log.error("%s", error, extra={"job_id": job.id, "job_type": job.name, "queue": job.queue})
            await self._alerts.raise_alert(Alert("forged_job", job.id, job.name, job.queue, None, str(error)))
            raise Decided(error, None)
        return record

    def _unknown(self, job: Job) -> UnknownJobType:
        return UnknownJobType(f"the job type {job.name!r:.80} has no handler on queue {job.queue!r} in this worker")

    # Running ----------------------------------------------------------------------------------------------------------------------

    def _context(self, delivery: _Delivery) -> Context:
        job, job_type, envelope, record = delivery.job, delivery.job_type, delivery.envelope, delivery.record
        timeout = job_type.timeout
        return Context(
            job_id=job.id,
            type=job_type.name,
            queue=job.queue,
            attempt=delivery.attempt,
            max_attempts=delivery.max_attempts,
            tenant=envelope.tenant,
            created_at_ms=job.created_at * 1000,
            scheduled_for_ms=envelope.scheduled_for,
            deadline_ms=None if timeout is None else delivery.started + timeout * 1000,
            user=envelope.created_by,
            trace=envelope.trace,
            deps=self._deps,
            fence=delivery.fence,
            state=None if record is None else record.state_json,
            progress=None if record is None else record.progress_json,
            effects=self._effects,
            clock=self._clock,
        )

    async def _call(self, delivery: _Delivery, context: Context) -> Any:
        job_type = delivery.job_type
        payload = job_type.payload.decode(delivery.job.data_json)
        job_type.tenant_of(payload, context.tenant)  # the second boundary: the first one may have been passed by
        log.debug(
            "job %s (%s) starts, attempt %d", context.job_id, context.type, context.attempt, extra=line_fields(context)
        )
        current_context.set(context)
        handler = job_type.function
        kind = job_type.runs_in
        run = self._attendant.enter(delivery.job, context, delivery.started, self._worker)
        try:
            if kind == "loop" and job_type.timeout is None:
                # In the attempt's own task: another one for each job would cost more than a short handler does.
                return await (handler(payload, context) if takes_context(handler) else handler(payload))
            call = Call(handler=handler, payload=payload, context=context, name=job_type.name)
            return await self._executors[kind].run(call, timeout=job_type.timeout)
        finally:
            self._attendant.leave(run)

    # Recording --------------------------------------------------------------------------------------------------------------------

    async def _complete(self, delivery: _Delivery, context: Context, output: str) -> Any:
        now = self._now_ms()
        granted = await self._commit(
            apply_completions,
            Completion(
                id=delivery.job.id,
                fence=delivery.fence,
                attempts=delivery.attempt,
                output=output,
                worker=self._worker,
                started_at=delivery.started,
                at=now,
                progress=context.progress_json() if context.progress_changed else None,
            ),
        )
        if granted is not None:
            return self._overruled(delivery, granted, output)
        log.info(
            "job %s (%s) completed in %.3f s",
            context.job_id,
            context.type,
            (now - delivery.started) / 1000,
            extra={**line_fields(context), "duration": (now - delivery.started) / 1000},
        )
        self._told(delivery.job.id)
        return Encoded(output)

    async def _end(
        self,
        delivery: _Delivery,
        context: Context | None,
        error: Exception,
        *,
        partial: str | None = None,
        reason: DeadLetterReason | None = None,
    ) -> Any:
        """Record an attempt that did not complete, and say what the queue is to do. Raises Decided, or Snooze."""
        if isinstance(error, Snooze):
            await self._record_end(delivery, context, "waiting", None, pause=bounded_delay(error.delay), charged=False)
            raise error
        if isinstance(error, Cancel):
            await self._record_end(delivery, context, "cancelled", error, partial=partial)
            log.info(
                "job %s (%s) was cancelled: %s", delivery.job.id, delivery.job_type.name, error, extra=_fields(delivery)
            )
            self._told(delivery.job.id)
            raise Decided(error, None) from error
        verdict = delivery.retry.classify(error, self._clock)
        pause = None
        if reason is None:
            pause = delivery.retry.pause(delivery.attempt, error, self._random, self._clock, verdict=verdict)
            if delivery.attempt >= delivery.max_attempts:
                pause = None
        if pause is not None:
            await self._record_end(delivery, context, "retrying", error, pause=pause)
            log.warning(
                "job %s (%s) failed in attempt %d of %d and is tried again in %.1f s: %s",
                delivery.job.id,
                delivery.job_type.name,
                delivery.attempt,
                delivery.max_attempts,
                pause,
                failure_of(error).message,
                extra={**_fields(delivery), "retry_in": pause},
            )
        else:
            reason = reason or ("permanent" if verdict.kind == "permanent" else "exhausted")
            await self._record_end(delivery, context, "failed", error, dead_letter=reason)
            await self._tell_dead(delivery, error, reason)
        if verdict.alert:
            await self._alerts.raise_alert(self._alert("denied", delivery, error))
        raise Decided(error, pause) from error

    async def _tell_dead(self, delivery: _Delivery, error: Exception, reason: str) -> None:
        log.error(
            "job %s (%s) is dead after %d of %d attempts (%s)",
            delivery.job.id,
            delivery.job_type.name,
            delivery.attempt,
            delivery.max_attempts,
            reason,
            extra={**_fields(delivery), "reason": reason},
            exc_info=error,
        )
        await self._alerts.raise_alert(self._alert("dead_letter", delivery, error))
        self._told(delivery.job.id)

    async def _record_end(
        self,
        delivery: _Delivery,
        context: Context | None,
        status: Status,
        error: Exception | None,
        *,
        pause: float | None = None,
        charged: bool = True,
        partial: str | None = None,
        dead_letter: DeadLetterReason | None = None,
    ) -> None:
        now = self._now_ms()
        failure = None if error is None else failure_of(error)
        attempts = delivery.attempt if charged else delivery.attempt - 1
        if context is not None:
            await self._attendant.save(context)
        granted = await self._commit(
            apply_endings,
            Ending(
                id=delivery.job.id,
                fence=delivery.fence,
                status=status,
                attempts=attempts,
                at=now,
                worker=self._worker,
                started_at=delivery.started,
                output=partial,
                error=None if failure is None or status == "cancelled" else failure.json,
                error_fingerprint=None if failure is None or status == "cancelled" else failure.fingerprint,
                cancel_reason=None if failure is None or status != "cancelled" else failure.message,
                next_at=None if pause is None else now + round(pause * 1000),
                charged=charged,
                dead_letter=dead_letter,
            ),
        )
        if granted is not None:
            self._overruled(delivery, granted, partial)

    async def _expire(self, delivery: _Delivery) -> Any:
        await self._record_end(delivery, None, "expired", None, charged=False)
        log.warning(
            "job %s (%s) expired before it ran", delivery.job.id, delivery.job_type.name, extra=_fields(delivery)
        )
        self._told(delivery.job.id)
        raise Decided(Permanent("expired before it ran"), None)

    def _overruled(self, delivery: _Delivery, granted: Granted, output: str | None) -> Any:
        """The record did not take the outcome: something else came first. Returns, or raises, what the queue is told then."""
        log.warning(
            "job %s (%s): the outcome of attempt %d was refused, the record is %s",
            delivery.job.id,
            delivery.job_type.name,
            delivery.attempt,
            granted,
            extra=_fields(delivery),
        )
        if granted in ("completed", "missing"):
            return Encoded(output or "null")
        if granted in TERMINAL:
            raise Decided(Permanent(f"the record says {granted}"), None)
        raise Release("a later delivery of the job has its record")

    async def _commit(self, apply: Apply[ItemT, Granted], item: ItemT) -> Granted:
        """Write an outcome, however long the database is away: reported done and then forgotten would be worse than late."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._group.submit(apply, item)
            except (LedgerError, SQLAlchemyError) as error:
                if pause == _FIRST_PAUSE:
                    log.warning("an outcome waits to be recorded: %s", error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _read(self, job_id: str) -> JobRecord | None:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._database.read(lambda connection: get_record(connection, job_id))
            except LedgerError as error:
                if pause == _FIRST_PAUSE:
                    log.warning("a delivered job waits for its record: %s", error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _alert(self, kind: str, delivery: _Delivery, error: Exception) -> Alert:
        return Alert(
            kind,
            delivery.job.id,
            delivery.job_type.name,
            delivery.job.queue,
            delivery.envelope.tenant,
            failure_of(error).message,
        )

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)


def _options_of(job: Job) -> dict[str, Any]:
    return {} if job.corrupt else job.stored_options()


def _encoded_result(job_type: JobType[Any, Any], value: Any) -> str:
    try:
        return job_type.result.encode(job_type.result.check(value))
    except Exception as error:
        # The handler has done its work: another attempt would do it again, and fail in the same way.
        raise Permanent(f"the handler's result cannot be kept: {error}") from error


def _fields(delivery: _Delivery) -> dict[str, Any]:
    return {
        "job_id": delivery.job.id,
        "job_type": delivery.job_type.name,
        "queue": delivery.job.queue,
        "attempt": delivery.attempt,
        "tenant": delivery.envelope.tenant,
        "trace": delivery.envelope.trace,
    }
