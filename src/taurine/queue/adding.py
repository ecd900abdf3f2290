"""Adding jobs: many callers, few script calls.

Concurrent `add` calls of one process join by themselves: the first starts a flush at the next turn of the event loop,
and whatever came meanwhile goes with it. While one batch is at the server the next is already being sent, so neither
side waits for the other. Order is kept, and each caller gets the outcome of its own job.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from taurine.errors import InvalidName, PayloadTooLarge, StoreError
from taurine.ids import run_of, wire_id
from taurine.queue.connection import Link
from taurine.queue.scripts import Argument, load
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import APPLICATION_MEMBER, Plan, plan, telemetry_to_wire, timestamp_ms
from taurine.queue.wire import encode_json, require_encodable

__all__ = ["Added", "Adder", "NewJob", "meaning_of_many", "new_job"]

ATOMIC_BATCH = 1000
"""Jobs that one script call adds at most; a list up to this long is added whole or not at all."""

_JOINED_BATCH = 125
"""Concurrent adds per script call: large enough to share its cost, small enough that sending one overlaps with running
another.
"""

_IN_FLIGHT = 8
"""Batches on their way at once: enough to keep the server busy, few enough to bound what is unanswered when a link
breaks.
"""


_OF_ONE_JOB = frozenset({"job_id", "telemetry", "timestamp", "application"})
"""Options that say nothing about other jobs."""


@dataclass(slots=True)
class NewJob:
    """A job that is ready to be sent: checked, encoded, and not yet stored."""

    stored_id: str
    name: str
    data: Any
    data_text: str
    opts_text: str
    timestamp: int
    delay_ms: int
    priority: int
    extras: str

    def arguments(self) -> tuple[Argument, ...]:
        return (
            self.stored_id,
            self.name,
            self.data_text,
            self.opts_text,
            self.timestamp,
            self.delay_ms,
            self.priority,
            self.extras,
        )


class Added(NamedTuple):
    """What the server made of a NewJob."""

    stored_id: str
    duplicate: bool
    """True when another job stood in its way, by id or by deduplication; `stored_id` is that job's."""


def new_job(store: QueueStore, name: str, data: Any, options: Mapping[str, Any], meaning: Plan | None = None) -> NewJob:
    """Check and encode one job. Raises InvalidOption, InvalidName or PayloadError; nothing is stored.

    meaning: what `options` mean apart from the job's own id, time and application data, where the caller has worked it
    out before.
    """
    if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidName(f"expected a job name, got {name!r:.80}")
    require_encodable(name, "the job name")
    job_id: str | None = None
    created: float | datetime | None = None
    application: str | None = None
    traced: dict[str, Any] = {}
    if not options.keys().isdisjoint(_OF_ONE_JOB):
        options = dict(options)
        job_id, created = options.pop("job_id", None), options.pop("timestamp", None)
        application = options.pop("application", None)
        traced = telemetry_to_wire(options.pop("telemetry", None))
    meaning = meaning or plan(options, prefix=store.keys.prefix)
    data_text = encode_json({} if data is None else data)
    if meaning.size_limit is not None and (size := len(data_text.encode())) > meaning.size_limit:
        raise PayloadTooLarge(f"job data is {size} bytes of JSON, above the size_limit of {meaning.size_limit}")

    stored_id = "" if job_id is None else _stored_id(job_id, of_layer_above=application is not None)
    members = meaning.members
    if job_id is not None:
        members = _with_member(members, f'"jobId":{encode_json(stored_id)}')
    if traced:
        members = _with_member(members, encode_json(traced)[1:-1])
    timestamp = store.now_ms()
    if created is not None:
        timestamp = timestamp_ms(created)
        members = _with_member(members, f'"timestamp":{timestamp}')
    if application is not None:
        members = _with_member(members, f'"{APPLICATION_MEMBER}":{application}')
    return NewJob(
        stored_id,
        name,
        data,
        data_text,
        f"{{{members}}}",
        timestamp,
        meaning.delay_ms,
        meaning.priority,
        meaning.extras,
    )


def meaning_of_many(store: QueueStore, options: Mapping[str, Any]) -> Plan | None:
    """What options mean that several jobs have in common; None where they are one job's own. Raises InvalidOption."""
    return plan(options, prefix=store.keys.prefix) if options.keys().isdisjoint(_OF_ONE_JOB) else None


def _stored_id(job_id: str, *, of_layer_above: bool) -> str:
    # A run of a scheduler that the server has lost is put back as what it was, by the layer that has a record of it; others may not take its place.
    return job_id if of_layer_above and run_of(job_id) is not None else wire_id(job_id)


def _with_member(members: str, member: str) -> str:
    return f"{members},{member}" if members else member


@dataclass(slots=True, eq=False)
class _Batch:
    """What one script call adds. `callers` is empty for a list that one caller gave."""

    jobs: Sequence[NewJob]
    callers: Sequence[asyncio.Future[Added]] = ()
    outcomes: Sequence[Added | Exception] = ()


class Adder:
    """Sends the new jobs of one queue."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._script = load("add")
        self._waiting: deque[NewJob] = deque()
        self._callers: deque[asyncio.Future[Added]] = deque()
        """Of the waiting jobs, in their order."""
        self._sent: deque[_Batch] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._link: Link | None = None
        """The link of the flush, once it has one."""

    def add(self, job: NewJob) -> asyncio.Future[Added]:
        """Add one job, together with those that other callers add at the same time. What is returned is to be awaited.

        It raises StoreUnavailable, StoreRefused, ParentNotFound, ParentNotReplaceable or CorruptJob. A caller that is
        cancelled may have added its job.
        """
        # No coroutine: thousands of adds may wait, and the collector of garbage goes through whatever they keep.
        added: asyncio.Future[Added] = asyncio.get_running_loop().create_future()
        self._waiting.append(job)
        self._callers.append(added)
        if self._flushing is None:
            self._link = self._store.connection.take_idle()
            self._flushing = asyncio.create_task(self._flush(), name="taurine add")
        elif self._link is not None and len(self._waiting) >= _JOINED_BATCH and len(self._sent) < _IN_FLIGHT:
            # The flush runs after all callers of this turn of the loop. A full batch leaves now, and the server works meanwhile. Nothing is
            # awaited here: a caller that is cancelled cannot cut the link of the others.
            self._post_waiting(self._link)
        return added

    async def add_many(self, jobs: Sequence[NewJob]) -> list[Added]:
        """Add a list in slices of `ATOMIC_BATCH`, each whole or not at all; the first error of a job is raised after
        all were sent.
        """
        batches = [_Batch(jobs[first : first + ATOMIC_BATCH]) for first in range(0, len(jobs), ATOMIC_BATCH)]
        sent: deque[_Batch] = deque()
        async with self._store.connection.borrow() as link:
            for batch in batches:
                while len(sent) >= _IN_FLIGHT:
                    await self._receive(link, sent)
                sent.append(batch)
                await link.send(self._command(batch))
            while sent:
                await self._receive(link, sent)
        added: list[Added] = []
        for outcome in (outcome for batch in batches for outcome in batch.outcomes):
            if isinstance(outcome, Exception):
                raise outcome
            added.append(outcome)
        return added

    async def close(self) -> None:
        """Return when what was given to `add` has been sent and answered, or has failed."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})

    async def _flush(self) -> None:
        try:
            link = self._link = self._link or await self._store.connection.take()
            if not self._sent and await link.is_stale():
                await link.close()
            await link.connect()
            while self._waiting or self._sent:
                while self._waiting and len(self._sent) < _IN_FLIGHT:
                    self._post_waiting(link)
                if self._sent:
                    await self._receive(link, self._sent)
        except Exception as error:  # noqa: BLE001 - callers wait for these futures alone: each must hear of any error
            # Whatever was on its way or in line fails now: waiting for the server is the caller's choice, not ours.
            failed = [caller for batch in self._sent for caller in batch.callers]
            for caller in (*failed, *self._callers):
                _settle(caller, error)
            self._sent.clear()
            self._waiting.clear()
            self._callers.clear()
        finally:
            link, self._link, self._flushing = self._link, None, None
            if link is not None:
                await self._store.connection.give_back(link)

    def _post_waiting(self, link: Link) -> None:
        count = min(len(self._waiting), _JOINED_BATCH)
        batch = _Batch([self._waiting.popleft() for _ in range(count)], [self._callers.popleft() for _ in range(count)])
        try:
            link.post(self._command(batch))
        except Exception as error:  # noqa: BLE001 - nothing of it was written; its callers must hear of it
            for caller in batch.callers:
                _settle(caller, error)
        else:
            self._sent.append(batch)  # replies are matched to batches by their order

    def _command(self, batch: _Batch) -> tuple[Argument, ...]:
        return ("EVALSHA", self._script.digest, 1, self._store.keys.meta, *self._arguments(batch))

    async def _receive(self, link: Link, sent: deque[_Batch]) -> None:
        """Take the reply to the oldest batch on its way and tell its callers."""
        try:
            reply = await link.receive()
        except NoScriptError:
            # Nothing of the batch ran. It goes again behind what is on its way, which meets the same answer.
            batch = sent.popleft()
            sent.append(batch)
            await link.send(("EVAL", self._script.text, 1, self._store.keys.meta, *self._arguments(batch)))
            return
        except StoreError as error:
            if not link.connected:
                raise
            batch = sent.popleft()
            batch.outcomes = [error] * len(batch.jobs)
        else:
            batch = sent.popleft()
            batch.outcomes = self._outcomes(batch.jobs, reply)
        for caller, outcome in zip(batch.callers, batch.outcomes, strict=False):
            _settle(caller, outcome)

    def _arguments(self, batch: _Batch) -> list[Argument]:
        arguments: list[Argument] = [self._store.now_ms()]
        for job in batch.jobs:
            arguments += job.arguments()
        return arguments

    def _outcomes(self, jobs: Sequence[NewJob], reply: Any) -> Sequence[Added | Exception]:
        ids, refused = reply
        if not refused:
            return [Added(stored.decode(), False) for stored in ids]
        in_the_way = set(refused)
        return [
            Added(stored.decode(), position in in_the_way)
            if isinstance(stored, bytes)
            else self._store.error(stored, jobs[position - 1].stored_id)
            for position, stored in enumerate(ids, 1)
        ]


def _settle(added: asyncio.Future[Added], outcome: Added | Exception) -> None:
    if added.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        added.set_exception(outcome)
    else:
        added.set_result(outcome)
