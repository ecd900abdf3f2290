"""Jobs whose worker is gone: found, put back, and given up when it happens too often (A15)."""

from __future__ import annotations

import sys
from asyncio.subprocess import create_subprocess_exec

from support.eventually import eventually
from support.site import Site
from taurine.queue.job import Job
from taurine.testing import TestClock

INTERVAL = 30.0


class Recording:
    """A handler that notes each start."""

    def __init__(self) -> None:
        self.started: list[int] = []

    async def __call__(self, job: Job) -> None:
        self.started.append(job.attempts_started)


async def abandon(site: Site) -> Job:
    """Claim the next job as a worker that dies at once: its lease runs out, and it is under suspicion."""
    gone = site.worker(None)
    job = await gone.fetch()
    assert job is not None
    await site.raw.delete(site.keys.lock(job.stored_id), site.keys.key("stalled-check"))
    await gone.recover_stalled()
    await site.raw.delete(site.keys.key("stalled-check"))
    return job


_VICTIM = """
import asyncio, sys
from taurine.queue import Worker
async def handler(job):
    await job.update_progress("started")
    await asyncio.Event().wait()
url, prefix = sys.argv[1:]
asyncio.run(Worker("q", handler, url, prefix=prefix, lease=0.5, stalled_interval=0).run())
"""


async def test_a_killed_workers_job_runs_once_more_bmq_085(site: Site) -> None:
    handler = Recording()
    await site.queue.add("work", job_id="w")
    victim = await create_subprocess_exec(sys.executable, "-c", _VICTIM, site.url, site.keys.prefix)
    try:
        await eventually(lambda: site.raw.hget(site.keys.job("w"), "progress"), 20.0)
    finally:
        victim.kill()
        await victim.wait()

    async with site.working(handler, stalled_interval=0.1):
        await site.until(completed=1)

    stored = await site.hash("w")
    assert (handler.started, stored["ats"], stored["atm"], stored["stc"]) == ([2], "2", "1", "1")


async def test_a_stalled_job_is_put_back_and_told_bmq_085(timed_site: Site) -> None:
    site = timed_site
    handler = Recording()
    await site.queue.add("work")
    await site.queue.add("behind it")
    await abandon(site)
    stalled: list[str] = []
    async with site.working(handler, concurrency=1, stalled_interval=INTERVAL) as worker:
        worker.on("stalled", stalled.append)
        await site.until(completed=2)

    assert stalled == ["1"]
    assert await site.events("stalled") == [{"event": "stalled", "jobId": "1"}]
    assert sorted(handler.started) == [1, 2]


async def test_a_stalled_job_goes_to_the_front_bmq_085(timed_site: Site) -> None:
    for _ in range(3):
        await timed_site.queue.add("work")
    await abandon(timed_site)
    assert await timed_site.worker(None).recover_stalled() == ["1"]

    assert await timed_site.line() == ["1", "2", "3"]


async def test_a_job_that_stalls_too_often_is_failed_without_a_run_bmq_085(timed_site: Site) -> None:
    site = timed_site
    handler = Recording()
    await site.queue.add("work", attempts=10)
    await abandon(site)
    assert await site.worker(None).recover_stalled() == ["1"]
    await abandon(site)
    async with site.working(handler):
        await site.until(failed=1)

    stored = await site.hash("1")
    assert (handler.started, stored["failedReason"]) == ([], "job stalled more than allowable limit")
    assert stored["stc"] == "2"


async def test_how_often_a_job_may_stall_is_an_option_bmq_085(timed_site: Site) -> None:
    site = timed_site
    handler = Recording()
    await site.queue.add("never again", job_id="a")
    await abandon(site)
    async with site.working(handler, max_stalled=0):
        await site.until(failed=1)
    assert handler.started == []

    await site.queue.add("work", job_id="b")
    for _ in range(3):
        await abandon(site)
        await site.worker(None, max_stalled=4).recover_stalled()
        await site.raw.delete(site.keys.key("stalled-check"))
    await abandon(site)
    async with site.working(handler, max_stalled=4):
        await site.until(failed=1, completed=1)
    assert handler.started == [5]


async def test_a_job_under_a_lease_does_not_stall_bmq_085(timed_site: Site) -> None:
    site = timed_site
    await site.queue.add("work")
    worker = site.worker(None)
    job = await worker.fetch()
    assert job is not None
    for _ in range(3):
        assert await worker.recover_stalled() == []
        await site.raw.delete(site.keys.key("stalled-check"))
    await worker.complete(job)
    await site.until(completed=1)


async def test_a_job_is_suspected_before_it_is_taken_away_bmq_085(timed_site: Site) -> None:
    """One look is not enough: between claim and look a worker may just have been slow to renew."""
    site = timed_site
    await site.queue.add("work")
    gone = site.worker(None)
    assert await gone.fetch()
    await site.raw.delete(site.keys.lock("1"))
    assert await gone.recover_stalled() == []
    await site.until(active=1)


async def test_one_worker_looks_for_all_bmq_085(timed_site: Site) -> None:
    site = timed_site
    await site.queue.add("work")
    await abandon(site)
    assert await site.worker(None, stalled_interval=INTERVAL).recover_stalled() == ["1"]
    assert 0 < await site.raw.pttl(site.keys.key("stalled-check")) <= INTERVAL * 1000

    await abandon(site)
    await site.raw.set(site.keys.key("stalled-check"), "another worker looked", px=60_000)
    assert await site.worker(None, stalled_interval=INTERVAL).recover_stalled() == []
    await site.until(active=1)


async def test_a_worker_is_not_kept_from_its_own_next_look_bmq_085(timed_site: Site) -> None:
    """Jitter may bring it a tenth earlier."""
    worker = timed_site.worker(None, stalled_interval=INTERVAL)

    await worker.recover_stalled()

    assert 0 < await timed_site.raw.pttl(timed_site.keys.key("stalled-check")) < 0.9 * INTERVAL * 1000


async def test_it_looks_again_after_each_interval_bmq_085(timed_site: Site, hand_clock: TestClock) -> None:
    site = timed_site
    handler = Recording()
    async with site.working(handler, stalled_interval=INTERVAL, renew_leases=False):
        await eventually(lambda: site.raw.exists(site.keys.key("stalled-check")))
        await eventually(lambda: hand_clock.sleepers)
        await site.raw.delete(site.keys.key("stalled-check"))
        await site.raw.rpush(site.keys.active, "lost")
        await site.raw.hset(site.keys.job("lost"), mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": "1"})
        for _ in range(2):
            hand_clock.advance(INTERVAL * 1.2)
            await eventually(lambda: site.raw.exists(site.keys.key("stalled-check")))
            await eventually(lambda: hand_clock.sleepers)
            await site.raw.delete(site.keys.key("stalled-check"))
        await site.until(completed=1)


async def test_the_look_can_be_switched_off_bmq_087(timed_site: Site) -> None:
    site = timed_site
    handler = Recording()
    await site.queue.add("work")
    await abandon(site)
    async with site.working(handler, stalled_interval=0):
        following = await site.queue.add("work")
        await eventually(lambda: site.raw.zscore(site.keys.completed, following.id))

    await site.until(active=1, completed=1)
    assert await site.raw.exists(site.keys.key("stalled-check")) == 0
