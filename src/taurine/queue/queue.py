"""The queue: adding jobs, looking at them, and running the queue's affairs.

A Queue opens nothing until its first call, and never waits for a server that is down: a call fails in bounded time with
StoreUnavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self, TypeVar, Unpack

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption
from taurine.ids import lookup_ids
from taurine.options import AddOptions, JobTelemetry, RateLimit, Seconds, to_milliseconds
from taurine.queue import administration, reading, scheduler, standings
from taurine.queue.adding import Adder, NewJob, meaning_of_many, new_job
from taurine.queue.administration import CLEANABLE, OnProgress
from taurine.queue.connection import Connection, Target
from taurine.queue.exposition import exposition
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.reading import JobLogs, Metrics, QueueMeta, WorkerInfo
from taurine.queue.scheduler import Schedule, Scheduler, ScheduleStrategy, TemplateOptions, template_defaults
from taurine.queue.standings import LineState, Standing
from taurine.queue.states import FINISHED, FinishedState, JobState, check_states, find_state
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import plan, timestamp_ms
from taurine.queue.tracing import QueueTracing, queue_tracing
from taurine.queue.whereabouts import Whereabouts, locate
from taurine.telemetry import Telemetry

__all__ = ["Queue"]

ResultT = TypeVar("ResultT")


class Queue:
    """A named queue on one server.

    name: any printable text without a colon. target: a URL, a ready `redis.asyncio.Redis`, or a Connection.
    prefix: what the queue's keys start with; the same on all sides. Default: "bull".
    defaults: options for every job that does not give its own.
    telemetry: told of each call that changes something as a span; the context of the one that adds a job travels with
    it. Default: nobody.

    Raises InvalidName or InvalidOption. An async context manager that closes at its end.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        prefix: str = "bull",
        defaults: AddOptions | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = QueueStore(QueueKeys(name, prefix), Connection.to(target), clock or SystemClock())
        self._owns_connection = not isinstance(target, Connection)
        self._defaults: AddOptions = defaults or {}
        if "job_id" in self._defaults or "timestamp" in self._defaults:
            raise InvalidOption("a job id or a timestamp belongs to one job; it cannot be a default")
        self._meaning = plan(self._defaults, prefix=prefix)
        self._adder = Adder(self._store)
        self._tracing = queue_tracing(telemetry, name)

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
        Returns the job. If its id, or its deduplication id, is taken, nothing is stored: the job in the way is
        returned, with `duplicate` set.

        Concurrent calls share script calls and keep their order. Repeating a call that raised StoreUnavailable is safe
        with a `job_id`; without one the job may be there twice.

        Raises InvalidOption, InvalidName, PayloadError, PayloadTooLarge, ParentNotFound, ParentNotReplaceable,
        CorruptJob (a key that the job needs holds another type of value), StoreUnavailable, StoreRefused.
        """
        if self._tracing is not None:
            return await self._add_traced(self._tracing, name, data, options)
        new = self._new_job(name, data, options)
        del options  # thousands of adds may wait, and the collector of garbage goes through whatever they keep
        added = await self._adder.add(new)
        return Job.new(self._store, new).place(added)

    async def add_many(self, jobs: Iterable[tuple[str, Any] | tuple[str, Any, AddOptions]]) -> list[Job]:
        """Store many jobs: `(name, data)` or `(name, data, options)` each.

        All are checked before any is sent. Up to 1,000 jobs are stored whole or not at all; a longer list goes in such
        slices, in order.
        Raises as `add` does.
        """
        if self._tracing is not None:
            return await self._add_many_traced(self._tracing, list(jobs))
        return await self._add_list(self._new_jobs(jobs))

    async def _add_list(self, new: list[NewJob]) -> list[Job]:
        if not new:
            return []
        adding = asyncio.create_task(self._adder.add_many(new), name="taurine add many")
        adding.add_done_callback(_heard)
        await asyncio.sleep(0)  # it is sent now; what is returned is made while the server works
        made = [Job.new(self._store, job) for job in new]
        return [job.place(added) for job, added in zip(made, await adding, strict=True)]

    async def _add_traced(self, tracing: QueueTracing, name: str, data: Any, options: AddOptions) -> Job:
        given = self._given_telemetry(options)
        with tracing.adding(name, given) as adding:
            new = self._new_job(name, data, {**options, "telemetry": adding.option(given)})
            job = Job.new(self._store, new).place(await self._adder.add(new))
            adding.added(job)
            return job

    async def _add_many_traced(
        self, tracing: QueueTracing, jobs: list[tuple[str, Any] | tuple[str, Any, AddOptions]]
    ) -> list[Job]:
        entries = [(entry[0], entry[1], entry[2] if len(entry) == 3 else AddOptions()) for entry in jobs]
        given = [self._given_telemetry(options) for _, _, options in entries]
        with tracing.adding_many([name for name, _, _ in entries], given) as adding:
            return await self._add_list(
                [
                    self._new_job(name, data, {**options, "telemetry": adding.option(own)})
                    for (name, data, options), own in zip(entries, given, strict=True)
                ]
            )

    def _given_telemetry(self, options: AddOptions) -> JobTelemetry | None:
        return options.get("telemetry", self._defaults.get("telemetry"))

    def _new_jobs(self, jobs: Iterable[tuple[str, Any] | tuple[str, Any, AddOptions]]) -> list[NewJob]:
        """Most lists give each job the same options, and what they mean is worked out once then."""
        new: list[NewJob] = []
        shared: Mapping[str, Any] | None = None
        as_it_was: Mapping[str, Any] = {}
        meaning = self._meaning
        for entry in jobs:
            options: Mapping[str, Any] = entry[2] if len(entry) == 3 else {}
            # A generator may hand out one mapping again and again, and change it in between.
            if options is not shared or options != as_it_was:
                shared, as_it_was = options, dict(options)
                merged = {**self._defaults, **options}
                meaning = meaning_of_many(self._store, merged)
            if meaning is None:
                new.append(self._new_job(entry[0], entry[1], options))
            else:
                new.append(new_job(self._store, entry[0], entry[1], {}, meaning))
        return new

    def _new_job(self, name: str, data: Any, options: Mapping[str, Any]) -> NewJob:
        if options:
            return new_job(self._store, name, data, {**self._defaults, **options})
        return new_job(self._store, name, data, {}, self._meaning)

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

        Either every, seconds from one run to the next, the first at once; or pattern, cron with five fields or six
        (seconds first).
        tz: name of the pattern's time zone. Default: the zone of the machine that computes the run, so name one.
        start, end: wall seconds or aware datetimes between which runs are due. Default: no bounds. A time of a pattern
        counts only if it is after start, as in BullMQ.
        limit: runs in all, counted from this call. Default: no limit.
        offset: runs of `every` are due at its multiples since 1970 plus this, in seconds; 0 for the multiples
        themselves. Default: from the first run on.
        immediately: a pattern's first run is due now, too. Default: False.
        name: the jobs' name. Default: the scheduler's id. data: as in `add`. options: see TemplateOptions; the queue's
        defaults apply.
        schedule_strategy: understands patterns that are not cron; workers of the queue need the same. Default: cron.

        There is one next run at a time; it is made when the one before is claimed, so a queue that is behind skips runs
        and gathers none.
        Repeating the call with the same schedule makes no run more and loses none. A run that was started goes on.

        Raises InvalidOption (also for a schedule without any run), InvalidName, PayloadError, PayloadTooLarge,
        SchedulerIdTaken or SchedulerSlotsTaken (finished jobs stand under the ids of very many next runs),
        StoreUnavailable, StoreRefused.
        """
        schedule = Schedule.checked(
            every=every, pattern=pattern, tz=tz, start=start, end=end, limit=limit, offset=offset
        )
        upsert = scheduler.upsert(
            self._store,
            scheduler_id,
            schedule,
            immediately=immediately,
            name=name,
            data=data,
            options={**template_defaults(self._defaults), **options},
            strategy=schedule_strategy,
        )
        return await self._told("upsertJobScheduler", upsert, **{"bullmq.job.scheduler.id": scheduler_id})

    async def schedulers(self, start: int = 0, end: int = -1, *, ascending: bool = True) -> list[Scheduler]:
        """The schedulers from position `start` to `end`, both included, by their next run; negative positions count
        from the end.

        ascending: the soonest first (default), or the latest. One whose record cannot be decoded is left out, with a
        warning in the log.
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
        removal = scheduler.remove(self._store, scheduler_id)
        return await self._told("removeJobScheduler", removal, **{"bullmq.job.scheduler.id": scheduler_id})

    # Reading ------------------------------------------------------------------------------------------------------------------

    async def get_job(self, job_id: str) -> Job | None:
        """The job of this id as it is stored now, or None.

        A job whose stored fields cannot be decoded is returned all the same, so that it can be looked at and removed:
        `Job.corrupt` names the field, and what cannot be decoded keeps its default (`data` is None).
        """
        return await reading.get_job(self._store, job_id)

    async def get_jobs(
        self,
        states: JobState | Iterable[JobState] | None = None,
        *,
        start: int = 0,
        end: int = -1,
        ascending: bool = False,
    ) -> list[Job]:
        """The jobs in these states from position `start` to `end`, both included, counted in each state by itself.

        states: one state or several. Default: all. start, end: from 0; negative positions count from the end. Default:
        the whole state, which is read in pages of 500 but held in memory.
        ascending: the oldest first; of prioritized and delayed jobs the next to run, of waiting ones too. Default:
        False, the newest first.

        A job that moves meanwhile is listed once. Corrupt jobs are listed as `get_job` returns them; ids that no job
        stands behind are left out.
        Raises InvalidOption for an unknown state.
        """
        return await reading.get_jobs(self._store, check_states(states), start, end, ascending)

    async def state(self, job_id: str) -> JobState | Literal["unknown"]:
        """Where the job stands now; "unknown" when it stands nowhere.

        Costs the length of the waiting line for a job in no other place.
        """
        return await find_state(self._store, *lookup_ids(job_id))

    async def whereabouts(self, job_id: str) -> Whereabouts:
        """Where the job stands and what stands in its way, at a cost that does not grow with the queue; for operators.

        Not atomic: a job that moves meanwhile may be found in no state although it is stored.
        """
        return await locate(self._store, lookup_ids(job_id))

    async def standings(self, stored_ids: Sequence[str]) -> list[Standing]:
        """Which of these jobs are still to run, and how those ended that are not; for whoever keeps records of them.

        stored_ids: as they stand on the wire, see `ids.wire_id`. The cost does not grow with the queue.
        """
        return await standings.read_standings(self._store, stored_ids)

    async def line_page(self, collection: LineState, first: int, count: int) -> list[str]:
        """The stored ids of `count` jobs that have not started, from place `first` on; the next to start has place 0."""
        return await standings.line_page(self._store, collection, first, count)

    async def recently_removed(self, after: str = "") -> tuple[dict[str, int], str]:
        """Jobs that were removed one by one, and when, ms of the server's clock, as far back as the event stream still
        tells; and the newest event's id.

        after: the event's id that an earlier call returned, to be told only of what came since. Default: all.
        """
        return await standings.recently_removed(self._store, after)

    async def relist(self, stored_id: str) -> bool:
        """Put a job back in line that is stored and stands in no collection; False when it does, or is not stored.

        Atomic.
        """
        return await standings.relist(self._store, stored_id)

    async def counts(self, *states: JobState) -> dict[JobState, int]:
        """How many jobs are in each of these states, all at one moment. Default: every state.

        Jobs of a paused queue count as waiting, and prioritized jobs are not among the waiting. Raises InvalidOption
        for an unknown state.
        """
        return await reading.counts(self._store, check_states(states or None))

    async def count(self, *states: JobState) -> int:
        """How many jobs are in these states together.

        Default: all that are still to run: waiting, prioritized, delayed, waiting-children.
        """
        wanted = check_states(states or ("waiting", "prioritized", "delayed", "waiting-children"))
        return sum((await reading.counts(self._store, wanted)).values())

    async def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """How many jobs wait with each of these priorities; 0 stands for the waiting line of jobs without one.

        A prioritized job that was put back since its worker was gone waits in that line, and is counted there.
        Raises InvalidOption for a number that is no priority.
        """
        return await reading.counts_per_priority(self._store, priorities)

    async def delayed_count(self, before: float | datetime | None = None) -> int:
        """How many jobs are delayed; with `before`, wall seconds or an aware datetime, those due by then.

        Raises InvalidOption.
        """
        return await reading.delayed_count(self._store, before)

    async def logs(self, job_id: str, start: int = 0, end: int = -1, *, ascending: bool = True) -> JobLogs:
        """Lines `start` to `end` of a job's log, both included, and how many there are in all; none for an unknown job.

        Positions count from 0, negative ones from the end. ascending: from the oldest line; False counts and lists from
        the newest. Default: True.
        """
        return await reading.logs(self._store, lookup_ids(job_id), start, end, ascending)

    async def deduplication_owner(self, dedup_id: str) -> str | None:
        """The id of the job that keeps duplicates of this deduplication id out, or None; with a ttl it may have ended
        already.
        """
        return await reading.deduplication_owner(self._store, dedup_id)

    async def meta(self) -> QueueMeta:
        """The queue's settings as they are stored, whoever set them."""
        return await reading.meta(self._store)

    async def is_paused(self) -> bool:
        """True while no job may start, on any worker."""
        return await reading.is_paused(self._store)

    async def is_maxed(self) -> bool:
        """True while as many jobs are active as `set_concurrency` allows; False without such a limit."""
        return await reading.is_maxed(self._store)

    async def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """Seconds until a rate limit that is reached now lets jobs start again; 0.0 when none is reached.

        max_jobs: starts per window to measure by, for a limit that only workers know. Default: the queue's own limit;
        when it has none, the rest of the running window, reached or not. A limit set by `limit_for` always counts.
        """
        return await reading.rate_limit_ttl(self._store, max_jobs)

    async def workers(self) -> list[WorkerInfo] | None:
        """The workers of this queue that are connected now, those on Node included; None when the server does not let
        us list its clients.
        """
        return await reading.workers(self._store)

    async def metrics(self, kind: FinishedState, *, start: int = 0, end: int = -1) -> Metrics:
        """Finished jobs by the minute, from point `start` to `end`, both included; point 0 is the newest.

        kind: "completed" or "failed". Kept only when a worker has `metrics_points`. Raises InvalidOption for another
        kind.
        """
        check_states(kind, FINISHED)
        return await reading.metrics(self._store, kind, start, end)

    async def prometheus(self, *, labels: Mapping[str, str] | None = None) -> str:
        """What the queue holds as text for a scrape by Prometheus, under the names of BullMQ's exporter.

        `bullmq_job_count` by state, and `bullmq_job_completed_total` and `bullmq_job_failed_total`, which stay 0 unless
        some worker has `metrics_points`.
        labels: more of them, on each line, such as `{"env": "live"}`. Default: none. Raises InvalidOption for a name
        that no label can have.
        """
        kinds: tuple[FinishedState, ...] = ("completed", "failed")
        finished = {kind: (await self.metrics(kind, start=0, end=0)).count for kind in kinds}
        return exposition(self.name, await self.counts(), finished, labels or {})

    async def record_counts(self) -> dict[JobState, int]:
        """Tell the telemetry's gauge how many jobs are in each state, and return that; a gauge shows what it was told
        last. One call to the server.
        """
        counts = await self.counts()
        if self._tracing is not None:
            self._tracing.count_jobs(counts)
        return counts

    async def _told(self, operation: str, doing: Awaitable[ResultT], **about: str | float | bool) -> ResultT:
        """What `doing` returns; the telemetry is told of it."""
        return await doing if self._tracing is None else await self._tracing.operation(operation, doing, **about)

    # Administration -----------------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Let no job start, on any worker; running ones go on, and adding is still possible.

        Atomic, and safe to repeat.
        """
        await self._told("pause", administration.pause(self._store))

    async def resume(self) -> None:
        """Let jobs start again, and wake the workers. Safe to repeat.

        Jobs that BullMQ 5 set aside on a paused queue come back in line first, 1,000 in each script call.
        """
        await self._told("resume", administration.resume(self._store))

    async def set_concurrency(self, concurrency: int | None) -> None:
        """Let at most this many jobs be active at once, over all workers; None removes the limit. Atomic.

        Running jobs go on; a worker that was held back and may start a job now is woken. Raises InvalidOption below 1.
        """
        await self._told("setGlobalConcurrency", administration.set_concurrency(self._store, concurrency))

    async def set_rate_limit(self, limit: RateLimit | None) -> None:
        """Let at most `limit.max` jobs start in each window of `limit.duration`, over all workers; None removes the
        limit. Atomic.

        `max` comes before a worker's own limit; the window of a worker that has one is its own. A worker that may start
        a job now is woken.
        """
        await self._told("setGlobalRateLimit", administration.set_rate_limit(self._store, limit))

    async def limit_for(self, duration: Seconds) -> None:
        """Let no job start for this long, over all workers, and then go on as before; atomic.

        For a provider that says when to come back. A later call replaces the time. On a queue without a rate limit,
        BullMQ's own workers do not heed it. Raises InvalidOption below a millisecond.
        """
        await self._told(
            "rateLimit", administration.limit_for(self._store, to_milliseconds(duration, "duration", minimum=0.001))
        )

    async def lift_limit(self) -> bool:
        """End what `limit_for` began, or the running window of a rate limit, and wake the workers; False when there was
        neither. Atomic.
        """
        return await self._told("removeRateLimitKey", administration.lift_limit(self._store))

    async def set_max_events(self, max_length: int) -> None:
        """Keep about this many entries in the event stream. Default of a queue: 10,000. Raises InvalidOption below 1.

        A BullMQ queue that opens on Node sets its own number again.
        """
        await administration.set_max_events(self._store, max_length)

    async def trim_events(self, max_length: int) -> int:
        """Cut the event stream to its newest `max_length` entries now, and return how many went.

        Raises InvalidOption below 0.

        A reader that has not come so far misses those that went.
        """
        return await self._told("trimEvents", administration.trim_events(self._store, max_length))

    async def remove(self, job_id: str, *, children: bool = True) -> bool:
        """Remove a job in whatever state; False when there is none of this id. Atomic, its children included.

        children: remove its children too, and theirs, in whatever queues. Default: True. A parent that waits for
        nothing else goes on.
        Raises JobLocked when the job, or a child that would go with it, is being worked on, and BelongsToScheduler for
        the next run of a scheduler; nothing is removed then.
        """
        return await self._told(
            "remove",
            administration.remove(self._store, lookup_ids(job_id), children=children),
            **{"bullmq.job.id": job_id},
        )

    async def remove_ended(self, ended: Sequence[tuple[str, int]]) -> int:
        """Take out jobs that have ended elsewhere, without their children; returns how many were there.

        For the layer above, whose word on it counts.

        ended: stored ids, each with the last generation that has ended. A job of a later generation is left, as is one
        that is being worked on. No event tells of it. Atomic for each job.
        """
        return await administration.remove_ended(self._store, ended)

    async def update_progress(self, job_id: str, value: Any) -> None:
        """Record how far a job is without loading it: anything that JSON holds.

        Everyone who listens to the queue is told.

        Raises PayloadError, JobNotFound.
        """
        await self._told(
            "updateJobProgress", administration.update_progress(self._store, job_id, value), **{"bullmq.job.id": job_id}
        )

    async def add_log(self, job_id: str, line: str, *, keep: int | None = None) -> int:
        """Append a line to a job's log without loading it, and return how many it has now.

        keep: the newest lines to keep. Default: all; the job's own `keep_logs` is not looked at. Raises JobNotFound.
        """
        return await administration.add_log(self._store, job_id, line, keep)

    async def remove_deduplication(self, dedup_id: str) -> bool:
        """Let this deduplication id be taken again, whoever holds it; False when nobody did.

        The job that held it goes on.
        """
        return await self._told(
            "removeDeduplicationKey",
            administration.remove_deduplication(self._store, dedup_id),
            **{"bullmq.job.deduplication.key": dedup_id},
        )

    async def drain(self, *, delayed: bool = False, on_progress: OnProgress | None = None) -> int:
        """Remove the jobs that wait, and return how many went.

        Active and finished jobs stay, and so does what is added meanwhile.

        delayed: remove delayed jobs too. Default: False.
        A parent in this queue that loses its last unfinished child goes with it; one in another queue goes on without
        it. The next run of a scheduler stays. No event tells of the removed jobs, as with BullMQ.

        Goes in steps of 1,000 jobs, each of them atomic. on_progress: called after each step with the number removed so
        far.
        """
        return await self._told("drain", administration.drain(self._store, delayed=delayed, on_progress=on_progress))

    async def clean(
        self,
        grace: Seconds,
        limit: int | None = None,
        state: JobState = "completed",
        *,
        on_progress: OnProgress | None = None,
    ) -> list[str]:
        """Remove jobs of one state that are older than `grace`, and return their ids, oldest first.

        grace: seconds since the end of a finished job, the last start of another one, or its creation. limit: most to
        remove. Default: None, or 0: all.
        state: completed, failed, waiting, prioritized, delayed or active. Default: "completed". Of active jobs only
        those without a lease go.
        A parent that loses its last unfinished child goes on. The next run of a scheduler stays.

        Goes in steps of 1,000 jobs, each of them atomic; waiting jobs that change their place meanwhile may be passed
        over.
        on_progress: called after each step with the number removed so far. Raises InvalidOption.
        """
        check_states(state, CLEANABLE)
        most = administration.check_limit(limit)
        grace_ms = to_milliseconds(grace, "grace")
        return await self._told(
            "clean",
            administration.clean(self._store, grace_ms, most, state, on_progress=on_progress),
            **{"bullmq.queue.jobs.state": state},
        )

    async def obliterate(self, *, force: bool = False, on_progress: OnProgress | None = None) -> int:
        """Destroy the queue: all its jobs, schedulers, events and settings. Returns how many jobs went.

        There is no way back.

        The queue is paused first, in the same call that looks for active jobs. force: take active jobs too; their
        workers find them gone.
        Default: False. Children of its jobs in other queues stay; parents there go on. Stop producers first: what they
        add meanwhile is removed as well, as long as it lasts.

        Goes in steps of 1,000 jobs, each of them atomic, and may be repeated when it was cut short; until then the
        queue stays paused.
        on_progress: called after each step with the number removed so far.
        Raises QueueBusy when jobs are active, with nothing changed, and QueueNotPaused when somebody resumes the queue
        meanwhile.
        """
        return await self._told(
            "obliterate", administration.obliterate(self._store, force=force, on_progress=on_progress)
        )

    async def retry_jobs(
        self,
        *,
        state: FinishedState = "failed",
        count: int = 1000,
        before: float | datetime | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Put finished jobs back in line, the oldest first, and return how many.

        state: "failed" or "completed". Default: "failed". before: only jobs that ended by then, wall seconds or an
        aware datetime. Default: now.
        Priorities hold, results and reasons are cleared, and parents that still stand wait for the jobs again. Attempts
        made stay counted.

        Goes in steps of `count` jobs, each of them atomic. Default: 1,000. on_progress: called after each step with the
        number so far.
        Raises InvalidOption.
        """
        check_states(state, FINISHED)
        cutoff_ms = self._store.now_ms() if before is None else timestamp_ms(before)
        step = administration.check_step(count)
        return await self._told(
            "retryJobs", administration.retry_jobs(self._store, state, cutoff_ms, step, on_progress=on_progress)
        )

    async def promote_jobs(self, *, count: int = 1000, on_progress: OnProgress | None = None) -> int:
        """Let all jobs that are delayed now run at once, in the order in which they are due, and return how many.

        Priorities hold.

        Goes in steps of `count` jobs, each of them atomic. Default: 1,000. on_progress: called after each step with the
        number so far.
        Raises InvalidOption.
        """
        step = administration.check_step(count)
        return await self._told("promoteJobs", administration.promote_jobs(self._store, step, on_progress=on_progress))

    async def remove_orphaned_jobs(self, *, limit: int | None = None, on_progress: OnProgress | None = None) -> int:
        """Remove the keys of jobs that stand in no state, which nothing would ever run or show, and return of how many.

        limit: most to remove. Default: None, or 0: all. Such jobs come from bugs and crashes of other clients; on a
        sound queue this finds none.
        The server's whole key space is scanned, a step at a time, and the ids of waiting and active jobs are held in
        memory.
        on_progress: called after each step with the number removed so far. Raises InvalidOption.
        """
        most = administration.check_limit(limit)
        return await administration.remove_orphaned_jobs(self._store, limit=most, on_progress=on_progress)

    # Life ---------------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let adds that are under way end, and close the queue's connections. Safe to call twice."""
        await self._adder.close()
        if self._owns_connection:
            await self._store.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _heard(adding: asyncio.Task[Any]) -> None:
    """Take note of an error whose caller was cancelled before it could: the loop would print it as one that nobody
    retrieved.
    """
    if not adding.cancelled():
        adding.exception()
