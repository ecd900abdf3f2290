from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.eventually import eventually
from taurine import CatalogError, ScheduleNotFound
from taurine.testing import TestClock, drain

TUESDAY = datetime(2026, 3, 10, 5, 59, 59, tzinfo=UTC)
"""A second before seven in Berlin."""


@pytest.fixture
def clock() -> TestClock:
    return TestClock(TUESDAY)


@pytest.fixture
def example(imported: Callable[..., Any], clock: TestClock) -> Any:
    return imported("scheduled_report", clock=clock)


def test_the_program_mails_each_admin_once(started: Callable[..., str]) -> None:
    """SEED-201, SEED-202, SEED-268."""
    daily, weekly, mails = started("scheduled_report").splitlines()

    assert re.fullmatch(r"daily-report: at 07:00, every day, next on \w+day", daily)
    assert weekly == "weekly-report: at 07:00, only on Monday, next on Monday"
    assert mails == "4 mails of 4 reports, 2 of them made again"


def test_when_they_tick(example: Any) -> None:
    """SEED-200: seven in the zone, before and after its clocks change; two at once, over all workers."""
    times = example.app.schedules.next_runs("daily-report", 3, after=datetime(2026, 3, 27, 12, tzinfo=UTC))

    assert [time.isoformat() for time in times] == [
        "2026-03-28T07:00:00+01:00",
        "2026-03-29T07:00:00+02:00",
        "2026-03-30T07:00:00+02:00",
    ]
    assert example.app.catalog.rules_of("reports").concurrency == 2


@pytest.mark.parametrize(
    ("tick", "hours"), [("2026-03-30 05:00", 23), ("2026-10-26 06:00", 25), ("2026-03-10 06:00", 24)]
)
def test_the_window_is_the_day_before_by_the_clocks_of_the_zone(example: Any, tick: str, hours: int) -> None:
    """SEED-203, SEED-269."""
    moment = datetime.fromisoformat(tick).replace(tzinfo=UTC)
    window = example.Window.before(moment, days=1)

    assert (window.start.hour, window.end.hour) == (0, 0)
    assert window.end.date() == moment.date()
    assert (window.end.timestamp() - window.start.timestamp()) / 3600 == hours


async def test_a_tick_that_is_late_and_run_twice_is_of_its_own_day(example: Any, clock: TestClock) -> None:
    """SEED-202, SEED-203, SEED-268: no worker ran on Tuesday; on Thursday the report is Monday's, and made again it is
    the same and mails nobody.
    """
    desk = example.Desk()
    async with example.app.worker(deps=desk):

        async def installed() -> bool:
            return (await example.app.schedules.get("daily-report")).next_run is not None

        await eventually(installed, message="the schedule is not there")
    clock.advance(timedelta(days=2))
    (report,) = (await drain(example.app, deps=desk)).of("daily-report")
    await drain(example.app, deps=desk)
    mails = list(desk.mails)
    await example.app.retry(report.id)
    again = (await drain(example.app, deps=desk))[report.id]

    assert report.output == again.output == "daily-2026-03-09.json"
    assert (report.scheduled_for, report.started_at) == (TUESDAY + timedelta(seconds=1), clock.datetime)
    assert sorted(mails) == [f"daily of 2026-03-09 to {admin}@example.com" for admin in ("ada", "grace")]
    assert desk.mails == mails


async def test_the_counts_are_made_at_once(example: Any) -> None:
    """SEED-202: none of the three is answered before all were asked."""

    class Slow(example.Desk):
        asked = 0
        all_asked = asyncio.Event()

        async def count(self, what: str, window: Any) -> int:
            self.asked += 1
            if self.asked == 3:
                self.all_asked.set()
            await self.all_asked.wait()
            return await super().count(what, window)

    handle = await example.app.schedules.trigger("daily-report")
    await drain(example.app, deps=Slow())
    file = example.app.settings.home / "reports" / (await handle.record()).output

    assert json.loads(file.read_bytes()) == {"opened": 96, "closed": 72, "escalated": 24}


async def test_a_report_that_nobody_knows_is_an_error(example: Any) -> None:
    """SEED-201: of another name, and of the same one twice."""
    with pytest.raises(ScheduleNotFound, match="weekly-report"):
        await example.app.schedules.trigger("weakly-report")
    with pytest.raises(CatalogError):
        example.app.cron("0 8 * * *", id="daily-report")(example.daily.function)
