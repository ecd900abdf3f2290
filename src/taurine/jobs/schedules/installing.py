"""Keeping the declared schedules in their queues.

Each process of workers installs them once, when it starts; installing is idempotent, so that however many processes
start there is one of each and its next tick stays where it is. A pattern, an interval or an option that has changed in
the code takes over then. From then on a process only looks whether they are there, and installs again what the server
has lost: a process of an older version, which still runs beside the new ones, must not win over them. It also ends, at
each look, those that stand in a queue from which they were moved: a process of an older version takes them for lost
there, and puts them back.

A schedule that the code declares no longer stays, and ticks: the process that declares it may be another program.
`Schedules.remove` ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from taurine.errors import StoreError, TaurineError
from taurine.jobs.backend import Backend
from taurine.jobs.envelope import Envelope
from taurine.jobs.handover.adoption import asked_by
from taurine.jobs.handover.dispatch import options_of_any
from taurine.jobs.schedules.declaring import DeclaredSchedule
from taurine.queue import Queue
from taurine.queue.scheduler import Scheduler
from taurine.service import Service

__all__ = ["ScheduleInstaller"]

log = logging.getLogger("taurine.jobs")


class ScheduleInstaller(Service[int]):
    """The service; a pass returns how many schedules it installed. Any number may run at once, in any processes.

    schedules: gives those that are declared now; one may be declared while workers run. interval: seconds from one look
    to the next. Default: 10.
    """

    def __init__(
        self, schedules: Callable[[], Iterable[DeclaredSchedule]], *, backend: Backend, interval: float = 10.0
    ) -> None:
        super().__init__(name="schedules", interval=interval, clock=backend.clock, random=backend.random)
        self._backend = backend
        self._schedules = schedules
        self._seen: set[str] = set()
        """Those that their server has taken since the start, or that cannot be installed."""

    async def run_once(self) -> int:
        by_queue: dict[str, list[DeclaredSchedule]] = {}
        for schedule in self._schedules():
            by_queue.setdefault(schedule.queue, []).append(schedule)
        return sum([await self._install_in(name, schedules) for name, schedules in by_queue.items()])

    async def _install_in(self, name: str, schedules: Sequence[DeclaredSchedule]) -> int:
        queue = await self._backend.queue(name)
        # Before it is read what stands here: of two versions that move one to and fro, the last to end the other's finds then that its own is gone.
        for schedule in schedules:
            await self._succeeds(schedule, self._leave_other_queues(schedule))
        standing = {scheduler.id: scheduler for scheduler in await queue.schedulers()}
        missing = [schedule for schedule in schedules if not self._stands(schedule.id, standing)]
        return sum([await self._install(queue, schedule) for schedule in missing])

    def _stands(self, schedule_id: str, standing: Mapping[str, Scheduler]) -> bool:
        found = standing.get(schedule_id)
        # One without a next run has lost it together with other data.
        return schedule_id in self._seen and found is not None and found.next_job_id is not None

    async def _install(self, queue: Queue, schedule: DeclaredSchedule) -> bool:
        installed = await self._succeeds(schedule, self._upsert(queue, schedule))
        self._seen.add(schedule.id)  # not before its server has answered: what the code has changed is yet to take over
        return installed

    async def _succeeds(self, schedule: DeclaredSchedule, step: Awaitable[None]) -> bool:
        try:
            await step
        except StoreError:
            raise
        except TaurineError as error:  # of this one; the others are to be installed all the same
            if schedule.id not in self._seen:
                log.error("schedule %s of queue %s cannot be installed: %s", schedule.id, schedule.queue, error)
            return False
        return True

    async def _upsert(self, queue: Queue, schedule: DeclaredSchedule) -> None:
        job_type = schedule.job_type
        envelope = Envelope(tenant=schedule.tenant, created_by=asked_by(schedule.id))
        shared = self._backend.catalog.rules_of(queue.name).shared
        options = job_type.options
        times: Any = {"every": schedule.times.every, "offset": schedule.times.offset}
        if schedule.times.every is None:
            times = {"pattern": schedule.times.pattern, "tz": schedule.times.tz}
        await queue.upsert_scheduler(
            schedule.id,
            name=job_type.name,
            **times,
            **options_of_any(job_type, options.retry, options.priority, envelope, shared=shared),
        )

    async def _leave_other_queues(self, schedule: DeclaredSchedule) -> None:
        """End the schedule where it was before it was moved to another queue, or it would tick in both."""
        for name in self._backend.catalog.queues:
            if name == schedule.queue:
                continue
            queue = await self._backend.queue(name)
            before = await queue.get_scheduler(schedule.id)
            if before is not None and before.name == schedule.job_type.name:
                await queue.remove_scheduler(schedule.id)
                level = logging.INFO if schedule.id in self._seen else logging.WARNING
                log.log(level, "schedule %s has moved from queue %s to %s", schedule.id, name, schedule.queue)
