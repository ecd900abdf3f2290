"""A job: what was asked for, what became of it, and what may be done to it.

A Job is a snapshot of the job's hash at the time it was read, except for what its own methods change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taurine.errors import CorruptJob
from taurine.ids import public_id
from taurine.options import Parent
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import JobOptions, parse_options
from taurine.queue.wire import decode_json

__all__ = ["JOB_FIELDS", "Job"]

JOB_FIELDS = (
    "name", "data", "opts", "timestamp", "ats", "atm", "stc", "priority", "delay", "progress", "stacktrace",
    "parentKey", "parent", "rjk", "deid", "defa", "failedReason",
)  # fmt: skip
"""The hash fields of a claimed job, in the order of the turn script's JOB_FIELDS."""


class Job:
    """One job of a queue."""

    progress: Any = 0
    """What the handler last reported: a number, text, boolean, list or dict. 0 when nothing was reported."""
    result: Any = None
    """What the handler returned, decoded. None until the job has completed."""
    failed_reason: str | None = None
    """The last failed attempt's error; it stays on a job that completes later."""
    attempts_made: int = 0
    """Attempts that ended, with success or without."""
    attempts_started: int = 0
    """Times the job was claimed, attempts that a crash ended included."""
    stalled_count: int = 0
    """Times the job was put back since its worker was gone."""
    processed_at: float | None = None
    """Start of the latest attempt, wall seconds."""
    finished_at: float | None = None
    """When the job completed or failed for good, wall seconds."""
    processed_by: str | None = None
    """Name of the worker of the latest attempt, if it has one."""
    deferred_failure: str | None = None
    """Set when the job is to be failed, without running, as soon as a worker picks it up."""
    scheduler_id: str | None = None
    """The scheduler that made this job."""
    deduplication_id: str | None = None
    duplicate: bool = False
    """Only after an add: True when the job stood there already."""
    parent_key: str | None = None
    token: str | None = None
    """The lease's token, while the job is claimed by this process."""
    cancel_reason: str | None = None
    """Why the running handler is to stop, once it is."""
    lease_given_up: bool = False
    """True when a method of the running job has settled the attempt itself."""
    _stacktrace_text: bytes | None = None

    def __init__(
        self, store: QueueStore, stored_id: str, name: str, data: Any, opts_text: bytes | str, created_ms: float, delay_ms: float, priority: int
    ) -> None:
        self._store = store
        self.stored_id = stored_id
        self.name = name
        self.data = data
        self._opts_text = opts_text
        self._created_ms = created_ms
        self._delay_ms = delay_ms
        self.priority = priority

    @property
    def id(self) -> str:
        """The job's id as it was given, or its automatic number."""
        return public_id(self.stored_id)

    @property
    def queue(self) -> str:
        """The name of the job's queue."""
        return self._store.keys.name

    @property
    def options(self) -> JobOptions:
        """The options stored with the job."""
        return parse_options(self._opts_text)

    @property
    def created_at(self) -> float:
        """Creation time, wall seconds."""
        return self._created_ms / 1000

    @property
    def delay_seconds(self) -> float:
        """The delay that the job last had; 0 once it was due."""
        return self._delay_ms / 1000

    @property
    def stacktrace(self) -> Sequence[str]:
        """Stack traces of failed attempts, oldest first."""
        return decode_json(self._stacktrace_text) if self._stacktrace_text else []

    @property
    def parent(self) -> Parent | None:
        """The job that waits for this one."""
        if self.parent_key is None:
            return None
        # The prefix may hold colons and so may the id of a scheduler's run; the queue name may not.
        prefix, queue, stored = _split_job_key(self.parent_key)
        return Parent(public_id(stored), queue, prefix)

    @classmethod
    def claimed(cls, store: QueueStore, raw_id: bytes, fields: Sequence[Any], token: str) -> Job:
        """A job from the turn script's reply. Raises CorruptJob, naming the field, for one that cannot be decoded."""
        name, data, opts, timestamp, started, made, stalled, priority, delay, progress, stacktrace = fields[:11]
        stored_id = raw_id.decode("utf-8", "replace")
        field = "name"
        try:
            decoded_name = name.decode()
            field = "data"
            decoded_data = decode_json(data)
            field = "opts"
            parse_options(opts)
            field = "timestamp"
            job = cls(store, stored_id, decoded_name, decoded_data, opts, float(timestamp), 0, int(priority or 0))
            job.token = token
            job.attempts_started = int(started)
            job.processed_at = store.clock.now()
            field = "atm"
            if made is not None:
                job.attempts_made = int(made)
            field = "stc"
            if stalled is not None:
                job.stalled_count = int(stalled)
            field = "progress"
            if progress is not None:
                job.progress = decode_json(progress)
            if stacktrace is not None:
                job._stacktrace_text = stacktrace
            if any(fields[11:]):
                job._take_rest(fields)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptJob(
                f"the stored {field} of job {public_id(stored_id)!r} cannot be decoded: {error}",
                job_id=public_id(stored_id),
                queue=store.keys.name,
            ) from None
        return job

    def _take_rest(self, fields: Sequence[Any]) -> None:
        parent_key, _, scheduler_id, dedup_id, deferred, failed_reason = fields[11:17]
        self.parent_key = _text(parent_key)
        self.scheduler_id = _text(scheduler_id)
        self.deduplication_id = _text(dedup_id)
        self.deferred_failure = _text(deferred)
        self.failed_reason = _text(failed_reason)

    @property
    def cancelled(self) -> bool:
        """True when the running handler is to stop: it was cancelled, its lease is lost, or the worker stops."""
        return self.cancel_reason is not None

    def mark_cancelled(self, reason: str) -> None:
        """Set `cancel_reason`; for the worker that runs the job."""
        self.cancel_reason = reason

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} of {self.queue!r}>"


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _split_job_key(key: str) -> tuple[str, str, str]:
    """(prefix, queue, stored id) of a job's key, taking the shortest prefix when colons leave a choice."""
    parts = key.split(":")
    if len(parts) >= 4 and "repeat" in parts[2:]:
        at = parts.index("repeat", 2)
        return ":".join(parts[: at - 1]), parts[at - 1], ":".join(parts[at:])
    return ":".join(parts[:-2]), parts[-2], parts[-1]
