"""Typed options of jobs and queues.

Durations are seconds (`float`) or `timedelta` everywhere in Python. Milliseconds exist only on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, TypedDict

from taurine.clock import MAX_DELAY
from taurine.errors import InvalidOption
from taurine.retry import Backoff

__all__ = [
    "MAX_PRIORITY",
    "AddOptions",
    "ChildFailurePolicy",
    "Dedup",
    "JobTelemetry",
    "Keep",
    "Parent",
    "RateLimit",
    "Seconds",
    "require_count",
    "to_milliseconds",
    "to_seconds",
]

Seconds: TypeAlias = float | timedelta
"""A duration: seconds, or a timedelta."""

ChildFailurePolicy: TypeAlias = Literal["fail", "continue", "ignore", "remove"]
"""What a job's final failure does to its parent.

`fail` fails the parent too; `continue` starts it at once, other children pending or not; `ignore` records the reason
and lets it go on when no child is left; `remove` drops the link and records nothing.
"""

MAX_PRIORITY = 2_097_151
"""The largest priority (2^21 - 1): above it the score of the prioritized set would lose its tie-break bits."""


def to_seconds(value: Seconds, name: str, *, minimum: float = 0.0, maximum: float = MAX_DELAY) -> float:
    """`value` as seconds. Raises InvalidOption outside [minimum, maximum], for NaN and for a value that is no number."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected {name} to be seconds or a timedelta, got {type(value).__name__}")
    else:
        seconds = value
    if not minimum <= seconds <= maximum:  # of NaN too; a whole number may be above any float, and is not shown
        shown = f", got {seconds:g}" if isinstance(seconds, float) or abs(seconds) < 1 << 53 else ""
        raise InvalidOption(f"expected {name} to be from {minimum:g} to {maximum:g} seconds{shown}")
    return float(seconds)


def to_milliseconds(value: Seconds, name: str, *, minimum: float = 0.0, maximum: float = MAX_DELAY) -> int:
    """`value` as whole milliseconds, rounded to the nearest."""
    return round(to_seconds(value, name, minimum=minimum, maximum=maximum) * 1000)


def require_count(value: int, name: str, *, minimum: int) -> int:
    """`value`, a whole number from `minimum`. Raises InvalidOption for another."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected {name} to be a whole number from {minimum}, got {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Keep:
    """How many finished jobs a queue keeps, and for how long.

    count: keep at most this many of the newest. None: no limit by count. 0: remove each as it finishes.
    age: keep at most this long, in seconds or as a timedelta. None: no limit by age.
    limit: at most this many removals by age in one go. Default: 1000.

    Applied when another job of the queue finishes in the same way; nothing is removed from a queue at rest.
    """

    count: int | None = None
    age: Seconds | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            require_count(self.count, "Keep.count", minimum=0)
        if self.limit is not None:
            require_count(self.limit, "Keep.limit", minimum=1)
        if self.age is not None:
            to_seconds(self.age, "Keep.age")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max` job starts in each window of `duration` seconds, counted over all workers of the queue."""

    max: int
    duration: Seconds

    def __post_init__(self) -> None:
        require_count(self.max, "RateLimit.max", minimum=1)
        to_seconds(self.duration, "RateLimit.duration", minimum=0.001)


@dataclass(frozen=True, slots=True)
class Dedup:
    """One job per deduplication id.

    id: jobs with the same id are duplicates of each other.
    ttl: refuse duplicates for this long, whatever becomes of the first job. None: until the first job ends for good.
    extend: each refused duplicate starts the ttl anew. Default: False.
    replace: a duplicate replaces the first job as long as that one is delayed (debounce). Default: False.
    reschedule: a duplicate moves the due time of the delayed first job and drops its own data. Default: False.
    keep_last_if_active: while the first job runs, the newest duplicate is kept and runs after it; ttl is ignored.
    Default: False.
    """

    id: str
    ttl: Seconds | None = None
    extend: bool = False
    replace: bool = False
    reschedule: bool = False
    keep_last_if_active: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected Dedup.id to be a non-empty string, got {self.id!r}")
        if self.ttl is not None:
            to_seconds(self.ttl, "Dedup.ttl", minimum=0.001)


@dataclass(frozen=True, slots=True)
class Parent:
    """The job that waits for this one.

    id: the parent's job id. queue: the parent's queue name. prefix: its key prefix. Default: the child's.
    """

    id: str
    queue: str
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class JobTelemetry:
    """What a job says of its trace.

    metadata: the trace context that travels with it, opaque text, in place of that of the call that adds it. Default:
    the call's, where the queue has a telemetry.
    omit_context: nothing travels but what `metadata` says, and consumers begin a trace of their own. Default: False.
    """

    metadata: str | None = None
    omit_context: bool = False


class AddOptions(TypedDict, total=False):
    """Options of `Queue.add`. Each has its default when left out."""

    job_id: str
    """The job's id. An id that exists already is not added again. Default: a number that counts up."""
    delay: Seconds
    """Start this much later, in seconds. Default: 0."""
    priority: int
    """0 to 2097151; 0 is none and runs before all others, then lower numbers first. Default: 0."""
    attempts: int
    """Tries in all. Default: 1."""
    backoff: Backoff | Seconds
    """Pause before a further try; a number is a fixed pause in seconds. Default: none."""
    lifo: bool
    """Run before those that wait already. Default: False."""
    timestamp: float | datetime
    """Creation time, seconds since the epoch or an aware datetime; the delay counts from it. Default: now."""
    size_limit: int
    """Refuse data above this many bytes of JSON. Default: no limit."""
    keep_logs: int
    """Keep this many of the newest log lines. Default: all."""
    stacktrace_limit: int
    """Keep this many of the newest stack traces; 0 keeps none. Default: all."""
    remove_on_complete: bool | int | Keep
    """What is kept of completed jobs: True removes at once, False keeps all, a number keeps the newest. Default: the
    worker's.
    """
    remove_on_fail: bool | int | Keep
    """The same for failed jobs."""
    deduplication: Dedup | str
    """One job per deduplication id; a string is `Dedup(id=…)`. Default: none."""
    parent: Parent
    """The job that waits for this one. Default: none."""
    on_child_failure: ChildFailurePolicy
    """What this job's final failure does to its parent. Default: the parent waits on."""
    telemetry: JobTelemetry
    """Its trace context. Default: that of the call, where the queue has a telemetry."""
    application: str
    """JSON that the layer above keeps with the job; every consumer passes over it. Default: none."""
    replace_finished: bool | Literal["other"]
    """A completed or failed job of this id is removed as `remove` does, without its children, and this one added in its
    place; atomic. A job that has not ended is a duplicate all the same, unless it waits as an earlier generation of
    this one (see `application`). "other": only one of
    another creation time is replaced. Not together with `deduplication`. Default: False, any job of this id is a duplicate."""
