"""Every error that Taurine raises, in one tree.

TaurineError
├── InvalidOption (ValueError)          an argument or setting is out of its range
│   └── InvalidName                     a queue name, prefix or job id that cannot be stored
├── PayloadError (ValueError)           job data that cannot be stored as JSON
│   └── PayloadTooLarge                 job data above its size limit
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
├── EmbeddedServerError                 the private Valkey server could not be started or used safely
└── HandlerSignal                       raised by a handler to choose the outcome of its attempt
    ├── Permanent                       fail for good, whatever attempts remain
    ├── RetryAfter                      fail this attempt, run again after a delay
    ├── Snooze                          run again after a delay, no attempt charged
    ├── Release                         run again as soon as possible, no attempt charged
    ├── RateLimited                     run again when the limit allows, no attempt charged
    ├── WaitForChildren                 run again when all children have ended, no attempt charged
    └── Cancel                          stop for good, on purpose
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

__all__ = [
    "BelongsToScheduler",
    "Cancel",
    "CorruptJob",
    "EmbeddedServerError",
    "FailedChildren",
    "HandlerSignal",
    "InvalidName",
    "InvalidOption",
    "JobError",
    "JobFailed",
    "JobLocked",
    "JobNotFound",
    "LeaseLost",
    "LeaseMissing",
    "NotInState",
    "ParentNotFound",
    "ParentNotReplaceable",
    "PayloadError",
    "PayloadTooLarge",
    "PendingChildren",
    "Permanent",
    "QueueBusy",
    "QueueError",
    "QueueNotPaused",
    "RateLimited",
    "Release",
    "RetryAfter",
    "SchedulerError",
    "SchedulerIdTaken",
    "SchedulerSlotsTaken",
    "Snooze",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TaurineError",
    "WaitForChildren",
    "WaitTimeout",
]


class TaurineError(Exception):
    """Base of every error that Taurine raises."""

    retryable: ClassVar[bool] = False
    """True when the same call may be repeated later and is expected to work."""


class InvalidOption(TaurineError, ValueError):
    """An argument or a setting is out of its range; nothing was stored."""


class InvalidName(InvalidOption):
    """A queue name, key prefix or job id that cannot be stored safely; nothing was stored."""


class PayloadError(TaurineError, ValueError):
    """Job data, a result or a progress value that cannot be stored as JSON; nothing was stored."""


class PayloadTooLarge(PayloadError):
    """Job data above its size limit; nothing was stored."""


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
    """The job is not in the state that this change needs."""

    code = -3


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
