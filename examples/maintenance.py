"""Maintenance every night: expired sessions are deleted a piece at a time, and a run that dies goes on where it was.

    python examples/maintenance.py

One statement for all of them would hold the table for as long as it takes. The run goes through the table by its key instead, a chunk in each transaction, and keeps in
`ctx.state` how far it came. What is expired follows from the time that the tick stands for: a retry deletes the same. Here it is triggered by hand, so that you need
not wait for the night.
"""

import asyncio
import sqlite3
import time
from contextlib import closing

from pydantic import BaseModel

from taurine import Context, Exponential, Retry, Taurine

CHUNK = 500
DAY = 24 * 3600

app = Taurine("housekeeping")
app.queue("maintenance", concurrency=1)  # over all workers: a run that takes until the next night is not met by it


class Swept(BaseModel):
    looked_at: int
    deleted: int


def open_site() -> sqlite3.Connection:
    """Your own database. Times are seconds since 1970."""
    site = sqlite3.connect(app.settings.home / "site.db")
    site.execute("create table if not exists session (id integer primary key, user text, expires_at integer not null)")
    return site


def last_id(site: sqlite3.Connection) -> int:
    return site.execute("select coalesce(max(id), 0) from session").fetchone()[0]


def end_of_chunk(site: sqlite3.Connection, after: int, last: int) -> tuple[int, int]:
    """The last id of the next rows after this one, and how many rows that are."""
    rows = "select id from session where id > ? and id <= ? order by id limit ?"
    return site.execute(f"select coalesce(max(id), ?), count(*) from ({rows})", (last, after, last, CHUNK)).fetchone()


def delete_expired(site: sqlite3.Connection, after: int, until: int, now: int) -> int:
    """Of one chunk, in one transaction. Done twice it does nothing the second time."""
    with site:
        expired = "delete from session where id > ? and id <= ? and expires_at <= ?"
        return site.execute(expired, (after, until, now)).rowcount


@app.cron(
    "30 3 * * *",
    tz="UTC",
    id="expired-sessions",
    queue="maintenance",
    retry=Retry(attempts=5, backoff=Exponential(30.0)),
    description="Deletes the sessions that have expired.",
)
def sweep(ctx: Context) -> Swept:
    now = int((ctx.scheduled_for or ctx.created_at).timestamp())
    with closing(open_site()) as site:
        # Sessions that begin meanwhile are the next night's, so the run ends.
        state = ctx.state or {"after": 0, "last": last_id(site), "looked_at": 0, "deleted": 0}
        while state["after"] < state["last"]:
            ctx.raise_if_cancelled()
            until, rows = end_of_chunk(site, state["after"], state["last"])
            deleted = delete_expired(site, state["after"], until, now)
            looked_at = state["looked_at"] + rows
            state = {**state, "after": until, "looked_at": looked_at, "deleted": state["deleted"] + deleted}
            # Saved a few times a second: after a death some chunks are looked at again, and what they deleted is not counted.
            ctx.state = state
            ctx.progress(until, state["last"])
    ctx.log.info("swept", looked_at=state["looked_at"], deleted=state["deleted"])
    return Swept(looked_at=state["looked_at"], deleted=state["deleted"])


async def main() -> None:
    now = int(time.time())
    async with app, app.worker():
        with closing(open_site()) as site, site:
            if last_id(site) == 0:
                expiries = [now + (DAY if each % 5 < 2 else -DAY) for each in range(2_000)]
                site.executemany("insert into session values (null, 'ada', ?)", [(each,) for each in expiries])
        print(app.schedules.next_runs("expired-sessions", 1)[0].strftime("next at %H:%M"))

        for _ in range(2):  # as the schedule does, but now; the second finds nothing left to delete
            handle = await app.schedules.trigger("expired-sessions")
            swept = await handle.result(timeout=30)
            progress = (await handle.record()).progress
            print(f"{swept.deleted} of {swept.looked_at} sessions deleted, {progress['percentage']} % done")


if __name__ == "__main__":
    asyncio.run(main())
