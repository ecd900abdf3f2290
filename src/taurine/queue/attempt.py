"""What becomes of an attempt: from a handler's result or error to the outcome that the turn script settles."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, TypeAlias

from taurine.clock import MAX_DELAY
from taurine.errors import (
    Cancel,
    CorruptJob,
    FailedChildren,
    HandlerSignal,
    Permanent,
    RateLimited,
    Release,
    RetryAfter,
    Snooze,
    WaitForChildren,
)
from taurine.options import Keep, require_count
from taurine.queue.job import Job
from taurine.queue.stored_options import JobOptions, keep_text, keep_to_wire
from taurine.queue.turn import Completed, Failed, Outcome, Released, RetryLater, RetryNow, Snoozed, WaitingForChildren
from taurine.queue.wire import encode_json, encode_text
from taurine.retry import Backoff, Custom

__all__ = ["AttemptPolicy", "BackoffStrategies", "BackoffStrategy", "Decided", "bounded_delay"]

log = logging.getLogger("taurine.queue")

BackoffStrategy: TypeAlias = Callable[[int, str, BaseException, Job], float]
"""Called with the attempts made, the back-off's type, the error and the job; returns seconds, 0 for at once, negative
to fail for good.
"""

BackoffStrategies: TypeAlias = BackoffStrategy | Mapping[str, BackoffStrategy]


class Decided(HandlerSignal):
    """Raised by a handler that knows already what is to become of an attempt that `error` ended.

    pause: seconds until the next attempt, 0 for at once; None when there is none, whatever attempts the job's own
    options allow.
    """

    def __init__(self, error: BaseException, pause: float | None) -> None:
        super().__init__(str(pause))
        self.error = error
        self.pause = pause


_PERMANENT = (Permanent, Cancel, CorruptJob, FailedChildren)
_TRACE_LIMIT = 16 * 1024

_PAUSE_UNKNOWN = 1.0
"""Seconds to pause when nobody can compute it: trying again at once would hammer whatever failed."""

_policy_text = lru_cache(maxsize=256)(keep_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """A worker's rules for attempts whose job does not say otherwise. Raises InvalidOption."""

    remove_on_complete: bool | int | Keep | None
    remove_on_fail: bool | int | Keep | None
    max_started_attempts: int | None
    backoff_strategy: BackoffStrategies | None
    random: Random

    def __post_init__(self) -> None:
        for name in ("remove_on_complete", "remove_on_fail"):
            if (keep := getattr(self, name)) is not None:
                keep_to_wire(keep, name)  # checked as a job's own would be
        if self.max_started_attempts is not None:
            require_count(self.max_started_attempts, "max_started_attempts", minimum=1)

    def completed(self, job: Job, result: Any) -> Outcome:
        """The outcome of a handler that returned `result`. Raises PayloadError for a result that JSON cannot hold."""
        keep = job.options.remove_on_complete
        return Completed(
            encode_json(result, "the result"), _policy_text(self.remove_on_complete if keep is None else keep)
        )

    def failed(self, job: Job, error: BaseException) -> Outcome:
        """The outcome of a handler that raised `error`."""
        if isinstance(error, Snooze):
            return Snoozed(_milliseconds(error.delay))
        if isinstance(error, RateLimited | Release):
            return Released()
        if isinstance(error, WaitForChildren):
            return WaitingForChildren()
        if isinstance(error, Decided):
            error, pause = error.error, error.pause
        else:
            pause = None if self._is_final(job, error) else self._pause(job, error)
        reason, stacktrace = describe(error), _stacktrace(job, error)
        if pause is None or pause < 0:
            return self.failed_for_good(job, reason, stacktrace)
        if pause == 0:
            return RetryNow(reason, stacktrace, job.options.lifo)
        return RetryLater(reason, stacktrace, _milliseconds(pause))

    def failed_for_good(self, job: Job, reason: str, stacktrace: str) -> Failed:
        keep = job.options.remove_on_fail
        policy = _policy_text(self.remove_on_fail if keep is None else keep)
        return Failed(reason, stacktrace, policy, job.options.attempts)

    def refusal(self, job: Job) -> BaseException | None:
        """Why a claimed job must be failed without running it, if it must."""
        if (corruption := job.corruption()) is not None:
            return corruption
        if job.deferred_failure is not None:
            return Permanent(job.deferred_failure)
        if self.max_started_attempts is not None and job.attempts_started > self.max_started_attempts:
            return Permanent(f"job started more than {self.max_started_attempts} times")
        return None

    def _is_final(self, job: Job, error: BaseException) -> bool:
        if isinstance(error, _PERMANENT) or job.attempts_made + 1 >= job.options.attempts:
            return True
        return self.max_started_attempts is not None and job.attempts_started >= self.max_started_attempts

    def _pause(self, job: Job, error: BaseException) -> float:
        if isinstance(error, RetryAfter):
            return bounded_delay(error.delay)
        backoff, attempts_made = job.options.backoff, job.attempts_made + 1
        if backoff is None:
            return 0.0
        return self._pause_of(backoff, attempts_made, job, error)

    def _pause_of(self, backoff: Backoff, attempts_made: int, job: Job, error: BaseException) -> float:
        if not isinstance(backoff, Custom):
            return backoff.pause(attempts_made, self.random)
        strategies = self.backoff_strategy
        strategy = strategies if strategies is None or callable(strategies) else strategies.get(backoff.type)
        if strategy is None:
            return _PAUSE_UNKNOWN
        try:
            return _finite(strategy(attempts_made, backoff.type, error, job))
        except Exception:
            log.exception("the back-off strategy for %r failed; the job pauses %g s", backoff.type, _PAUSE_UNKNOWN)
            return _PAUSE_UNKNOWN


def _finite(pause: object) -> float:
    """What a strategy returned, as seconds: it is untyped code of a caller, and may return anything.

    Raises ValueError, or OverflowError for a whole number that is too large.
    """
    if not isinstance(pause, (int, float)) or not math.isfinite(pause):
        raise ValueError(f"expected a finite number of seconds, got {pause!r:.80}")
    return float(pause)


def describe(error: BaseException) -> str:
    """One line on what happened: the error's text, or its type where it has none. Never raises."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a handler's error may do anything, raise SystemExit too
        text = "(its text cannot be had: __str__ raised)"
    return encode_text(text or type(error).__name__)


def _stacktrace(job: Job, error: BaseException) -> str:
    """The job's stored traces with this one appended, as JSON, within its limit."""
    options: JobOptions = job.options
    limit = options.stacktrace_limit
    if limit == 0:
        return "[]"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - as above
        trace = f"{type(error).__name__}: {describe(error)}"
    traces = [*job.stacktrace, encode_text(trace, limit=_TRACE_LIMIT)]
    return encode_json(traces[-limit:] if limit else traces, "the stack trace")


def bounded_delay(seconds: float) -> float:
    """A delay that a handler computed, from 0 to MAX_DELAY; NaN is 0. Its attempt must end, whatever it came up with."""
    return min(max(0.0, seconds), MAX_DELAY)


def _milliseconds(seconds: float) -> int:
    return round(bounded_delay(seconds) * 1000)
