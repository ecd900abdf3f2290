"""Usage that is rolled over every hour: into the right hour however late a tick is, and no hour is left out.

    python examples/usage_rollover.py

A tick stands for a time, `ctx.scheduled_for`; when it really runs is something else. Ticks that were due while no worker ran are one tick afterwards, so the handler asks
its own data which hours are not rolled over yet, and does them in order. Each hour is one transaction, so a worker may die between two of them.
"""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

from pydantic import BaseModel

from taurine import Context, Taurine

HOUR = 3600

app = Taurine("metering")


class RolledOver(BaseModel):
    hours: list[str]


def open_books() -> sqlite3.Connection:
    """Your own database. Times are seconds since 1970."""
    books = sqlite3.connect(app.settings.home / "usage.db")
    books.execute("create table if not exists usage (at integer not null, units integer not null)")
    books.execute("create table if not exists usage_hour (hour integer primary key, units integer not null)")
    return books


def missing_hours(books: sqlite3.Connection, until: int) -> range:
    """The full hours before `until` that are not rolled over, the oldest first."""
    done = books.execute("select max(hour) + 3600 from usage_hour").fetchone()[0]
    first = books.execute("select min(at) from usage").fetchone()[0]
    start = done if done is not None else until if first is None else first // HOUR * HOUR
    return range(start, until, HOUR)


@app.cron("5 * * * *", tz="UTC", id="usage-roll-over", queue="usage", description="Usage by the hour, for billing.")
def roll_over(ctx: Context) -> RolledOver:
    scheduled = ctx.scheduled_for or ctx.created_at
    until = int(scheduled.timestamp()) // HOUR * HOUR
    hours: list[str] = []
    with closing(open_books()) as books:
        for hour in ctx.track(missing_hours(books, until)):
            with books:
                # Two that run at once both try; the key lets one of them.
                books.execute(
                    """insert into usage_hour select ?, coalesce(sum(units), 0) from usage where at >= ? and at < ?
                    on conflict do nothing""",
                    (hour, hour, hour + HOUR),
                )
            hours.append(f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%d %H:00}")
    ctx.log.info("rolled over", hours=hours, scheduled_for=scheduled.isoformat())
    return RolledOver(hours=hours)


async def main() -> None:
    now = int(time.time()) // HOUR * HOUR
    async with app, app.worker():
        with closing(open_books()) as books, books:
            books.execute("delete from usage")
            books.execute("delete from usage_hour")
            books.executemany("insert into usage values (?, ?)", [(now - 600 * each, each) for each in range(1, 19)])
        print(app.schedules.next_runs("usage-roll-over", 1)[0].strftime("next at minute %M"))

        for _ in range(2):  # as the schedule does, but now; the second finds nothing left to do
            handle = await app.schedules.trigger("usage-roll-over")
            result = await handle.result(timeout=30)
            print(f"rolled over {len(result.hours)} hours")
        with closing(open_books()) as books:
            print("units:", [units for (units,) in books.execute("select units from usage_hour order by hour")])


if __name__ == "__main__":
    asyncio.run(main())
