"""A job: what was asked for, what became of it, and what may be done to it.

A Job is a snapshot of the job's hash at the time it was read, except for what its own methods change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from taurine.errors import CorruptJob
from taurine.ids import public_id
from taurine.options import Parent
from taurine.queue.adding import Added, NewJob
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import JobOptions, parse_options
from taurine.queue.wire import decode_json

__all__ = ["Job"]

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
    corrupt: str | None = None
    """What cannot be decoded of a stored job, and why; its other attributes hold what can."""
    name: str = ""
    data: Any = None
    priority: int = 0
    _opts_text: bytes | str = b"{}"
    _created_ms: float = 0
    _delay_ms: float = 0
    _parent_text: bytes | None = None
    _stacktrace_text: bytes | None = None

    def __init__(self, store: QueueStore, stored_id: str) -> None:
        self._store = store
        self.stored_id = stored_id
        """The id as it stands in the store; `id` is what callers gave."""

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
        if self._parent_text is None:
            return None
        link = decode_json(self._parent_text)
        prefix, _, queue = str(link["queueKey"]).rpartition(":")
        return Parent(public_id(str(link["id"])), queue, prefix)

    @classmethod
    def claimed(cls, store: QueueStore, raw_id: bytes, attempts_started: int, fields: Sequence[bytes], token: str) -> Job:
        """A job from the turn script's reply. Raises CorruptJob, naming the field, for one that cannot be decoded."""
        job = cls(store, raw_id.decode("utf-8", "replace"))
        pairs = iter(fields)
        job._fill(zip(pairs, pairs, strict=True))
        if job.corrupt is not None:
            raise CorruptJob(f"job {job.id!r} of queue {job.queue!r}: {job.corrupt}", job_id=job.id, queue=job.queue)
        job.attempts_started = attempts_started
        job.processed_at = store.clock.now()
        job.token = token
        return job

    @classmethod
    def added(cls, store: QueueStore, new: NewJob, added: Added) -> Job:
        """A job as it was just added, or, of a duplicate, as it was to be added."""
        job = cls(store, added.stored_id)
        job.name, job.data, job.priority = new.name, new.data, new.priority
        job._opts_text, job._created_ms, job._delay_ms = new.opts_text, new.timestamp, new.delay_ms
        job.duplicate = added.duplicate
        return job

    @classmethod
    def stored(cls, store: QueueStore, stored_id: str, fields: Mapping[bytes, bytes]) -> Job:
        """A job as its hash has it. Never raises for what the hash holds: see `corrupt`."""
        job = cls(store, stored_id)
        job._fill(fields.items())
        return job

    def _fill(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        values = self.__dict__
        for field, raw in fields:
            reader = _READERS.get(field)
            if reader is None:
                continue
            try:
                values[reader[0]] = reader[1](raw)
            except (ValueError, TypeError, RecursionError) as error:
                self.corrupt = self.corrupt or f"the stored {field.decode()} cannot be decoded: {error}"
        if not ("name" in values and "data" in values and "_opts_text" in values and "_created_ms" in values):
            self.corrupt = self.corrupt or "the stored name, data, opts or timestamp is missing"

    @property
    def cancelled(self) -> bool:
        """True when the running handler is to stop: it was cancelled, its lease is lost, or the worker stops."""
        return self.cancel_reason is not None

    def mark_cancelled(self, reason: str) -> None:
        """Set `cancel_reason`; for the worker that runs the job."""
        self.cancel_reason = reason

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} of {self.queue!r}>"


def _checked_options(raw: bytes) -> bytes:
    parse_options(raw)
    return raw


def _checked_list(raw: bytes) -> bytes:
    if not isinstance(decode_json(raw), list):
        raise ValueError("it is no list")
    return raw


def _seconds(raw: bytes) -> float:
    return float(raw) / 1000


def _whole(raw: bytes) -> int:
    return int(float(raw))


_READERS: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"name": ("name", bytes.decode),
    b"data": ("data", decode_json),
    b"opts": ("_opts_text", _checked_options),
    b"timestamp": ("_created_ms", float),
    b"delay": ("_delay_ms", float),
    b"priority": ("priority", _whole),
    b"ats": ("attempts_started", int),
    b"atm": ("attempts_made", int),
    b"stc": ("stalled_count", int),
    b"progress": ("progress", decode_json),
    b"returnvalue": ("result", decode_json),
    b"stacktrace": ("_stacktrace_text", _checked_list),
    b"failedReason": ("failed_reason", bytes.decode),
    b"processedOn": ("processed_at", _seconds),
    b"finishedOn": ("finished_at", _seconds),
    b"pb": ("processed_by", bytes.decode),
    b"defa": ("deferred_failure", bytes.decode),
    b"rjk": ("scheduler_id", bytes.decode),
    b"deid": ("deduplication_id", bytes.decode),
    b"parentKey": ("parent_key", bytes.decode),
    b"parent": ("_parent_text", bytes),
}
"""How each field of a job's hash is read: the attribute, and the decoder."""
