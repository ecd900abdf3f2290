"""What the tests of schedules work on: an application with a clock of its own, its queue's scheduler, and what its
handlers saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jobs.reconciling import NO_UPKEEP, backend_of
from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.jobs.schedules.installing import ScheduleInstaller
from taurine.jobs.worker.worker import JobWorker
from taurine.ledger.records import JobRecord
from taurine.queue.scheduler import Scheduler
from taurine.testing import TestClock

__all__ = ["EVENING", "Seen", "Ticking", "clock_at", "installer", "tick_id", "utc"]

EVENING = "2026-03-10 20:00"
"""A Tuesday without changes of the clock near it; UTC."""


class Seen(NamedTuple):
    """One attempt, as its handler saw it."""

    job_id: str
    attempt: int
    scheduled_for: datetime | None


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock_at(text: str = EVENING) -> TestClock:
    return TestClock(utc(text).timestamp())


def tick_id(schedule_id: str, at: str) -> str:
    """The id of a schedule's tick at this time, UTC."""
    return f"repeat:{schedule_id}:{round(utc(at).timestamp() * 1000)}"


def installer(app: Taurine, **options: Any) -> ScheduleInstaller:
    """What a worker of all queues would run."""
    return ScheduleInstaller(lambda: app._timetable, backend=backend_of(app), **options)


class Ticking:
    """A schedule `report` on the queue `q`, at 03:00 UTC, and what its handler has seen.

    failing: attempts that fail before one succeeds.
    """

    def __init__(
        self, app: Taurine, clock: TestClock, *, pattern: str = "0 3 * * *", failing: int = 0, **options: Any
    ) -> None:
        self.app = app
        self.clock = clock
        self.seen: list[Seen] = []
        self.failing = failing
        self.may_end = asyncio.Event()
        self.may_end.set()

        @app.cron(pattern, id="report", queue="q", **options)
        async def report(ctx: Context) -> str:
            self.seen.append(Seen(ctx.job_id, ctx.attempt, ctx.scheduled_for))
            await self.may_end.wait()
            if len(self.seen) <= self.failing:
                raise ConnectionError("the database is away")
            return "sent"

    def at(self, text: str) -> None:
        """Move the clock to a later time, UTC."""
        self.clock.advance(utc(text).timestamp() - self.clock.now())

    async def scheduler(self, schedule_id: str = "report", queue: str = "q") -> Scheduler | None:
        return await (await backend_of(self.app).queue(queue)).get_scheduler(schedule_id)

    async def next_at(self) -> str:
        """When the queue has the next tick, UTC."""
        scheduler = await self.scheduler()
        assert scheduler is not None
        return f"{datetime.fromtimestamp(scheduler.next_at, UTC):%Y-%m-%d %H:%M}"

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncGenerator[JobWorker]:
        """With a worker that installs and runs it."""
        usual: dict[str, Any] = {"upkeep": NO_UPKEEP}
        async with self.app.worker(**(usual | options)) as worker:
            yield worker

    async def until(self, job_id: str, status: str) -> JobRecord:
        async def reached() -> JobRecord | None:
            record = await self.app.get(job_id)
            assert record is not None, f"no record of {job_id}"
            assert record.status == status, record.status
            return record

        found = await eventually(reached, 10, f"{job_id} is not {status}")
        assert found is not None
        return found
