"""One attempt of one job, called right here: checked as in production, run as in production, kept nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar, Unpack

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption, Permanent, did_you_mean
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.executors import Call, LoopExecutor, ThreadExecutor
from taurine.jobs.executors.choosing import is_async
from taurine.jobs.handler.detached import DetachedContext, MemoryEffects
from taurine.jobs.reporting.lines import current_context
from taurine.options import require_count

__all__ = ["RunOptions", "accepted", "called", "context_for", "run_job", "run_job_sync", "without_loop"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class RunOptions(TypedDict, total=False):
    """Options of `run_job`: what the handler is to find in its context. Each has its default when left out."""

    context: DetachedContext
    """The context itself, to be looked at afterwards; then it says everything, and no other option may be given.
    Default: one that is made of the others.
    """
    job_id: str
    """Default: what the job type declares."""
    attempt: int
    """Default: 1."""
    max_attempts: int
    """Default: those of the job type's retry."""
    tenant: str
    """Default: what the job type declares. Raises TenantMismatch where the payload says otherwise."""
    user: str
    """Who asked for the job. Default: nobody."""
    trace: str
    """Default: none."""
    scheduled_for: datetime
    """When the job was to start, an aware datetime. Default: at once."""
    deps: Any
    """Default: what the application injects."""
    state: Mapping[str, Any]
    """What an earlier attempt has left. Default: nothing."""
    effects: MemoryEffects
    """What `ctx.once` remembers, to be shared by several runs. Default: nothing yet."""
    at: Callable[[str], None]
    """See DetachedContext. Default: none."""
    clock: Clock
    """Also measures the time limit. Default: the machine's."""


async def run_job(job: JobType[PayloadT, ResultT], payload: PayloadT, **options: Unpack[RunOptions]) -> ResultT:
    """Run a job's handler alone; returns its result as whoever waits for the job would get it.

    No queue, no record, no retry.

    The payload is checked and goes through JSON, as an enqueue's does; so does the result. An async handler runs on
    this loop, a plain one in a thread, also where a worker would use a process. The type's time limit holds. options:
    see RunOptions; `context=DetachedContext()` is how to see progress, log lines, state and effects.

    Raises what the handler raises, as it is (`attempt_job` says what a worker would make of it); PayloadInvalid and its
    kin for a payload that no enqueue takes;
    Permanent for a result that cannot be kept; TimeLimitExceeded, HandlerExited, HandlerMissing, InvalidOption.
    """
    value = accepted(job, payload)
    context = context_for(job, value, options)
    return job.result.decode(await called(job, value, context, clock=options.get("clock")))


def run_job_sync(job: JobType[PayloadT, ResultT], payload: PayloadT, **options: Unpack[RunOptions]) -> ResultT:
    """`run_job` for tests without an event loop. Raises InvalidOption on one."""
    return without_loop(run_job(job, payload, **options))


def accepted(job: JobType[PayloadT, Any], payload: PayloadT) -> PayloadT:
    """The payload as a handler gets it: checked, through JSON, checked again.

    Raises PayloadInvalid, PayloadError, PayloadTooLarge.
    """
    _, text = job.payload.accept(payload)
    return job.payload.decode(text)


def context_for(job: JobType[PayloadT, Any], value: PayloadT, options: RunOptions) -> DetachedContext:
    """The context that the options ask for. Raises InvalidOption, TenantMismatch."""
    _check_names(options)
    if (given := options.get("context")) is not None:
        given.tenant = job.tenant_of(value, given.tenant)
        return given
    clock = options.get("clock") or SystemClock()
    now, limit = clock.now(), job.timeout
    return DetachedContext(
        job_id=options.get("job_id") or job.identity.id_for(value, now),
        type=job.name,
        queue=job.queue,
        attempt=require_count(options.get("attempt", 1), "attempt", minimum=1),
        max_attempts=require_count(options.get("max_attempts", job.options.retry.attempts), "max_attempts", minimum=1),
        tenant=job.tenant_of(value, options.get("tenant")),
        user=options.get("user"),
        trace=options.get("trace"),
        created_at=datetime.fromtimestamp(now, UTC),
        scheduled_for=options.get("scheduled_for"),
        deadline=None if limit is None else datetime.fromtimestamp(now + limit, UTC),
        deps=options.get("deps", getattr(job.producer, "deps", None)),
        state=options.get("state"),
        effects=options.get("effects"),
        at=options.get("at"),
        clock=clock,
    )


def _check_names(options: RunOptions) -> None:
    known = sorted(RunOptions.__annotations__)
    for name in options:
        if name not in known:
            raise InvalidOption(f"unknown option {name!r} of a run{did_you_mean(name, known)}")
    beside = sorted(options.keys() - {"context", "clock"})
    if "context" in options and beside:
        raise InvalidOption(f"expected {beside[0]} to be said of the DetachedContext, since a context is given")


async def called(
    job: JobType[PayloadT, Any], value: PayloadT, context: DetachedContext, *, clock: Clock | None = None
) -> str:
    """Call the handler; returns its result as JSON text."""
    handler = job.function
    call = Call(handler=handler, payload=value, context=context, name=job.name)
    executor = LoopExecutor(clock=clock) if is_async(handler) else ThreadExecutor(max_threads=1)
    with _known(context):
        await executor.start()
        try:
            result = await executor.run(call, timeout=job.timeout)
        finally:
            await executor.stop()
            context.ended = True
    context.returned = (result,)
    try:
        return job.result.encode(job.result.check(result))
    except Exception as error:
        # As in a worker: another attempt would do the same work again, and fail in the same way.
        raise Permanent(f"the handler's result cannot be kept: {error}") from error


@contextmanager
def _known(context: DetachedContext) -> Generator[None]:
    """What the handler logs and enqueues is told apart by its context."""
    before = current_context.set(context)
    try:
        yield
    finally:
        current_context.reset(before)


def without_loop(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run async code for a caller without an event loop. Raises InvalidOption on one, which it would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise InvalidOption("this call would block the event loop; use the one without _sync, with await")
