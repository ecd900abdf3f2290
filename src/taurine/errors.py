"""Every error that Taurine raises, in one tree.

TaurineError
├── InvalidOption (ValueError)          an argument or setting is out of its range
│   ├── InvalidName                     a queue name, prefix or job id that cannot be stored
│   └── UnknownName                     there is no queue, API key or admin of this name
├── PayloadError (ValueError)           job data that cannot be stored as JSON
│   ├── PayloadTooLarge                 job data above its size limit
│   └── PayloadInvalid                  job data that is not what the job type declares
├── CatalogError                        what the code declares does not fit together
│   ├── UnknownJobType                  no job type of this name is declared
│   ├── AlreadyDeclared                 a name, or a handler, was given twice
│   └── HandlerMissing                  declared here, but its handler is elsewhere
├── LedgerError                         the SQL database did not do what was asked
│   ├── LedgerUnavailable               no answer in bounded time; retry is safe
│   ├── LedgerRefused                   the database answered with an error (disk full, no permission, …)
│   └── SchemaMismatch                  the tables are older or newer than the code, or are not there
├── RecordError                         one job's record could not be changed as asked
│   ├── RecordNotFound
│   ├── DuplicateJob                    a job of this id exists, and the caller asked for an error then
│   ├── IdempotencyConflict             the idempotency key stands for another request
│   ├── QuotaExceeded                   the tenant has as many unfinished jobs as it may, or put in as many of late
│   ├── TransitionRefused               the job's status does not allow it
│   ├── JobCancelled                    waited for a job, and it was cancelled
│   └── JobExpired                      waited for a job, and it expired before it ran
├── AccessError                         the caller may not do this; never retried, and operators are alerted
│   ├── NotAuthorized                   the caller has no right to this action
│   ├── Unauthenticated                 nobody knows who calls: no credential, or none that holds
│   │   └── TooManyTries                too many wrong passwords of late; try again later
│   ├── Forbidden                       who calls is known, and may not do this
│   └── TenantMismatch                  a job, or data of it, belongs to another tenant
│       └── JobIdUnusable (RecordError) the job id is not the caller's to use
├── EffectError                         a side effect that is to happen once was not started
│   ├── EffectUnknown                   an earlier attempt may have done it
│   └── EffectInProgress                another attempt is doing it
├── StoreError                          the Redis or Valkey server did not do what was asked
│   ├── StoreUnavailable                no answer in bounded time; retry is safe
│   └── StoreRefused                    the server answered with an error (out of memory, no permission, …)
├── JobError                            one job could not be changed as asked
│   ├── JobNotFound                     code -1
│   ├── LeaseMissing                    code -2
│   ├── NotInState                      code -3
│   ├── PendingChildren                 code -4
│   ├── ParentNotFound                  code -5
│   ├── LeaseLost                       code -6
│   ├── ParentNotReplaceable            code -7
│   ├── BelongsToScheduler              code -8
│   ├── FailedChildren                  code -9
│   ├── CorruptJob                      stored fields that cannot be decoded, or keys of another type
│   ├── JobLocked                       the job, or a child of it, is being worked on
│   ├── JobFailed                       waited for a job, and it failed
│   └── WaitTimeout (TimeoutError)      waited for a job, and it did not end in time
├── QueueError                          one queue could not be changed as asked
│   ├── QueueNotPaused
│   └── QueueBusy
├── SchedulerError
│   ├── SchedulerIdTaken                code -10
│   └── SchedulerSlotsTaken             code -11
├── ScheduleNotFound                    no schedule of this id is declared, or stands in a queue of the application
├── MoreThanExpected                    an operation on many would reach more of them than its caller has seen
├── StreamError                         a stream of changes is not begun, or ended early
│   ├── StreamDropped                   who listens was too slow, or nothing more can be told
│   └── StreamsFull                     too many listen in this process already
├── AttemptError                        an attempt ended otherwise than by its handler's own result or error
│   ├── TimeLimitExceeded (TimeoutError)    it ran longer than its time limit
│   ├── HandlerExited                   the handler tried to end the process it ran in
│   ├── HandlerFailed                   the handler raised, in a process of its own
│   ├── WorkerLost                      the worker that ran it told no end: it died, or lost its lease
│   ├── WorkerProcessDied               the process that ran it died
│   └── WorkerProcessNotStarted         the process that was to run it did not start
├── SupervisorGaveUp                    the worker processes of `processes=N` do not start; all were stopped
├── EmbeddedServerError                 the private Valkey server could not be started or used safely
└── HandlerSignal                       raised by a handler to choose the outcome of its attempt
    ├── Permanent                       fail for good, whatever attempts remain
    ├── RetryAfter                      fail this attempt, run again after a delay
    ├── Snooze                          run again after a delay, no attempt charged
    ├── Release                         run again as soon as possible, no attempt charged
    ├── RateLimited                     run again when the limit allows, no attempt charged
    ├── WaitForChildren                 run again when all children have ended, no attempt charged
    └── Cancel                          stop for good, on purpose

Beside the tree: TaurineWarning (UserWarning), for what is allowed and most likely a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from taurine.options import RateLimit

__all__ = [
    "AccessError",
    "AlreadyDeclared",
    "AttemptError",
    "BelongsToScheduler",
    "Cancel",
    "CatalogError",
    "CorruptJob",
    "DuplicateJob",
    "EffectError",
    "EffectInProgress",
    "EffectUnknown",
    "EmbeddedServerError",
    "FailedChildren",
    "Forbidden",
    "HandlerExited",
    "HandlerFailed",
    "HandlerMissing",
    "HandlerSignal",
    "IdempotencyConflict",
    "InvalidName",
    "InvalidOption",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobIdUnusable",
    "JobLocked",
    "JobNotFound",
    "LeaseLost",
    "LeaseMissing",
    "LedgerError",
    "LedgerRefused",
    "LedgerUnavailable",
    "MoreThanExpected",
    "NotAuthorized",
    "NotInState",
    "ParentNotFound",
    "ParentNotReplaceable",
    "PayloadError",
    "PayloadInvalid",
    "PayloadTooLarge",
    "PendingChildren",
    "Permanent",
    "QueueBusy",
    "QueueError",
    "QueueNotPaused",
    "QuotaExceeded",
    "RateLimited",
    "RecordError",
    "RecordNotFound",
    "Release",
    "RetryAfter",
    "ScheduleNotFound",
    "SchedulerError",
    "SchedulerIdTaken",
    "SchedulerSlotsTaken",
    "SchemaMismatch",
    "Snooze",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamDropped",
    "StreamError",
    "StreamsFull",
    "SupervisorGaveUp",
    "TaurineError",
    "TaurineWarning",
    "TenantMismatch",
    "TimeLimitExceeded",
    "TooManyTries",
    "TransitionRefused",
    "Unauthenticated",
    "UnknownJobType",
    "UnknownName",
    "WaitForChildren",
    "WaitTimeout",
    "WorkerLost",
    "WorkerProcessDied",
    "WorkerProcessNotStarted",
]


class TaurineError(Exception):
    """Base of every error that Taurine raises."""

    retryable: ClassVar[bool] = False
    """True when the same call may be repeated later and is expected to work."""


class TaurineWarning(UserWarning):
    """Something is allowed, and most likely a mistake; the message says what to do instead."""


class InvalidOption(TaurineError, ValueError):
    """An argument or a setting is out of its range; nothing was stored."""


class InvalidName(InvalidOption):
    """A queue name, key prefix or job id that cannot be stored safely; nothing was stored."""


class UnknownName(InvalidOption):
    """There is no queue, API key or admin of this name; nothing was changed. The message has the near miss, or says
    what lists them.
    """


class PayloadError(TaurineError, ValueError):
    """Job data, a result or a progress value that cannot be stored as JSON; nothing was stored."""


class PayloadTooLarge(PayloadError):
    """Job data above its size limit; nothing was stored."""


class PayloadInvalid(PayloadError):
    """Job data that is not what the job type declares; nothing was stored.

    `errors` lists (field, what is wrong) in turn; values are left out, since they may be secret. `places` lists where
    each of them stands, from the outside in. `index`: which of several payloads it is, from 0 on; None for a single one.
    """

    def __init__(
        self,
        message: str,
        *,
        job_type: str,
        errors: Sequence[tuple[str, str]] = (),
        places: Sequence[tuple[str | int, ...]] = (),
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.job_type = job_type
        self.index = index
        self.errors = tuple(errors)
        self.places = tuple(places) or tuple((field,) for field, _ in self.errors)

    def of_several(self, index: int) -> PayloadInvalid:
        """The same of one payload among several."""
        message = f"payloads[{index}]: {self}"
        return PayloadInvalid(message, job_type=self.job_type, errors=self.errors, places=self.places, index=index)


class CatalogError(TaurineError):
    """What the code declares does not fit together."""


class UnknownJobType(CatalogError):
    """No job type of this name is declared."""


class AlreadyDeclared(CatalogError):
    """A job type of this name, or a handler for it, was declared before."""


class HandlerMissing(CatalogError):
    """The job type is declared here without its handler."""


class LedgerError(TaurineError):
    """The SQL database did not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The database gave no answer in bounded time: it is down, locked by another process, or its pool is used up.

    A write may or may not have happened. Repeating a call that names a job, or an enqueue with a job id or idempotency
    key, is safe.
    """

    retryable = True


class LedgerRefused(LedgerError):
    """The database answered with an error, for example disk full or no permission; nothing was stored."""


class SchemaMismatch(LedgerError):
    """The ledger's tables are not the ones that this version of Taurine works with."""


class RecordError(TaurineError):
    """One job's record could not be changed as asked; nothing was changed."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class RecordNotFound(RecordError):
    """The ledger holds no job of this id."""


class DuplicateJob(RecordError):
    """A job of this id exists, and the caller asked for an error in that case."""


class IdempotencyConflict(RecordError):
    """The idempotency key was used before, for a request with other data."""


class QuotaExceeded(RecordError):
    """The tenant has as many unfinished jobs as it may, or has put in as many of late; nothing was stored.

    tenant, max_open, max_rate: whose quota, and what it allows: unfinished jobs, and jobs in a time. job_type: of that
    type, or None for all types together.
    retry_after: seconds after which there is room by the rate again; None where it is the unfinished jobs, which end
    when they end.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        job_id: str,
        tenant: str,
        max_open: int | None,
        job_type: str | None,
        max_rate: RateLimit | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id)
        self.tenant = tenant
        self.max_open = max_open
        self.max_rate = max_rate
        self.job_type = job_type
        self.retry_after = retry_after


class TransitionRefused(RecordError):
    """The job's status does not allow this change."""


class JobCancelled(RecordError):
    """The job that was waited for was cancelled; `reason` says why."""

    def __init__(self, reason: str, *, job_id: str) -> None:
        super().__init__(f"job {job_id!r} was cancelled: {reason}", job_id=job_id)
        self.reason = reason


class JobExpired(RecordError):
    """The job that was waited for expired before it ran."""


class AccessError(TaurineError):
    """The caller may not do this; nothing was done. A job that fails with it is not retried, and operators are alerted."""


class NotAuthorized(AccessError):
    """The caller has no right to this action."""


class Unauthenticated(AccessError):
    """Nobody knows who calls: there is no credential, or none that holds. HTTP says 401.

    challenge: what the answer's header WWW-Authenticate says; how a caller may say who it is.
    """

    def __init__(self, message: str, *, challenge: str = 'Bearer realm="taurine"') -> None:
        super().__init__(message)
        self.challenge = challenge


class TooManyTries(Unauthenticated):
    """Too many tries to log in of late, of this name or from this address; the password was not looked at.

    HTTP says 429. retry_after: seconds.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Forbidden(AccessError):
    """Who calls is known, and may not do this. HTTP says 403."""


class TenantMismatch(AccessError):
    """A job, or data that it names, belongs to another tenant."""


class JobIdUnusable(TenantMismatch, RecordError):
    """A job of another tenant has this id, or it is kept for a run of a schedule.

    Its words say no more than that the id cannot be used, since they may reach a user.

    Ids that have their tenant in them, as by `job_id="invite:{tenant_id}:{user}"`, cannot meet. HTTP says 409.
    """

    def __init__(self, job_id: str) -> None:
        RecordError.__init__(self, f"the job id {job_id!r} cannot be used here; choose another", job_id=job_id)


class EffectError(TaurineError):
    """A side effect that is to happen once was not started; `key` names it."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class EffectUnknown(EffectError):
    """An earlier attempt meant to do it and ended before it said whether it did.

    Look it up, and give `once` a `look_up` that does so.
    """


class EffectInProgress(EffectError):
    """Another attempt is doing it now; try again later."""

    retryable = True


class StoreError(TaurineError):
    """The Redis or Valkey server did not do what was asked."""


class StoreUnavailable(StoreError):
    """The server gave no answer in bounded time.

    A write may or may not have happened. Repeating an add with a job id, or any call that names a job, is safe.
    """

    retryable = True


class StoreRefused(StoreError):
    """The server answered with an error, for example out of memory or no permission; nothing was stored."""


class JobError(TaurineError):
    """One job could not be changed as asked; nothing was changed."""

    code: ClassVar[int | None] = None
    """The number that BullMQ's scripts use for the same case, or None where they have none."""

    def __init__(self, message: str, *, job_id: str, queue: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.queue = queue


class JobNotFound(JobError):
    """No job of this id is stored: it never was, or it was removed."""

    code = -1


class LeaseMissing(JobError):
    """The job is under no lease: it expired, or the job was not claimed."""

    code = -2


class NotInState(JobError):
    """The job is not in a state that this change needs.

    found: where it stood right after, "unknown" when it stood nowhere or that was not asked. allowed: the states in
    which it may be changed so.
    """

    code = -3

    def __init__(
        self, message: str, *, job_id: str, queue: str, found: str = "unknown", allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(message, job_id=job_id, queue=queue)
        self.found = found
        self.allowed = tuple(allowed)


class PendingChildren(JobError):
    """The job cannot complete while children of it are unfinished."""

    code = -4


class ParentNotFound(JobError):
    """The parent named for this job is not stored."""

    code = -5


class LeaseLost(JobError):
    """Another worker holds the job's lease: stop work, since the other run's result will be the one kept."""

    code = -6


class ParentNotReplaceable(JobError):
    """The job exists and belongs to another parent that is still stored."""

    code = -7


class BelongsToScheduler(JobError):
    """The job is the next run of a scheduler: remove the scheduler instead."""

    code = -8


class FailedChildren(JobError):
    """A child failed whose policy is to fail its parent."""

    code = -9


class CorruptJob(JobError):
    """Stored fields of the job cannot be decoded, or a key of it holds a value of another type; the message says which."""


class JobLocked(JobError):
    """The job, or a child of it, is being worked on and cannot be removed."""


class JobFailed(JobError):
    """The job that was waited for failed for good; `reason` is what it failed with."""

    def __init__(self, reason: str, *, job_id: str, queue: str) -> None:
        super().__init__(f"job {job_id!r} of queue {queue!r} failed: {reason}", job_id=job_id, queue=queue)
        self.reason = reason


class WaitTimeout(JobError, TimeoutError):
    """The job that was waited for did not end in time; it goes on."""

    retryable = True


class QueueError(TaurineError):
    """One queue could not be changed as asked; nothing was changed."""

    def __init__(self, message: str, *, queue: str) -> None:
        super().__init__(message)
        self.queue = queue


class QueueNotPaused(QueueError):
    """The queue must be paused first."""


class QueueBusy(QueueError):
    """The queue has active jobs; wait for them, or force."""


class SchedulerError(TaurineError):
    """One job scheduler could not be changed as asked; nothing was changed."""

    code: ClassVar[int | None] = None

    def __init__(self, message: str, *, scheduler_id: str, queue: str) -> None:
        super().__init__(message)
        self.scheduler_id = scheduler_id
        self.queue = queue


class SchedulerIdTaken(SchedulerError):
    """A job already stands under the id of the scheduler's next run."""

    code = -10


class SchedulerSlotsTaken(SchedulerError):
    """Jobs already stand under the ids of the scheduler's next 32 runs."""

    code = -11


class ScheduleNotFound(TaurineError):
    """No schedule of this id is declared, or stands in a queue of the application; the message has the near miss."""

    def __init__(self, message: str, *, schedule_id: str) -> None:
        super().__init__(message)
        self.schedule_id = schedule_id


class MoreThanExpected(TaurineError):
    """An operation on many jobs would reach more of them than its caller has seen; nothing was done.

    expected, found: how many the caller has seen, and how many there are.
    """

    def __init__(self, message: str, *, expected: int, found: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class StreamError(TaurineError):
    """A stream of changes is not begun, or ended early."""


class StreamDropped(StreamError):
    """The stream ended before what it is about: whoever listened was too slow, or nothing more can be told."""

    retryable = True


class StreamsFull(StreamError):
    """Too many listen in this process already, or too many of one caller."""

    retryable = True


class AttemptError(TaurineError):
    """An attempt ended otherwise than by its handler's own result or error."""


class TimeLimitExceeded(AttemptError, TimeoutError):
    """The attempt ran longer than its time limit and was stopped, or given up where it could not be stopped."""

    retryable = True

    def __init__(self, message: str, *, limit: float) -> None:
        super().__init__(message)
        self.limit = limit
        """Seconds."""


class HandlerExited(AttemptError):
    """The handler tried to end the process it ran in (`sys.exit`), or cancelled itself; the process goes on."""


class HandlerFailed(AttemptError):
    """The handler raised in a process of its own; the text is that of its error.

    type_name: the error's type, with its module unless it is a builtin. traceback: as text, from that process. verdict:
    how the error was classified there, as JSON, since its class may not exist here.
    """

    def __init__(self, message: str, *, type_name: str, traceback: str, verdict: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback = traceback
        self.verdict = verdict


class WorkerLost(AttemptError):
    """The worker that ran the attempt told no end of it: it died, or lost its lease. The job runs again, or is dead once
    that has happened too often.
    """

    retryable = True


class WorkerProcessDied(AttemptError):
    """The process that ran the handler died under it; others go on.

    signal: the number of the signal that killed it, or None. exit_code: what it exited with, or None where a signal
    killed it.
    """

    retryable = True

    def __init__(self, message: str, *, signal: int | None, exit_code: int | None) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code


class WorkerProcessNotStarted(AttemptError):
    """The process that was to run the handler did not start: it cannot import what it needs, or took too long.

    The message says which.
    """


class SupervisorGaveUp(TaurineError):
    """Worker processes ended right after their start, again and again; all were stopped.

    `exit_code` is how the last one ended.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class EmbeddedServerError(TaurineError):
    """The private Valkey server could not be started, or its directory is not safe."""


class HandlerSignal(TaurineError):
    """Raised by a handler to choose the outcome of its attempt."""


class Permanent(HandlerSignal):
    """Fail the job for good, whatever attempts remain."""


class _DelayedSignal(HandlerSignal):
    def __init__(self, delay: float | timedelta, message: str = "") -> None:
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        super().__init__(message or f"run again in {self.delay:g} s")


class RetryAfter(_DelayedSignal):
    """Fail this attempt and run again after `delay` seconds, if an attempt remains."""


class Snooze(_DelayedSignal):
    """Run again after `delay` seconds; no attempt is charged."""


class Release(HandlerSignal):
    """Put the job back in front of its queue; whoever is free runs it again. No attempt is charged."""


class RateLimited(_DelayedSignal):
    """Put the job back in front of its queue and start nothing on that queue for `delay` seconds.

    No attempt is charged.
    """


class WaitForChildren(HandlerSignal):
    """Run again when every child has ended; no attempt is charged."""


class Cancel(HandlerSignal):
    """Stop the job for good, on purpose; it is not retried."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The tail of an error message that names the nearest known word, or an empty string."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
