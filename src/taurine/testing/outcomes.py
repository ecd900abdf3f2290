"""What a worker would make of an attempt: retried after so many seconds, dead, asleep, cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Unpack

from taurine.errors import Cancel, RateLimited, Release, Snooze, WaitForChildren
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handler.detached import DetachedContext
from taurine.queue.attempt import bounded_delay, describe
from taurine.retry import Retry
from taurine.testing.running import RunOptions, accepted, called, context_for, without_loop

__all__ = ["AttemptStatus", "JobAttempt", "attempt_job", "attempt_job_sync"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

AttemptStatus: TypeAlias = Literal["completed", "retrying", "failed", "waiting", "cancelled", "queued"]
"""What the job's record would say; `queued` is handed back, to run again at once."""


@dataclass(frozen=True, kw_only=True)
class JobAttempt(Generic[ResultT]):
    """One attempt, and what a worker would do with the job.

    status: of the record after it. result: what the handler returned; of a cancelled job what it had done by then.
    error: what it raised, or None.
    pause: seconds until the next attempt, jitter left out; None where none follows by itself. dead_letter: why the job
    is dead, or None.
    charged: False for an attempt that does not count. alert: True if operators hear of it.
    context: with progress, lines, state and effects.
    """

    status: AttemptStatus
    context: DetachedContext
    result: ResultT | None = None
    error: BaseException | None = None
    pause: float | None = None
    dead_letter: Literal["permanent", "exhausted"] | None = None
    charged: bool = True
    alert: bool = False

    @property
    def ended(self) -> bool:
        """True if the job is over: completed, failed or cancelled."""
        return self.status in ("completed", "failed", "cancelled")

    def __str__(self) -> str:
        number = f"attempt {self.context.attempt} of {self.context.max_attempts} of {self.context.type}"
        said = "" if self.error is None else f": {describe(self.error)}"
        match self.status:
            case "completed":
                return f"{number} completed"
            case "retrying":
                return f"{number} failed and is tried again in {self.pause or 0:g} s{said}"
            case "failed":
                return f"{number} failed and the job is dead ({self.dead_letter}){said}"
            case "waiting" if self.pause is not None:
                return f"{number} sleeps and runs again in {self.pause:g} s, at no charge"
            case "waiting":
                return f"{number} waits for its children, at no charge"
            case "cancelled":
                return f"{number} was cancelled{said}"
            case _:
                return f"{number} is handed back and runs again, at no charge{said}"


async def attempt_job(
    job: JobType[PayloadT, ResultT], payload: PayloadT, *, retry: Retry | None = None, **options: Unpack[RunOptions]
) -> JobAttempt[ResultT]:
    """As `run_job`, but what the handler raises is no error of the call: what is returned says what a worker would do
    then.

    retry: as it would be given with the enqueue. Default: the job type's. Raises PayloadInvalid and its kin,
    TenantMismatch, HandlerMissing, InvalidOption.
    """
    if retry is not None and "max_attempts" not in options and "context" not in options:
        options["max_attempts"] = retry.attempts
    value = accepted(job, payload)
    context = context_for(job, value, options)
    try:
        text = await called(job, value, context, clock=options.get("clock"))
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
        return judged(error, context, retry or job.options.retry)
    result = job.result.decode(text)
    if context.job_cancelled:
        return JobAttempt(status="cancelled", context=context, result=result, error=Cancel(context.cancel_reason or ""))
    return JobAttempt(status="completed", context=context, result=result)


def attempt_job_sync(
    job: JobType[PayloadT, ResultT], payload: PayloadT, *, retry: Retry | None = None, **options: Unpack[RunOptions]
) -> JobAttempt[ResultT]:
    """`attempt_job` for tests without an event loop. Raises InvalidOption on one."""
    return without_loop(attempt_job(job, payload, retry=retry, **options))


def judged(error: Exception, context: DetachedContext, retry: Retry) -> JobAttempt[Any]:
    """What a worker makes of an attempt that raised `error`."""
    if context.job_cancelled:
        return JobAttempt(status="cancelled", context=context, error=Cancel(context.cancel_reason or ""))
    if isinstance(error, Release | RateLimited):
        return JobAttempt(status="queued", context=context, error=error, charged=False)
    if isinstance(error, Snooze):
        return JobAttempt(
            status="waiting", context=context, error=error, pause=bounded_delay(error.delay), charged=False
        )
    if isinstance(error, WaitForChildren):
        return JobAttempt(status="waiting", context=context, error=error, charged=False)
    if isinstance(error, Cancel):
        return JobAttempt(status="cancelled", context=context, error=error)
    verdict = retry.classify(error, context.clock)
    pause = retry.pause(context.attempt, error, _WithoutJitter(), context.clock, verdict=verdict)
    if pause is None or context.attempt >= context.max_attempts:
        reason = "permanent" if verdict.kind == "permanent" else "exhausted"
        return JobAttempt(status="failed", context=context, error=error, dead_letter=reason, alert=verdict.alert)
    return JobAttempt(status="retrying", context=context, error=error, pause=float(pause), alert=verdict.alert)


class _WithoutJitter(Random):
    """The nominal pause is the longest: jitter goes downwards from it."""

    def random(self) -> float:
        return 0.0
