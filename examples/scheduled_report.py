"""A report every morning and every Monday, mailed to each admin once.

    python examples/scheduled_report.py

The day it is of follows from the time that the tick stands for, in the report's own zone: a worker that was down until noon, a retry, and a run by hand on another
day all make the same report, and the days on which the clocks change have their 23 and 25 hours. Here each schedule is triggered by hand, so that you need not wait.
"""

import asyncio
import json
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from taurine import Context, Retry, Taurine

ZONE = "Europe/Berlin"

app = Taurine("reporting")
app.queue("reports", concurrency=2)


class Window(NamedTuple):
    start: datetime
    end: datetime

    @classmethod
    def before(cls, moment: datetime, *, days: int) -> "Window":
        """The whole days before that of `moment`, by the clocks of the zone."""
        zone = ZoneInfo(ZONE)
        today = moment.astimezone(zone).date()
        first = today - timedelta(days=days)
        return cls(datetime.combine(first, time(), zone), datetime.combine(today, time(), zone))


class ReportMail(BaseModel):
    report: str
    day: date
    admin: str
    path: str


class Desk:
    """In place of your database, its admins, and your mail provider."""

    def __init__(self) -> None:
        self.admins = ["ada@example.com", "grace@example.com"]
        self.mails: list[str] = []

    async def count(self, what: str, window: Window) -> int:
        hours = (window.end.astimezone(UTC) - window.start.astimezone(UTC)) / timedelta(hours=1)
        return round(hours * {"opened": 4, "closed": 3, "escalated": 1}[what])


@app.job("report.mail", queue="email", job_id="report-mail:{report}:{day}:{admin}", retry=Retry.EMAIL)
async def mail_report(mail: ReportMail, ctx: Context) -> None:
    desk: Desk = ctx.deps
    desk.mails.append(f"{mail.report} of {mail.day} to {mail.admin}")


async def make(report: str, ctx: Context, *, days: int) -> str:
    desk: Desk = ctx.deps
    window = Window.before(ctx.scheduled_for or ctx.created_at, days=days)
    names = ("opened", "closed", "escalated")
    counts = await asyncio.gather(*(desk.count(name, window) for name in names))

    path = app.settings.home / "reports" / f"{report}-{window.start:%Y-%m-%d}.json"  # in place of an object store
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(zip(names, counts, strict=True))), "utf-8")

    # A job for each admin, whose id says what it is of: when this one runs again nobody gets a second mail.
    mails = [ReportMail(report=report, day=window.start.date(), admin=each, path=path.name) for each in desk.admins]
    await mail_report.enqueue_many(mails)
    return path.name


@app.cron("0 7 * * *", tz=ZONE, id="daily-report", queue="reports", description="Yesterday, at breakfast.")
async def daily(ctx: Context) -> str:
    return await make("daily", ctx, days=1)


@app.cron("0 7 * * 1", tz=ZONE, id="weekly-report", queue="reports", description="The week before, on Mondays.")
async def weekly(ctx: Context) -> str:
    return await make("weekly", ctx, days=7)


async def main() -> None:
    desk = Desk()
    async with app, app.worker(deps=desk):
        for schedule in await app.schedules.list():
            print(f"{schedule.id}: {schedule.text}, next on {schedule.next_runs(1)[0]:%A}")
        for schedule_id in ("daily-report", "weekly-report"):
            for _ in range(2):
                handle = await app.schedules.trigger(schedule_id)
                await handle.result(timeout=30)
        async for record in app.list(type="report.mail"):
            await app.wait(record.id, timeout=30)
    print(len(desk.mails), "mails of 4 reports, 2 of them made again")


if __name__ == "__main__":
    asyncio.run(main())
