"""The rules of a job type, as they are declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from taurine.errors import InvalidOption, did_you_mean
from taurine.ids import check_queue_name
from taurine.jobs.catalog.identity import JobId
from taurine.jobs.catalog.payloads import MAX_BYTES
from taurine.jobs.executors.choosing import ExecutorKind, check_kind
from taurine.options import MAX_PRIORITY, Keep, Seconds, require_count, to_seconds
from taurine.retry import Retry

__all__ = ["JobOptions", "JobTypeOptions", "RecurringOptions", "not_a_retry"]

_DEFAULT_RETRY = Retry()
_KEEP_COMPLETED = Keep(count=1000, age=24 * 3600.0)
_KEEP_FAILED = Keep(count=5000, age=7 * 86_400.0)


class JobTypeOptions(TypedDict, total=False):
    """Options of `Taurine.job` and `Taurine.declare`. Each has its default when left out."""

    queue: str
    """Where its jobs go. Default: the application's `default_queue`."""
    job_id: JobId
    """Which enqueues are the same job: a template of the payload, OncePer, or EVERY_TIME. Default: each is a job of its
    own.
    """
    tenant: str
    """Whose job it is, as a template of the payload: "{tenant_id}". Default: what the enqueue says."""
    retry: Retry
    """Attempts and back-off. Default: 3 attempts, exponential from 1 s, with jitter."""
    timeout: Seconds | None
    """Seconds that an attempt may take. Default: no limit."""
    runs_in: ExecutorKind | None
    """"loop", "thread" or "process" (which can be killed). Default: the loop for async functions, a thread for others."""
    priority: int
    """0 runs before all others, then lower numbers first. Default: 0."""
    expires_in: Seconds | None
    """Seconds that a job may wait for its start, from the time that it was to start at; then it expires. Default: no
    limit.
    """
    keep_completed: bool | int | Keep
    """What the queue keeps of completed jobs: True for all of them, False for none, a number for the newest, or a Keep.
    Default: 24 h and 1,000.
    """
    keep_failed: bool | int | Keep
    """What the queue keeps of failed jobs, in the same way. Default: 7 days and 5,000."""
    keep_records: Seconds | Literal[True] | None
    """How long the ledger keeps records after their end, in seconds; True for ever. Default: as the workers'
    RetentionPolicy says, 30 days.
    """
    keep_keys: Seconds
    """How long an idempotency key stands for its request, in seconds. Default: 24 h."""
    max_bytes: int
    """The most bytes of JSON that a payload or a result may have. Default: 1 MiB."""
    description: str
    """What it is for, for dashboards. Default: none."""


class RecurringOptions(JobTypeOptions, total=False):
    """Those, and a schedule of the type's own. The payload then needs a default for each of its fields."""

    every: Seconds
    """Seconds from one tick to the next, counted from the start of 1970, UTC. Default: no schedule."""
    id: str
    """What the schedule is called for ever; only with `every`. Default: the job type's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The rules of one job type, checked; RecurringOptions explains each. Raises InvalidOption or InvalidName."""

    queue: str = "jobs"
    job_id: JobId = None
    tenant: str | None = None
    retry: Retry = _DEFAULT_RETRY
    timeout: Seconds | None = None
    runs_in: ExecutorKind | None = None
    priority: int = 0
    expires_in: Seconds | None = None
    keep_completed: bool | int | Keep = _KEEP_COMPLETED
    keep_failed: bool | int | Keep = _KEEP_FAILED
    keep_records: Seconds | Literal[True] | None = None
    keep_keys: Seconds = 86_400.0
    max_bytes: int = MAX_BYTES
    description: str = ""
    every: Seconds | None = None
    id: str | None = None

    @classmethod
    def made(cls, given: JobTypeOptions | RecurringOptions, *, default_queue: str) -> JobOptions:
        """The rules from what a caller gave. Raises InvalidOption for an option that is not known, with the near miss."""
        known = list(RecurringOptions.__annotations__)
        for name in given:
            if name not in known:
                raise InvalidOption(f"unknown option {name!r} of a job type{did_you_mean(name, known)}")
        chosen: dict[str, Any] = {"queue": default_queue, **given}
        return cls(**chosen)

    def __post_init__(self) -> None:
        check_queue_name(self.queue)
        check_kind(self.runs_in)
        if self.timeout is not None:
            to_seconds(self.timeout, "timeout", minimum=0.001)
        if self.expires_in is not None:
            to_seconds(self.expires_in, "expires_in", minimum=0.001)
        for name in ("keep_completed", "keep_failed"):
            # Here: the queue would refuse it when the job is accepted already.
            if not isinstance(getattr(self, name), bool | Keep):
                require_count(getattr(self, name), name, minimum=0)
        if self.keep_records is not None and self.keep_records is not True:
            to_seconds(self.keep_records, "keep_records")
        to_seconds(self.keep_keys, "keep_keys", minimum=0.001)
        if self.id is not None and self.every is None:
            raise InvalidOption(
                f"id={self.id!r:.80} names the schedule of `every`, which is not given; a job's own id is job_id"
            )
        require_count(self.max_bytes, "max_bytes", minimum=1)
        if not isinstance(self.retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(not_a_retry(self.retry))
        if require_count(self.priority, "priority", minimum=0) > MAX_PRIORITY:
            raise InvalidOption(f"expected priority to be at most {MAX_PRIORITY}, got {self.priority}")


def not_a_retry(given: object) -> str:
    """What is said of a `retry` that is none, with the way to write what was most likely meant."""
    meant = f"; write Retry(attempts={given})" if type(given) is int and given > 0 else ""
    return f"expected retry to be a Retry, got {type(given).__name__}{meant}"
