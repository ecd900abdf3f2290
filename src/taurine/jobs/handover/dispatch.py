"""From the record to the queue: adding accepted jobs under their own ids, and stamping that it was done.

Adding is idempotent by id, so whoever finds a record without a stamp may add it again: the enqueue itself right after
its commit, the outbox loop, the reconciler.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from sqlalchemy import Connection

from taurine.clock import Clock, ms_of, now_ms
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.envelope import Envelope, retry_from_json
from taurine.jobs.handover.adoption import stored_id_of
from taurine.jobs.handover.copies import has_copy
from taurine.ledger.generations import Seen, raise_generation
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.outbox import Dispatched, stamp_dispatched, unstarted_since
from taurine.ledger.records import JobRecord, NewRecord
from taurine.options import AddOptions, JobTelemetry, Keep
from taurine.queue import Queue
from taurine.queue.scheduler import TemplateOptions
from taurine.queue.wire import Encoded
from taurine.retry import Custom, Retry

__all__ = ["YOUNG_MS", "Dispatcher", "envelope_now", "options_of_any"]

YOUNG_MS = 5000
"""Age from which a record without a stamp is anybody's to hand over: the call that accepted a younger one is about to
do it itself.
"""


class Dispatcher:
    """Adds jobs to their queues. Used on one event loop.

    queue: the queue of a name. ended: told of jobs that may have been cancelled, or have expired, while they were
    added, and must not stay in their queues.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        queue: Callable[[str], Awaitable[Queue]],
        group: GroupCommit,
        clock: Clock,
        ended: Callable[[Sequence[str]], None],
    ) -> None:
        self._catalog = catalog
        self._queue = queue
        self._group = group
        self._clock = clock
        self._ended = ended
        self._loop = asyncio.get_running_loop()

    async def dispatch_new(self, records: Sequence[NewRecord], *, within: float) -> None:
        """Add jobs that one request has just recorded, in their order, and stamp them.

        within: seconds that their server may take. Raises TimeoutError after that, when they may or may not have been
        added, and StoreError.
        """
        queue = await self._queue(records[0].queue)  # may start an embedded server, which is waited for
        now = now_ms(self._clock)
        # Who stood still since the commit may find that another relay was faster, and that the job has run and is gone.
        late = now - records[0].created_at > YOUNG_MS // 2
        alike: dict[tuple[str | None, bool], AddOptions] = {}
        entries: list[tuple[str, Any, AddOptions]] = []
        for record in records:
            # What one request asks for differs by the tenant only, apart from the id.
            kind = record.tenant, record.fresh
            options = alike.get(kind)
            if options is None:
                options = alike[kind] = self._new_options(record, now, late=late)
            entries.append((record.type, Encoded(record.payload), {**options, "job_id": record.id}))
        async with asyncio.timeout(within):
            await self._add(queue, entries)
        for record in records:
            # Nobody waits for the stamp: a job that is added again without need is a duplicate of itself.
            self._group.post(stamp_dispatched, Dispatched(record.id, 0, now))
        if not records[0].fresh:  # nobody knows a fresh id yet
            self._group.post(self._look_back, records[0].created_at)

    def _look_back(self, connection: Connection, since: Sequence[int]) -> list[None]:
        """Of the jobs accepted since these times, ms, which were just added, find those that ended in between: who
        ended them found nothing to take out.
        """
        ended = unstarted_since(connection, min(since))
        if ended:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the reconciler of another process finds them
                self._loop.call_soon_threadsafe(self._ended, ended)
        return [None] * len(since)

    def _new_options(self, record: NewRecord, now: int, *, late: bool) -> AddOptions:
        envelope = Envelope(
            tenant=record.tenant,
            scheduled_for=record.scheduled_for,
            expires_at=record.expires_at,
            created_by=record.created_by,
            retry=None if record.options is None else record.options.get("retry"),
            late=late,
        )
        options = _options(
            self._catalog.get(record.type),
            job_id=record.id,
            priority=record.priority,
            attempts=record.max_attempts,
            accepted_at=record.created_at,
            due_at=record.scheduled_for,
            now=now,
            envelope=envelope,
            trace=record.trace,
            shared=self._catalog.rules_of(record.queue).shared,
        )
        if not record.fresh:
            # What has ended under the id belongs to a record that is purged, unless it bears the time of this one: then another relay was faster.
            options["replace_finished"] = "other"
        return options

    async def dispatch(self, records: Sequence[JobRecord]) -> int:
        """Add recorded jobs and stamp them. Records whose type is not declared here are left to others.

        Returns how many were neither left to others nor to a later pass: also those that were only stamped, since their
        queue has them, and those that changed while they were moved.

        A job goes to the queue that its type declares now. One that was accepted for another becomes a new generation
        first, unless that one has it after all.
        While it is younger than `YOUNG_MS` it is left to a later pass: the call that accepted it may be about to add it
        there, to be run without a look at its record.
        Raises StoreError when the server of queues does not take them.
        """
        mine = [(record, job_type) for record in records if (job_type := self._catalog.find(record.type)) is not None]
        at_home = [record for record, job_type in mine if record.queue == job_type.queue]
        handed_over = len(at_home)
        if len(at_home) < len(mine):
            until = now_ms(self._clock) - YOUNG_MS
            elsewhere = [record for record, job_type in mine if record.queue != job_type.queue]
            old_enough = [record for record in elsewhere if ms_of(record.created_at) <= until]
            handed_over += len(old_enough)
            at_home += await self._moved(old_enough)
        for name, group in _by_queue(at_home).items():
            now = now_ms(self._clock)
            await self._add(await self._queue(name), [self._entry(record, now) for record in group])
            await self._stamp(group, now)
        return handed_over

    async def _moved(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """The records of those that can go to another queue by now, where they belong; the others are stamped, and
        stay.
        """
        there: list[JobRecord] = []
        lost: list[Seen] = []
        for name, group in _by_queue(records).items():
            queue = await self._queue(name)
            standings = await queue.standings(
                [stored_id_of(record.id, record.source, record.generation) for record in group]
            )
            for record, standing in zip(group, standings, strict=True):
                if has_copy(standing, generation=record.generation, created_at=ms_of(record.created_at)):
                    there.append(record)  # who added it did not live to say so
                else:
                    lost.append(Seen(record.id, record.generation, record.fence, self._catalog.get(record.type).queue))
        await self._stamp(there, now_ms(self._clock))
        raised = await asyncio.gather(*(self._group.submit(self._raise, item) for item in lost))
        return [record for record in raised if record is not None]

    def _raise(self, connection: Connection, items: Sequence[Seen]) -> list[JobRecord | None]:
        return raise_generation(connection, items, now_ms(self._clock))

    async def _stamp(self, records: Sequence[JobRecord], now: int) -> None:
        stamps = (Dispatched(record.id, record.generation, now) for record in records)
        await asyncio.gather(*(self._group.submit(stamp_dispatched, stamp) for stamp in stamps))

    def _entry(self, record: JobRecord, now: int) -> tuple[str, Any, AddOptions]:
        options = _options(
            self._catalog.get(record.type),
            job_id=record.id,
            priority=record.priority,
            attempts=max(1, record.max_attempts - record.attempts),
            accepted_at=None if record.generation else ms_of(record.created_at),
            due_at=ms_of(record.due_at),
            now=now,
            envelope=envelope_now(record),
            trace=record.trace,
            shared=self._catalog.rules_of(record.queue).shared,
        )
        # A finished run of this id, or an earlier generation, may still stand in the queue; this record is open, so it is over.
        options["replace_finished"] = True
        return record.type, Encoded(record.payload_json), options

    async def _add(self, queue: Queue, entries: Sequence[tuple[str, Any, AddOptions]]) -> None:
        if len(entries) == 1:
            name, data, options = entries[0]
            await queue.add(name, data, **options)
        else:
            await queue.add_many(entries)


def _by_queue(records: Sequence[JobRecord]) -> dict[str, list[JobRecord]]:
    by_queue: dict[str, list[JobRecord]] = {}
    for record in records:
        by_queue.setdefault(record.queue, []).append(record)
    return by_queue


_SHARED_AGE = 24 * 3600.0
"""Seconds that a shared queue keeps ended jobs whose type says nothing of an age."""


def _by_age(keep: bool | int | Keep) -> Literal[True] | Keep:
    """The policy without its count."""
    if keep is True:
        return True
    age = keep.age if isinstance(keep, Keep) and keep.age is not None else _SHARED_AGE
    return Keep(age=age)


def _removal(keep: bool | int | Keep) -> bool | int | Keep:
    """The policy as the queue has it, which asks what to remove: there True keeps nothing."""
    return not keep if isinstance(keep, bool) else keep


def options_of_any(
    job_type: JobType[Any, Any], retry: Retry, priority: int, envelope: Envelope, *, shared: bool
) -> TemplateOptions:
    """What every job of a type is added with, whether a request or a schedule has made it."""
    keep_completed, keep_failed = job_type.options.keep_completed, job_type.options.keep_failed
    if shared:
        # Where others end jobs as well, the record learns of it from the queue: what is gone there would look like lost.
        keep_completed, keep_failed = _by_age(keep_completed), _by_age(keep_failed)
    options: TemplateOptions = {
        "attempts": retry.attempts,
        "remove_on_complete": _removal(keep_completed),
        "remove_on_fail": _removal(keep_failed),
        "application": envelope.encode(),
    }
    if retry.backoff is not None and not isinstance(retry.backoff, Custom):
        options["backoff"] = retry.backoff  # for Node's workers; ours ask the retry policy itself
    if priority:
        options["priority"] = priority
    return options


def _options(
    job_type: JobType[Any, Any],
    *,
    job_id: str,
    priority: int,
    attempts: int,
    accepted_at: int | None,
    due_at: int | None,
    now: int,
    envelope: Envelope,
    trace: str | None,
    shared: bool,
) -> AddOptions:
    """accepted_at: None for a later generation, which is another run than the one that was accepted then."""
    declared = job_type.options.retry
    retry = declared if envelope.retry is None else retry_from_json(envelope.retry, declared)
    options: AddOptions = {**options_of_any(job_type, retry, priority, envelope, shared=shared), "job_id": job_id}
    options["attempts"] = attempts
    if trace is not None:
        options["telemetry"] = JobTelemetry(trace)
    if accepted_at is not None:
        # Whoever hands the job over, it bears one time: a relay that comes second sees by it that what has ended is this job, and a first delivery, which reads no
        # record, has the time that the record has.
        options["timestamp"] = accepted_at / 1000
    if due_at is not None and due_at > now:
        # Counted from the job's own time, which another clock may have told.
        options["delay"] = max(0, due_at - (accepted_at or now)) / 1000
    return options


def envelope_now(record: JobRecord) -> Envelope:
    """What travels with a copy that is made from the record as it stands."""
    return Envelope(
        generation=record.generation,
        attempts=record.attempts,
        tenant=record.tenant,
        scheduled_for=ms_of(record.scheduled_for),
        expires_at=ms_of(record.expires_at),
        created_by=record.created_by,
        retry=record.options.get("retry"),
        late=True,
    )
