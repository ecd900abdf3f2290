"""A script without an event loop that enqueues, and a worker in a process of its own.

    python examples/plain_script.py

Each call has a `_sync` form, for scripts, threads, and frameworks that are not async. What the script enqueues outlives it: it may end before anybody has worked on it. Here
it starts a worker and waits, so that you see something; in production that is `taurine --app examples.plain_script:app worker` under systemd or in a container.
"""

import asyncio
import subprocess
import sys
from datetime import date, timedelta

from pydantic import BaseModel

from taurine import Taurine

app = Taurine("archive")


class Day(BaseModel):
    day: date


@app.job("archive.day", queue="archive", job_id="archive:{day}")
def archive_day(request: Day) -> str:
    return f"archived {request.day}"


def enqueue_week(last: date) -> list[str]:
    """The ids of a week's jobs; asked for twice, they are the same jobs."""
    days = [Day(day=last - timedelta(days=back)) for back in range(7)]
    handles = archive_day.enqueue_many_sync(days, source="plain_script.py")
    print(sum(not handle.duplicate for handle in handles), "jobs accepted")
    return [handle.id for handle in handles]


async def work() -> None:
    await app.worker().run(handle_signals=True)


def main() -> None:
    job_ids = enqueue_week(date(2026, 3, 8))
    worker = subprocess.Popen([sys.executable, __file__, "worker"])
    try:
        for job_id in job_ids:
            record = app.wait_sync(job_id, timeout=30)
            print(record and record.output)
    finally:
        worker.terminate()  # it ends what it has begun
        worker.wait()
        app.close_sync()


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        asyncio.run(work())
    else:
        main()
