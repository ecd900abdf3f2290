"""The queue: adding jobs, looking at them, and running the queue's affairs.

A Queue opens nothing until its first call, and never waits for a server that is down: a call fails in bounded time with StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Self, Unpack

from taurine.clock import Clock, SystemClock
from taurine.options import AddOptions, Seconds
from taurine.queue import scheduler
from taurine.queue.adding import Added, Adder, NewJob, new_job
from taurine.queue.connection import Connection, Target
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.scheduler import Schedule, Scheduler, ScheduleStrategy, TemplateOptions, template_defaults
from taurine.queue.store import QueueStore

__all__ = ["Queue"]


class Queue:
    """A named queue on one server.

    name: any printable text without a colon. target: a URL, a ready `redis.asyncio.Redis`, or a Connection.
    prefix: what the queue's keys start with; the same on all sides. Default: "bull".
    defaults: options for every job that does not give its own.

    Raises InvalidName or InvalidOption. An async context manager that closes at its end.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        prefix: str = "bull",
        defaults: AddOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = QueueStore(QueueKeys(name, prefix), Connection.to(target), clock or SystemClock())
        self._owns_connection = not isinstance(target, Connection)
        self._defaults: AddOptions = defaults or {}
        self._adder = Adder(self._store)

    @property
    def name(self) -> str:
        return self._store.keys.name

    @property
    def prefix(self) -> str:
        return self._store.keys.prefix

    # Adding -------------------------------------------------------------------------------------------------------------------

    async def add(self, name: str, data: Any = None, **options: Unpack[AddOptions]) -> Job:
        """Store a job and put it where it is to wait; atomic.

        data: anything that JSON holds; None is stored as {}. options: see AddOptions.
        Returns the job. If its id, or its deduplication id, is taken, nothing is stored: the job in the way is returned, with `duplicate` set.

        Concurrent calls share script calls and keep their order. Repeating a call that raised StoreUnavailable is safe with a `job_id`; without
        one the job may be there twice.

        Raises InvalidOption, InvalidName, PayloadError, PayloadTooLarge, ParentNotFound, ParentNotReplaceable, StoreUnavailable, StoreRefused.
        """
        job = self._new_job(name, data, options)
        return self._stored(job, await self._adder.add(job))

    async def add_many(self, jobs: Iterable[tuple[str, Any] | tuple[str, Any, AddOptions]]) -> list[Job]:
        """Store many jobs: `(name, data)` or `(name, data, options)` each.

        All are checked before any is sent. Up to 1,000 jobs are stored whole or not at all; a longer list goes in such slices, in order.
        Raises as `add` does.
        """
        new = [self._new_job(entry[0], entry[1], entry[2] if len(entry) == 3 else {}) for entry in jobs]
        if not new:
            return []
        return [self._stored(job, added) for job, added in zip(new, await self._adder.add_many(new), strict=True)]

    def _new_job(self, name: str, data: Any, options: Mapping[str, Any]) -> NewJob:
        merged = {**self._defaults, **options} if options else self._defaults
        return new_job(self._store, name, data, merged)

    def _stored(self, job: NewJob, added: Added) -> Job:
        return Job.added(self._store, job, added)

    # Schedulers ---------------------------------------------------------------------------------------------------------------

    async def upsert_scheduler(
        self,
        scheduler_id: str,
        *,
        every: Seconds | None = None,
        pattern: str | None = None,
        tz: str | None = None,
        start: float | datetime | None = None,
        end: float | datetime | None = None,
        limit: int | None = None,
        offset: Seconds | None = None,
        immediately: bool = False,
        name: str | None = None,
        data: Any = None,
        schedule_strategy: ScheduleStrategy | None = None,
        **options: Unpack[TemplateOptions],
    ) -> Job:
        """Create a job scheduler, or change the one of this id; atomic. Returns the job that is its next run.

        Either every, seconds from one run to the next, the first at once; or pattern, cron with five fields or six (seconds first).
        tz: name of the pattern's time zone. Default: the zone of the machine that computes the run, so name one.
        start, end: wall seconds or aware datetimes between which runs are due. Default: no bounds. A time of a pattern counts only if
        it is after start, as in BullMQ.
        limit: runs in all, counted from this call. Default: no limit.
        offset: runs of `every` are due at its multiples since 1970 plus this, in seconds; 0 for the multiples themselves. Default: from the
        first run on.
        immediately: a pattern's first run is due now, too. Default: False.
        name: the jobs' name. Default: the scheduler's id. data: as in `add`. options: see TemplateOptions; the queue's defaults apply.
        schedule_strategy: understands patterns that are not cron; workers of the queue need the same. Default: cron.

        There is one next run at a time; it is made when the one before is claimed, so a queue that is behind skips runs and gathers none.
        Repeating the call with the same schedule makes no run more and loses none. A run that was started goes on.

        Raises InvalidOption (also for a schedule without any run), InvalidName, PayloadError, PayloadTooLarge, SchedulerIdTaken or
        SchedulerSlotsTaken (finished jobs stand under the ids of very many next runs), StoreUnavailable, StoreRefused.
        """
        schedule = Schedule.checked(
            every=every, pattern=pattern, tz=tz, start=start, end=end, limit=limit, offset=offset
        )
        return await scheduler.upsert(
            self._store,
            scheduler_id,
            schedule,
            immediately=immediately,
            name=name,
            data=data,
            options={**template_defaults(self._defaults), **options},
            strategy=schedule_strategy,
        )

    async def schedulers(self, start: int = 0, end: int = -1, *, ascending: bool = True) -> list[Scheduler]:
        """The schedulers from position `start` to `end`, both included, by their next run; negative positions count from the end.

        ascending: the soonest first (default), or the latest. One whose record cannot be decoded is left out, with a warning in the log.
        """
        return await scheduler.read(self._store, start, end, ascending=ascending)

    async def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """One scheduler, or None. Raises SchedulerError if its record cannot be decoded."""
        return await scheduler.get(self._store, scheduler_id)

    async def count_schedulers(self) -> int:
        """How many schedulers the queue has, those included whose series has ended."""
        return await scheduler.count(self._store)

    async def remove_scheduler(self, scheduler_id: str) -> bool:
        """End a schedule and remove its next run, wherever that waits; atomic. False when there is none of this id.

        A run that was started goes on, its retries included.
        """
        return await scheduler.remove(self._store, scheduler_id)

    # Life ---------------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the queue's connections. Safe to call twice."""
        if self._owns_connection:
            await self._store.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
