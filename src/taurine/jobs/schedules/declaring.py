"""What the code declares of schedules.

Declaring opens nothing and creates nothing; workers install what is declared here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from taurine.errors import AlreadyDeclared, CatalogError, InvalidOption, PayloadError, ScheduleNotFound, did_you_mean
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.schedules.times import times_after
from taurine.options import Seconds
from taurine.queue.cron import CronPattern
from taurine.queue.scheduler import Schedule, check_scheduler_id

__all__ = ["DeclaredSchedule", "TickedBy", "Timetable"]

TickedBy: TypeAlias = Literal["workers", "http"]
"""Who sees to it that a schedule ticks: the queue, once a worker has installed it there; or somebody outside, who calls
`/cron/{id}` when its time has come.
"""

_TICKED_BY: tuple[TickedBy, ...] = get_args(TickedBy)

_RUN = re.compile(r"(.+):\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""The id of a run for a given time: one that anybody could guess."""

_LONG_AGO = 1_000_000_000.0
"""Wall seconds, in 2001: a pattern and its zone are tried once when they are declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule:
    """One schedule of an application.

    id: what it is called for ever: the queue's scheduler has this id, and each tick's. times: an interval, or a pattern
    with its zone. payload: of each tick, the type's with all its defaults. tenant: whose job each tick is, as that
    payload says. by: who sees to it that it ticks.
    """

    id: str
    job_type: JobType[Any, Any]
    times: Schedule
    description: str
    payload: Any
    tenant: str | None
    by: TickedBy = "workers"

    @classmethod
    def of(
        cls,
        job_type: JobType[Any, Any],
        schedule_id: str,
        times: Schedule,
        description: str,
        *,
        by: TickedBy = "workers",
    ) -> DeclaredSchedule:
        """A schedule of a job type.

        Raises InvalidName, InvalidOption for times that cannot be, and CatalogError for a payload that needs to be
        given something.
        """
        check_scheduler_id(schedule_id)
        if by not in _TICKED_BY:
            raise InvalidOption(f"schedule {schedule_id!r}: expected by to be 'workers' or 'http', got {by!r:.40}")
        try:
            if times.pattern is not None:
                CronPattern.parse(times.pattern)
            next(times_after(times, _LONG_AGO), None)
        except InvalidOption as error:
            raise InvalidOption(f"schedule {schedule_id!r}: {error}") from None
        try:
            payload = job_type.payload.decode("{}")
        except PayloadError as error:
            raise CatalogError(
                f"schedule {schedule_id!r}: nobody gives its ticks a payload, so that of {job_type.name!r} needs a default for each field: {error}"
            ) from None
        return cls(
            id=schedule_id,
            job_type=job_type,
            times=times,
            description=description,
            payload=payload,
            tenant=job_type.tenant_of(payload),
            by=by,
        )

    @classmethod
    def of_interval(cls, job_type: JobType[Any, Any], every: Seconds) -> DeclaredSchedule:
        """The schedule that a job type declares with its options. Raises as `of` does."""
        options = job_type.options
        # At the multiples since 1970, so that a tick has one time, and one record, also where the queue has forgotten when the last one was.
        times = Schedule.checked(every=every, offset=0.0)
        schedule_id = job_type.name if options.id is None else options.id
        return cls.of(job_type, schedule_id, times, options.description)

    @property
    def queue(self) -> str:
        return self.job_type.queue

    @property
    def source(self) -> str:
        """Where a run comes from that is asked for from outside, as its record says.

        No caller of the HTTP API can say so.
        """
        return f"schedule {self.id}"


class Timetable:
    """The schedules of one application, by id."""

    def __init__(self) -> None:
        self._schedules: dict[str, DeclaredSchedule] = {}

    def add(self, schedule: DeclaredSchedule) -> None:
        """Declare a schedule.

        Raises AlreadyDeclared for an id that is taken: its ticks could not be told from the other's.
        """
        self.require_free(schedule.id)
        self._schedules[schedule.id] = schedule

    def require_free(self, schedule_id: str) -> None:
        """Raise AlreadyDeclared for an id that is taken, before anything else of a declaration is written down."""
        if schedule_id in self._schedules:
            raise AlreadyDeclared(f"a schedule {schedule_id!r} is declared already; give each an id of its own")

    def find(self, schedule_id: str) -> DeclaredSchedule | None:
        """The schedule of this id, or None."""
        return self._schedules.get(schedule_id)

    def get(self, schedule_id: str) -> DeclaredSchedule:
        """The schedule of this id. Raises ScheduleNotFound, with the near miss."""
        found = self.find(schedule_id)
        if found is None:
            near = did_you_mean(schedule_id, list(self._schedules))
            raise ScheduleNotFound(f"no schedule {schedule_id!r:.80} is declared{near}", schedule_id=schedule_id)
        return found

    def of_queues(self, queues: Iterable[str]) -> list[DeclaredSchedule]:
        """The schedules that workers of these queues are to install there."""
        wanted = set(queues)
        return [schedule for schedule in self if schedule.queue in wanted and schedule.by == "workers"]

    def kept_for(self, job_id: str) -> str | None:
        """The source of requests for which an id is kept, since it is that of a run of a schedule here; None for any
        other id.
        """
        found = _RUN.fullmatch(job_id)
        schedule = None if found is None else self._schedules.get(found[1])
        return None if schedule is None else schedule.source

    def __iter__(self) -> Iterator[DeclaredSchedule]:
        return iter(self._schedules.values())

    def __len__(self) -> int:
        return len(self._schedules)
