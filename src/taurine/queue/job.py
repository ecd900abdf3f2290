"""A job: what was asked for, what became of it, and what may be done to it.

A Job is a snapshot of the job's hash at the time it was read, except for what its own methods change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, NoReturn, cast

from taurine.errors import (
    CorruptJob,
    InvalidOption,
    JobFailed,
    NotInState,
    PayloadTooLarge,
    Release,
    Snooze,
    WaitForChildren,
    WaitTimeout,
)
from taurine.ids import public_id
from taurine.options import MAX_PRIORITY, JobTelemetry, Parent, Seconds, to_milliseconds, to_seconds
from taurine.queue import administration, changes, children, endings
from taurine.queue.adding import Added, NewJob
from taurine.queue.children import Dependencies, DependencyCounts
from taurine.queue.states import FinishedState, JobState, find_state, not_in_state
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import JobOptions, parse_options, telemetry_in
from taurine.queue.turn import Turn, TurnReply, WaitingForChildren
from taurine.queue.wire import decode_json, encode_json
from taurine.telemetry import Span

__all__ = ["Job"]

_NOT_STORED, _NO_LEASE, _LEASE_LOST = -1, -2, -6
"""The scripts' codes, for what is found out without one."""


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
    on_progress: Callable[[Job, Any], None] | None = None
    """Told of each progress that this object recorded; for the worker that runs the job."""
    lease_given_up: bool = False
    """True when a method of the running job has settled the attempt itself."""
    span: Span | None = None
    """The attempt that runs here, as the worker's telemetry is told of it; None without one."""
    failed_trace: str | None = None
    """The trace context of the latest attempt that failed, if its worker had a telemetry."""
    corrupt: str | None = None
    """What cannot be decoded of a stored job, and why; its other attributes hold what can."""
    name: str = ""
    _data: tuple[Any, bytes | None] = (None, None)
    priority: int = 0
    _opts: tuple[bytes | str, JobOptions | None] = (b"{}", None)
    """The stored text, and what it says once that was asked for."""
    _created_ms: float = 0
    _delay_ms: float = 0
    _parent_text: bytes | str | None = None
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
    def data(self) -> Any:
        """What the job was added with, decoded."""
        return self._data[0]

    @data.setter
    def data(self, value: Any) -> None:
        self._data = (value, None)

    @property
    def data_json(self) -> str | bytes:
        """The data as JSON: as it is stored, for a job that was read."""
        value, text = self._data
        return encode_json(value) if text is None else text

    @property
    def options(self) -> JobOptions:
        """The options stored with the job."""
        text, options = self._opts
        if options is None:
            options = parse_options(text)
            self._opts = (text, options)
        return options

    @property
    def options_json(self) -> str | bytes:
        """The options as JSON, as they are stored."""
        return self._opts[0]

    @property
    def telemetry(self) -> JobTelemetry | None:
        """What the job says of its trace, as whoever added it has left it."""
        return telemetry_in(self._opts[0])

    def stored_options(self) -> dict[str, Any]:
        """The options as they stand in the job's hash, members unknown to Taurine included."""
        return decode_json(self._opts[0])

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
    def claimed(
        cls,
        store: QueueStore,
        raw_id: bytes,
        attempts_started: int,
        fields: Iterable[tuple[bytes, bytes]],
        token: str,
    ) -> Job:
        """A job from the turn script's reply. Never raises for what its hash holds: see `corrupt`."""
        job = cls(store, raw_id.decode("utf-8", "replace"))
        job._fill(fields)
        job.attempts_started = attempts_started
        job.processed_at = store.clock.now()
        job.token = token
        return job

    @classmethod
    def new(cls, store: QueueStore, new: NewJob) -> Job:
        """A job that is on its way to the store; `place` gives it its id."""
        job = cls(store, new.stored_id)
        job.name, job.data, job.priority = new.name, new.data, new.priority
        job._opts, job._created_ms, job._delay_ms = (new.opts_text, None), new.timestamp, new.delay_ms
        if new.extras:
            extras = decode_json(new.extras)
            job.parent_key, job._parent_text = extras.get("parentKey"), extras.get("parent")
            job.deduplication_id = extras.get("dedup", {}).get("id")
        return job

    def place(self, added: Added) -> Job:
        """This job as it was added; of a duplicate, under the id of the job in its way."""
        self.stored_id, self.duplicate = added
        return self

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
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                self.corrupt = self.corrupt or f"the stored {field.decode()} cannot be decoded: {error}"
        if not ("name" in values and "_data" in values and "_opts" in values and "_created_ms" in values):
            self.corrupt = self.corrupt or "the stored name, data, opts or timestamp is missing"

    # What it says about itself --------------------------------------------------------------------------------------------------

    async def update_progress(self, value: Any) -> None:
        """Record how far the job is: anything that JSON holds. Everyone who listens to the queue is told.

        While the job runs here, a call after its lease was lost changes nothing and raises.
        Raises PayloadError, JobNotFound, LeaseMissing, LeaseLost, StoreUnavailable.
        """
        await changes.update_progress(self._store, self.stored_id, value, self._fence)
        self.progress = value
        if self.on_progress is not None:
            self.on_progress(self, value)

    async def update_data(self, data: Any) -> None:
        """Replace the job's data, in whatever state it is; a running handler elsewhere keeps what it has.

        Raises PayloadError, PayloadTooLarge (the job's own size_limit), JobNotFound, LeaseMissing, LeaseLost,
        StoreUnavailable.
        """
        text = encode_json({} if data is None else data)
        limit = self.options.size_limit
        if limit is not None and (size := len(text.encode())) > limit:
            raise PayloadTooLarge(f"job data is {size} bytes of JSON, above the size_limit of {limit}")
        await changes.change(self._store, "update_data", self.stored_id, text, *self._fence.arguments())
        self.data = {} if data is None else data

    async def log(self, line: str) -> int:
        """Append a line to the job's log and return how many it has now; `keep_logs` of the job is how many it may
        have.

        Raises JobNotFound, LeaseMissing, LeaseLost, StoreUnavailable.
        """
        return await changes.add_log(self._store, self.stored_id, line, self.options.keep_logs, self._fence)

    async def logs(self, start: int = 0, end: int = -1, *, ascending: bool = True) -> list[str]:
        """Lines of the job's log from `start` to `end`, both included, counted from 0; -1 is the last.

        ascending: oldest first; False counts and lists from the newest. Default: True. A job without a log has no
        lines.
        """
        key = self._store.keys.logs(self.stored_id)
        first, last = (start, end) if ascending else (-(end + 1), -(start + 1))
        lines: list[bytes] = await self._store.connection.call("LRANGE", key, first, last)
        texts = [line.decode("utf-8", "replace") for line in lines]
        return texts if ascending else texts[::-1]

    async def clear_logs(self, keep: int = 0) -> None:
        """Cut the job's log to its newest `keep` lines. Default: 0, none. Raises InvalidOption for a negative number."""
        if keep < 0:
            raise InvalidOption(f"expected keep to be a whole number from 0, got {keep!r}")
        key = self._store.keys.logs(self.stored_id)
        if keep:
            await self._store.connection.call("LTRIM", key, -keep, -1)
        else:
            await self._store.connection.call("DEL", key)

    # What may be done to it -----------------------------------------------------------------------------------------------------

    async def wait(self, timeout: Seconds | None = None) -> Any:
        """Wait until the job has ended and return its result, whoever runs it, here or on Node.

        timeout: seconds. Default: no limit. Any number of waits on one queue share one connection. A job that is
        removed as it ends is waited for too, as long as the event stream still tells of its end.
        What the end has changed is changed here too, if the job is still stored: `result`, `failed_reason`,
        `stacktrace`, `finished_at`, `attempts_made` and the other facts of its runs.
        Raises JobFailed with the reason, WaitTimeout, JobNotFound for a job that is not stored and left no trace, or
        was removed meanwhile, CorruptJob for a result that is no JSON, and StoreUnavailable when the server cannot be
        asked at first; later outages are waited out.
        """
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        ending, facts = await endings.ending_of(self._store, self.stored_id, seconds)
        if ending is None:
            raise WaitTimeout(
                f"job {self.id!r} of queue {self.queue!r} did not end within {seconds:g} s; it goes on",
                job_id=self.id,
                queue=self.queue,
            )
        if isinstance(ending, endings.Gone):
            raise self._store.error(_NOT_STORED, self.stored_id)
        self._fill(facts)
        if isinstance(ending, endings.Failed):
            self.failed_reason = ending.reason.decode("utf-8", "replace")
            raise JobFailed(self.failed_reason, job_id=self.id, queue=self.queue)
        try:
            self.result = decode_json(ending.result)
        except (ValueError, RecursionError) as error:
            raise CorruptJob(
                f"the result of job {self.id!r} of queue {self.queue!r} cannot be decoded: {error}",
                job_id=self.id,
                queue=self.queue,
            ) from None
        return self.result

    async def state(self) -> JobState | Literal["unknown"]:
        """Where the job stands now; "unknown" when it is not stored."""
        return await find_state(self._store, self.stored_id)

    async def remove(self, *, children: bool = True) -> bool:
        """Remove the job and all that belongs to it; False when it is not stored. Atomic.

        A parent that waits for it no longer does.

        children: remove its children too, and theirs. Default: True.
        Raises JobLocked when it or one of them is being worked on, BelongsToScheduler for the next run of a scheduler,
        StoreUnavailable.
        """
        return await administration.remove(self._store, (self.stored_id,), children=children)

    async def retry(
        self,
        state: FinishedState = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """Put a finished job back in line; a parent that still stands waits for it again. Atomic.

        state: the one it must be in. Default: "failed". reset_attempts_made: give it all its attempts again. Default:
        False, so a job that has used them up fails for good at its next error. reset_attempts_started: the same for
        `max_started_attempts`. Default: False.
        Raises JobNotFound, NotInState, InvalidOption, StoreUnavailable.
        """
        if state not in ("failed", "completed"):
            raise InvalidOption(f"expected state to be 'failed' or 'completed', got {state!r}")
        flags = [_flag(self.options.lifo), _flag(reset_attempts_made), _flag(reset_attempts_started)]
        await changes.change_in_state(
            self._store, "retry_job", self.stored_id, state, *flags, allowed=state, change_name="retried"
        )
        self.finished_at = self.processed_at = None
        if state == "failed":
            self.failed_reason = None
        else:
            self.result = None
        if reset_attempts_made:
            self.attempts_made = 0
        if reset_attempts_started:
            self.attempts_started = 0

    async def promote(self) -> None:
        """Let a delayed job run now. Raises JobNotFound, NotInState (it is not delayed), StoreUnavailable."""
        await changes.change_in_state(self._store, "promote", self.stored_id, allowed="delayed", change_name="promoted")
        self._delay_ms = 0

    async def change_delay(self, delay: Seconds) -> None:
        """Let a delayed job run `delay` seconds from now.

        Raises InvalidOption, JobNotFound, NotInState (it is not delayed), StoreUnavailable.
        """
        delay_ms = to_milliseconds(delay, "delay")
        now_ms = self._store.now_ms()
        await changes.change_in_state(
            self._store, "change_delay", self.stored_id, now_ms, delay_ms, allowed="delayed", change_name="delayed anew"
        )
        self._delay_ms = delay_ms

    async def change_priority(self, priority: int, *, lifo: bool = False) -> None:
        """Give the job another priority, 0 to 2097151, and the place in line that goes with it. Atomic.

        lifo: the first of its priority rather than the last. Default: False. A job that is not in line gets its place
        when it is.
        Raises InvalidOption, JobNotFound, StoreUnavailable.
        """
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(
                f"expected priority to be a whole number from 0 to {MAX_PRIORITY}, got {priority!r:.40}"
            )
        await changes.change(self._store, "change_priority", self.stored_id, priority, _flag(lifo))
        self.priority = priority

    async def remove_deduplication_key(self) -> bool:
        """Let the job's deduplication id be taken again while the job goes on; False when the job does not hold it.

        A job that was kept to follow this one still does.
        """
        dedup_id = self.deduplication_id
        if dedup_id is None:
            dedup = self.options.deduplication
            if dedup is None:
                return False
            dedup_id = dedup.id
        return bool(await self._store.run("release_deduplication", dedup_id, self.stored_id))

    # Its children ---------------------------------------------------------------------------------------------------------------

    async def children_values(self) -> dict[str, Any]:
        """The results of all children that have completed, by child key (`<prefix>:<queue>:<id>`).

        Raises CorruptJob for one that is no JSON.
        """
        return await children.children_values(self._store, self.stored_id)

    async def dependencies(self, *, cursor: str | None = None, limit: int = 1000) -> Dependencies:
        """One page of the job's children: results, who is awaited, and who failed.

        cursor: the page before this one has it. Default: the first page. limit: about how many of each part to read.
        Raises InvalidOption for a cursor that no page has given, CorruptJob for a result that is no JSON.
        """
        return await children.read_dependencies(self._store, self.stored_id, cursor=cursor, limit=limit)

    async def dependency_counts(self) -> DependencyCounts:
        """How many children the job has in each part of `dependencies`."""
        return await children.count_dependencies(self._store, self.stored_id)

    # From inside its handler ----------------------------------------------------------------------------------------------------

    def delay(self, seconds: Seconds) -> NoReturn:
        """Leave the handler and run again after `seconds`; no attempt is charged.

        Raises Snooze, which the handler must let pass.
        """
        raise Snooze(to_seconds(seconds, "seconds"))

    def release(self) -> NoReturn:
        """Leave the handler and run again as soon as a worker is free, before other jobs; no attempt is charged.

        Raises Release, which the handler must let pass.
        """
        raise Release("the job put itself back in line")

    async def wait_for_children(self) -> None:
        """Leave the handler and run again when every child has ended; no attempt is charged.

        Returns when no child is pending.

        Raises WaitForChildren, which the handler must let pass: the job is no longer this worker's then. Raises
        FailedChildren when a child failed whose policy is to fail its parent, and JobNotFound, LeaseMissing, LeaseLost,
        NotInState.
        """
        if self.token is None:
            raise self._store.error(_NO_LEASE, self.stored_id)
        attempts = [(self.stored_id, self.token, WaitingForChildren())]
        turn = Turn(self._store.now_ms(), self.token, lease_ms=1, want=0, attempts=attempts)
        code = TurnReply.read(await self._store.run("turn", *turn.arguments())).codes[0]
        if code == NotInState.code:
            raise await not_in_state(self._store, self.stored_id, ("active",), "made to wait for its children")
        if code < 0:
            raise self._store.error(code, self.stored_id)
        if code == 0:
            self.lease_given_up = True
            raise WaitForChildren("the job waits for its children")

    async def extend_lease(self, duration: Seconds) -> None:
        """Make the running job's lease end `duration` seconds from now; its worker goes on renewing it.

        For a handler that is about to block the event loop. Raises LeaseMissing when the job does not run here,
        LeaseLost when another worker has it.
        """
        if self.token is None:
            raise self._store.error(_NO_LEASE, self.stored_id)
        lease_ms = to_milliseconds(duration, "duration", minimum=0.001)
        kept: list[int] = await self._store.run("renew", lease_ms, self.stored_id, self.token, self.attempts_started)
        if not kept[0]:
            raise self._store.error(_LEASE_LOST, self.stored_id)

    @property
    def _fence(self) -> changes.Fence:
        return changes.NO_FENCE if self.token is None else changes.Fence(self.token, self.attempts_started)

    @property
    def cancelled(self) -> bool:
        """True when the running handler is to stop: it was cancelled, its lease is lost, or the worker stops."""
        return self.cancel_reason is not None

    def corruption(self) -> CorruptJob | None:
        """What is corrupt about the job as an error, which fails it; None for a sound one."""
        if self.corrupt is None:
            return None
        return CorruptJob(f"job {self.id!r} of queue {self.queue!r}: {self.corrupt}", job_id=self.id, queue=self.queue)

    def mark_cancelled(self, reason: str) -> None:
        """Set `cancel_reason`; for the worker that runs the job."""
        self.cancel_reason = reason

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} of {self.queue!r}>"


def _flag(value: bool) -> str:
    return "1" if value else ""


def _options_with_text(raw: bytes) -> tuple[bytes, JobOptions]:
    return raw, parse_options(raw)


def _checked_list(raw: bytes) -> bytes:
    if not isinstance(decode_json(raw), list):
        raise ValueError("it is no list")
    return raw


def _checked_link(raw: bytes) -> bytes:
    link = decode_json(raw)
    if not isinstance(link, dict):
        raise ValueError("it names no job")
    members = cast("dict[str, Any]", link)
    if not isinstance(members.get("queueKey"), str) or not isinstance(members.get("id"), str | int):
        raise ValueError("it names no job")
    return raw


def _milliseconds(raw: bytes) -> float:
    value = float(raw)
    if not isfinite(value):
        raise ValueError("it is no time")
    return value


def _seconds(raw: bytes) -> float:
    return _milliseconds(raw) / 1000


def _whole(raw: bytes) -> int:
    return int(float(raw))


def _data_with_text(raw: bytes) -> tuple[Any, bytes | None]:
    return decode_json(raw), raw


_READERS: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"name": ("name", bytes.decode),
    b"data": ("_data", _data_with_text),
    b"opts": ("_opts", _options_with_text),
    b"timestamp": ("_created_ms", _milliseconds),
    b"delay": ("_delay_ms", _milliseconds),
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
    b"tm": ("failed_trace", lambda raw: raw.decode("utf-8", "replace")),
    b"rjk": ("scheduler_id", bytes.decode),
    b"deid": ("deduplication_id", bytes.decode),
    b"parentKey": ("parent_key", bytes.decode),
    b"parent": ("_parent_text", _checked_link),
}
"""How each field of a job's hash is read: the attribute, and the decoder."""
