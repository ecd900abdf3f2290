"""Schedules as operators see them: which there are, when they tick next, a tick out of turn, and the end of one that
nobody declares any more.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from taurine.clock import Clock
from taurine.errors import InvalidOption, ScheduleNotFound, did_you_mean
from taurine.ids import sortable_id
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.schedules.declaring import DeclaredSchedule, TickedBy, Timetable
from taurine.jobs.schedules.times import in_words, in_zone, times_after
from taurine.options import require_count
from taurine.queue.scheduler import Schedule, Scheduler

__all__ = ["ScheduleInfo", "Schedules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule as it stands; a snapshot."""

    id: str
    type: str
    """The type of its ticks' jobs."""
    queue: str
    every: float | None
    """Seconds from one tick to the next; None for a pattern."""
    pattern: str | None
    tz: str | None
    description: str
    """What the code says it is for; empty for one that is not declared here."""
    text: str
    """When it ticks, in words: "at 03:00, every day"."""
    next_run: datetime | None
    """When the queue has the next tick; in the past where it waits for a worker. None for one that no worker has
    installed yet.
    """
    declared: bool
    """False for one that stands in a queue and that this code does not declare."""
    by: TickedBy
    """Who sees to it that it ticks: "workers", or "http" for who calls `/cron/{id}`."""
    times: Schedule = field(repr=False)
    seen_at: float = field(repr=False)
    """Wall seconds."""

    def next_runs(self, count: int = 5) -> builtins.list[datetime]:
        """The next ticks, the queue's own first; in the schedule's zone, UTC for an interval. Raises InvalidOption."""
        return _next_runs(self.times, count, now=self.seen_at, first=self.next_run)


class Schedules:
    """`Taurine.schedules`. The text of errors names the schedule.

    What asks a queue raises StoreUnavailable or StoreRefused where it does not answer.
    """

    def __init__(
        self,
        timetable: Timetable,
        *,
        backend: Callable[[], Backend],
        authorize: Authorize | None,
        clock: Clock,
    ) -> None:
        self._timetable = timetable
        self._backend = backend
        self._authorize = authorize
        self._clock = clock

    async def list(self) -> builtins.list[ScheduleInfo]:
        """All schedules that are declared, and all that stand in the queues of this application, by id."""
        backend = self._backend()
        now = self._clock.now()
        found = {(one.queue, one.id): _info(one, now) for one in self._timetable}
        for name in backend.catalog.queues:
            for scheduler in await (await backend.queue(name)).schedulers():
                declared = self._timetable.find(scheduler.id)
                if declared is not None and (declared.queue != name or declared.by != "workers"):
                    declared = None
                found[name, scheduler.id] = _standing(scheduler, name, declared, now)
        return sorted(found.values(), key=lambda info: (info.id, info.queue))

    async def get(self, schedule_id: str) -> ScheduleInfo:
        """One of them. Raises ScheduleNotFound, with the near miss."""
        infos = await self.list()
        # The declared one before one of the same id that is left in another queue.
        for info in sorted(infos, key=lambda info: not info.declared):
            if info.id == schedule_id:
                return info
        near = did_you_mean(schedule_id, [info.id for info in infos])
        raise ScheduleNotFound(f"there is no schedule {schedule_id!r:.80}{near}", schedule_id=schedule_id)

    def ticked_by(self, schedule_id: str) -> TickedBy:
        """Who sees to it that a declared schedule ticks: "workers", or "http"; asks no server. Raises ScheduleNotFound."""
        return self._timetable.get(schedule_id).by

    def next_runs(self, schedule_id: str, count: int = 5, *, after: datetime | None = None) -> builtins.list[datetime]:
        """When a declared schedule ticks next, by its declaration alone; asks no server.

        after: an aware datetime. Default: now. The answer is in the schedule's zone, UTC for an interval. Raises
        ScheduleNotFound, InvalidOption.
        """
        times = self._timetable.get(schedule_id).times
        if after is not None and after.tzinfo is None:
            raise InvalidOption("expected after to be an aware datetime, got a naive one; give it a tzinfo")
        now = self._clock.now() if after is None else after.timestamp()
        return _next_runs(times, count, now=now)

    async def trigger(
        self, schedule_id: str, *, scheduled_for: datetime | None = None, user: str | None = None
    ) -> JobHandle[Any]:
        """Run a declared schedule's job now, as a job of its own: no tick is moved or left out.

        scheduled_for: an aware datetime, what `ctx.scheduled_for` is: one job for each such time, however often it is
        asked for (`JobHandle.duplicate`). Default: now, and a job for each call. user: who asks for it. Default:
        unknown. Raises ScheduleNotFound, InvalidOption, and what `JobType.enqueue` raises.
        """
        schedule = self._timetable.get(schedule_id)
        now = self._clock.now()
        options: dict[str, Any] = {} if user is None else {"user": user}
        if scheduled_for is not None and scheduled_for.tzinfo is None:
            raise InvalidOption("expected scheduled_for to be an aware datetime, got a naive one; give it a tzinfo")
        name = sortable_id(now) if scheduled_for is None else f"{scheduled_for.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return await schedule.job_type.enqueue(
            schedule.payload,
            job_id=f"{schedule_id}:{name}",
            run_at=scheduled_for or datetime.fromtimestamp(now, UTC),
            metadata={"schedule": schedule_id},
            source=schedule.source,
            **options,
        )

    async def remove(self, schedule_id: str, *, user: str | None = None) -> None:
        """End a schedule that is not declared any more, and take its next tick out of the queue; one that has begun
        goes on.

        user: who asks for it. Raises InvalidOption for one that is declared, which workers would install again,
        ScheduleNotFound, NotAuthorized.
        """
        left = [info for info in await self.list() if info.id == schedule_id and not info.declared]
        if not left:
            if self._timetable.find(schedule_id) is not None:
                raise InvalidOption(
                    f"the schedule {schedule_id!r} is declared, so that a worker would install it again; take it out of the code"
                )
            await self.get(schedule_id)
        backend = self._backend()
        for info in left:
            request = AccessRequest(action="remove_schedule", job_type=info.type, tenant=None, user=user)
            await authorized(self._authorize, request)
            await (await backend.queue(info.queue)).remove_scheduler(schedule_id)


def _info(schedule: DeclaredSchedule, now: float) -> ScheduleInfo:
    """A schedule as it is declared, and as no worker has installed it yet; one that workers do not install has its next
    run all the same.
    """
    times = schedule.times
    next_run = next(iter(_next_runs(times, 1, now=now)), None) if schedule.by == "http" else None
    return ScheduleInfo(
        id=schedule.id,
        type=schedule.job_type.name,
        queue=schedule.queue,
        every=times.every,
        pattern=times.pattern,
        tz=times.tz,
        description=schedule.description,
        text=in_words(times),
        next_run=next_run,
        declared=True,
        by=schedule.by,
        times=times,
        seen_at=now,
    )


def _standing(scheduler: Scheduler, queue: str, declared: DeclaredSchedule | None, now: float) -> ScheduleInfo:
    """A schedule as its queue has it.

    The times are the queue's: those of the code hold from the start of the next worker on.
    """
    times = scheduler.schedule
    return ScheduleInfo(
        id=scheduler.id,
        type=scheduler.name,
        queue=queue,
        every=times.every,
        pattern=times.pattern,
        tz=times.tz,
        description="" if declared is None else declared.description,
        text=in_words(times),
        next_run=None if scheduler.next_job_id is None else in_zone(scheduler.next_at, times),
        declared=declared is not None,
        by="workers",
        times=times,
        seen_at=now,
    )


def _next_runs(times: Schedule, count: int, *, now: float, first: datetime | None = None) -> builtins.list[datetime]:
    require_count(count, "count", minimum=0)
    after = now if first is None else max(now, first.timestamp())
    following: Iterator[datetime] = (in_zone(at, times) for at in times_after(times, after))
    return list(islice(following if first is None else chain((first,), following), count))
