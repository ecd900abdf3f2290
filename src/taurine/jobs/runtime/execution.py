"""One delivery of one job, from the claim to the settled record.

The order is what the promises rest on. A delivery that may not be the first asks the ledger before it runs. The outcome
is committed to the ledger, fenced, before the queue hears of it. If the process dies between the two, the job is
delivered again, and the ledger says that it need not run.

    admit ──► run ──► record ──► tell the queue
      │        │         │
      │        │         └─ refused: a later delivery, a cancel or an end was there first
      │        └─ cut off (the worker stops, the lease is lost): handed back at no charge, nothing is recorded but what was saved
      └─ ended before: acknowledged unrun

A handler that blocks the event loop past its lease may lose the job to another worker, since leases are renewed on the
same loop. Its outcome is refused then: the other worker has taken the record when it was given the job. No thread
renews leases meanwhile, on purpose: a loop that is stuck for good would hold its jobs for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from pydantic_core import to_jsonable_python

from taurine.clock import Clock, ms_of
from taurine.errors import (
    Cancel,
    HandlerExited,
    PayloadError,
    Permanent,
    RateLimited,
    Release,
    Snooze,
    WaitForChildren,
    WorkerLost,
)
from taurine.ids import run_of
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.envelope import Envelope
from taurine.jobs.executors import Call, Executor, ExecutorKind
from taurine.jobs.executors.call import exited, takes_context
from taurine.jobs.handler.context import Backing, Context
from taurine.jobs.handover.adoption import record_id_of
from taurine.jobs.reporting.failures import presentable
from taurine.jobs.reporting.lines import current_context, line_fields, log
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.reporting.spans import Spans
from taurine.jobs.runtime.admission import Acknowledged, Admission, envelope_of
from taurine.jobs.runtime.attendant import Attendant, Run
from taurine.jobs.runtime.delivery import Delivery
from taurine.jobs.runtime.recording import Recorder
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Job
from taurine.queue.attempt import Decided
from taurine.queue.later import Later
from taurine.queue.wire import Encoded, encode_json

__all__ = ["Execution"]


class Execution:
    """Runs what a queue's worker claims.

    run: called by the engine for each claimed job; refuse: for one that must not run. What they return or raise settles
    the queue.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        recorder: Recorder,
        attendant: Attendant,
        executors: Mapping[ExecutorKind, Executor],
        backing: Backing,
        deps: Any,
        redact: Redact,
        clock: Clock,
        spans: Spans | None = None,
    ) -> None:
        self._admission = admission
        self._recorder = recorder
        self._attendant = attendant
        self._executors = executors
        self._backing = backing
        self._deps = deps
        self._redact = redact
        self._clock = clock
        self._spans = spans

    async def run(self, job: Job) -> Encoded | Later:
        """Run a claimed job and record what became of it; returns the result for the queue, or raises what the queue is
        to do.
        """
        delivery = await self._admission.admit(job)
        if isinstance(delivery, Acknowledged):
            return delivery.value
        job_type = delivery.job_type
        assert job_type is not None, "what has no handler is not admitted"
        context = self._context(delivery, job_type)
        current_context.set(context)
        run = self._attendant.enter(job, context, delivery.started, shown=delivery.shown)
        try:
            try:
                value = await self._call(delivery, job_type, context)
            finally:
                self._attendant.leave(run)
                context.ended = True
            if run.cancelled or run.overtaken or job.cancel_reason is not None:
                return await self._returned_late(delivery, job_type, run, value)
            output = _encoded_result(job_type, value)
        except asyncio.CancelledError as error:
            return await self._cut_off(delivery, job_type, run, error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
            return await self._failed(delivery, run, presentable(error))
        return self._complete(delivery, run, output)

    async def refuse(self, job: Job, reason: BaseException) -> Encoded:
        """Record that a job is given up unrun: its worker died too often, its data is broken, or a child of it failed."""
        envelope = envelope_of(job)
        record = await self._recorder.read(job.id if envelope is not None else record_id_of(job))
        if record is None or record.status in TERMINAL or record.queue != job.queue:
            raise Decided(reason, None)
        known = envelope or Envelope()
        delivery = self._admission.delivery_of(job, known, record)
        crashed = job.stalled_count > 0 and job.deferred_failure is not None
        # A crash ends an attempt without anybody who could charge it: the starts tell how many there were.
        # Those of an earlier generation's copy tell nothing of this one.
        starts = 0 if record.generation > known.generation else delivery.envelope.attempts + job.attempts_started - 1
        attempts = max(record.attempts, starts)
        if crashed:
            reason = WorkerLost(
                f"the worker that ran it died, or lost its lease, {job.stalled_count} times; the last was {record.worker or 'unknown'}"
            )
        return await self._recorder.give_up(delivery, reason, "crashed" if crashed else "permanent", attempts=attempts)

    # Running ----------------------------------------------------------------------------------------------------------------------

    def _context(self, delivery: Delivery, job_type: JobType[Any, Any]) -> Context:
        job, envelope, record = delivery.job, delivery.envelope, delivery.record
        spans = None if job.span is None else self._spans_of(delivery)
        timeout = job_type.timeout
        scheduled_for = envelope.scheduled_for
        if (tick := run_of(delivery.id)) is not None:
            scheduled_for = tick.due_ms  # also where it is run again by hand
        elif record is not None:
            scheduled_for = ms_of(record.scheduled_for)
        return Context(
            job_id=delivery.id,
            type=job_type.name,
            queue=job.queue,
            attempt=delivery.attempt,
            max_attempts=delivery.max_attempts,
            tenant=delivery.tenant,
            created_at_ms=job.created_at * 1000 if record is None else ms_of(record.created_at),
            scheduled_for_ms=scheduled_for,
            deadline_ms=None if timeout is None else delivery.started + timeout * 1000,
            user=envelope.created_by,
            trace=delivery.trace,
            deps=self._deps,
            fence=delivery.fence,
            state=None if record is None else record.state_json,
            progress=None if record is None else record.progress_json,
            backing=self._backing,
            signal=job,
            redact=self._redact,
            clock=self._clock,
            spans=spans,
        )

    def _spans_of(self, delivery: Delivery) -> Spans | None:
        """Those of what its handler does, where anybody sees them; the attempt's own, which the engine has begun, is
        told the rest.
        """
        span = delivery.job.span
        if self._spans is None or span is None or not span.is_recording:
            return None
        about: dict[str, str | int] = {
            "bullmq.queue.name": delivery.job.queue,
            "bullmq.job.id": delivery.job.id,
            "bullmq.job.name": delivery.job.name,
            "taurine.job.id": delivery.id,
            "taurine.job.attempt": delivery.attempt,
        }
        if delivery.tenant is not None:
            about["taurine.tenant"] = delivery.tenant
        span.set_attributes({**about, "taurine.job.max_attempts": delivery.max_attempts})
        delivery.trace = self._spans.carried()
        return self._spans.about(about)

    async def _call(self, delivery: Delivery, job_type: JobType[Any, Any], context: Context) -> Any:
        payload = job_type.payload.decode(delivery.payload_json)
        # The second boundary: the first one may have been passed by.
        context.tenant = delivery.tenant = job_type.tenant_of(payload, delivery.tenant)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "job %s (%s) starts, attempt %d of %d",
                *(context.shown_id, context.type, context.attempt, context.max_attempts),
                extra=line_fields(context),
            )
        handler, kind = job_type.function, job_type.runs_in
        if kind == "loop" and job_type.timeout is None:
            # In the attempt's own task: another one for each job would cost more than a short handler does.
            try:
                return await (handler(payload, context) if takes_context(handler) else handler(payload))
            except SystemExit as request:
                raise exited(request) from request
        bound = _bound(handler, payload, context, is_async=kind == "loop")
        call = Call(handler=handler, payload=payload, context=context, name=job_type.name, bound=bound)
        return await self._executors[kind].run(call, timeout=job_type.timeout)

    # What became of it -------------------------------------------------------------------------------------------------------------

    def _complete(self, delivery: Delivery, run: Run, output: str) -> Later:
        show = (lambda: self._attendant.show_progress(run)) if run.context.progress_changed else None
        return self._recorder.complete(delivery, run.context, output, show=show)

    async def _failed(self, delivery: Delivery, run: Run, error: Exception) -> Encoded:
        context = run.context
        if run.cancelled:
            return await self._cancelled(delivery, run, None)
        if run.overtaken:
            return await self._overtaken(delivery, run)
        if delivery.job.cancel_reason is not None or isinstance(error, Release | RateLimited):
            await self._recorder.hand_back(delivery, context, shown=run.shown)
            raise error if isinstance(error, Release | RateLimited) else _released(delivery.job) from error
        if isinstance(error, Snooze):
            return await self._recorder.snooze(delivery, context, error)
        if isinstance(error, WaitForChildren):
            return await self._recorder.wait(delivery, context, error)
        if isinstance(error, Cancel):
            return await self._recorder.cancel(delivery, context, error)
        return await self._recorder.fail(delivery, context, error)

    async def _cut_off(
        self, delivery: Delivery, job_type: JobType[Any, Any], run: Run, error: asyncio.CancelledError
    ) -> Encoded | Later:
        """The run was cancelled: for the job's sake, as the worker stops, as the lease is lost or another delivery has
        the job, or by the handler itself.
        """
        if run.context.returned is not None:
            return await self._returned_late(delivery, job_type, run, run.context.returned[0])
        if run.cancelled:
            return await self._cancelled(delivery, run, None)
        if run.overtaken:
            return await self._overtaken(delivery, run)
        if not run.task.cancelling():
            own = HandlerExited("the handler ended with CancelledError, though nobody had cancelled its job")
            own.__cause__ = error
            return await self._failed(delivery, run, own)
        await self._recorder.hand_back(delivery, run.context, shown=run.shown)
        raise error

    async def _returned_late(
        self, delivery: Delivery, job_type: JobType[Any, Any], run: Run, value: Any
    ) -> Encoded | Later:
        """The handler returned after it was to stop.

        If its job was cancelled, that stands, and what it returned is kept as far as it got. If the worker stops or the
        lease is lost, a handler that was told may have left off in the middle: only one that was not has completed the
        job.
        """
        if run.cancelled:
            return await self._cancelled(delivery, run, _encoded_partial(job_type, value))
        if run.overtaken:
            return await self._overtaken(delivery, run)
        if run.context.heard or run.task.cancelling():
            await self._recorder.hand_back(delivery, run.context, shown=run.shown)
            raise _released(delivery.job)
        try:
            output = _encoded_result(job_type, value)
        except Permanent as error:
            return await self._failed(delivery, run, presentable(error))
        return self._complete(delivery, run, output)

    async def _cancelled(self, delivery: Delivery, run: Run, partial: str | None) -> Encoded:
        run.task.uncancel()  # heard: what follows is not cut off by it
        error = Cancel(run.context.cancel_reason or "cancelled")
        return await self._recorder.cancel(delivery, run.context, error, partial=partial)

    async def _overtaken(self, delivery: Delivery, run: Run) -> NoReturn:
        """The job is another delivery's by now: whatever this one came to, it only lets go of it."""
        run.task.uncancel()
        await self._recorder.hand_back(delivery, run.context, shown=run.shown)
        raise Release(run.context.cancel_reason or "another delivery of the job has it")


def _bound(handler: Callable[..., Any], payload: Any, context: Context, *, is_async: bool) -> Callable[[], Any]:
    """How an executor calls the handler.

    What it returns is kept in the context too: one that was told to stop may return all the same.
    """

    def call() -> Any:
        return handler(payload, context) if takes_context(handler) else handler(payload)

    def call_plain() -> Any:
        value = call()
        context.returned = (value,)
        return value

    return (lambda: _kept(call(), context)) if is_async else call_plain


async def _kept(value: Awaitable[Any], context: Context) -> Any:
    result = await value
    context.returned = (result,)
    return result


def _released(job: Job) -> Release:
    return Release(job.cancel_reason or "the worker stops")


def _encoded_result(job_type: JobType[Any, Any], value: Any) -> str:
    try:
        return job_type.result.encode(job_type.result.check(value))
    except Exception as error:
        # The handler has done its work: another attempt would do it again, and fail in the same way.
        raise Permanent(f"the handler's result cannot be kept: {error}") from error


def _encoded_partial(job_type: JobType[Any, Any], value: Any) -> str | None:
    """What a cancelled handler returned: as its result if it is one, as plain JSON if it is not, and nothing if it is
    not even that.
    """
    try:
        return job_type.result.encode(job_type.result.check(value))
    except PayloadError:
        try:
            return encode_json(to_jsonable_python(value), "the partial result")
        except (PayloadError, ValueError):
            return None
