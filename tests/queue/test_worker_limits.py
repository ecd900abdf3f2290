"""How many jobs may run, and how many may start in a while, over all workers of a queue."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import RateLimited
from taurine.options import RateLimit
from taurine.queue.job import Job
from taurine.testing import TestClock

LONG = 60.0
"""Seconds of a window or pause that no test waits for: its end is made, not awaited."""


class Counting:
    """A handler that counts its starts, and how many run at once."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running = 0
        self.most = 0

    async def __call__(self, job: Job) -> None:
        self.started.append(job.id)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1


async def end_window(site: Site, clock: TestClock) -> None:
    """What time would do: the limiter's key is gone, and the workers have slept for as long as they were told."""
    await site.raw.delete(site.keys.limiter)
    clock.advance(LONG)


# Concurrency over all workers ----------------------------------------------------------------------------------------------------


async def test_a_queues_concurrency_holds_over_two_workers_bmq_046(site: Site) -> None:
    """And a slot that is freed on one worker is not left unused by the other: each waits a minute if nobody calls it."""
    handler = Counting()
    most_active = 0

    async def watching(job: Job) -> None:
        nonlocal most_active
        most_active = max(most_active, await site.raw.llen(site.keys.active))
        await handler(job)

    await site.queue.set_concurrency(3)
    async with (
        site.working(watching, site.url, concurrency=5, drain_delay=60),
        site.working(watching, site.url, concurrency=5, drain_delay=60),
    ):
        await site.queue.add_many([("work", {})] * 100)
        await site.until(completed=100)
        for _ in range(20):
            await site.queue.add("work")
        await site.until(completed=120)

    assert handler.most == 3
    assert most_active == 3


async def test_a_slot_freed_by_one_worker_is_taken_by_another_bmq_046(site: Site) -> None:
    """The first worker has its hands full of nothing: it is stopped while the second waits for the only slot."""
    gate = asyncio.Event()
    started: list[str] = []

    async def handler(job: Job) -> None:
        started.append(job.id)
        await gate.wait()

    await site.queue.set_concurrency(1)
    await site.queue.add_many([("work", {})] * 3)
    async with site.working(handler, drain_delay=60) as first:
        await eventually(lambda: started)
        async with site.working(handler, drain_delay=60):
            await first.pause(wait=False)
            gate.set()
            await site.until(completed=3)


async def test_raising_the_queues_concurrency_is_heard_at_once_bmq_046(site: Site) -> None:
    gate = asyncio.Event()
    running: list[str] = []

    async def handler(job: Job) -> None:
        running.append(job.id)
        await gate.wait()

    await site.queue.set_concurrency(1)
    await site.queue.add_many([("work", {})] * 6)
    async with site.working(handler, concurrency=5, drain_delay=60):
        await site.until(active=1, wait=5)
        await site.queue.set_concurrency(3)
        await site.until(active=3, wait=3)
        await site.queue.set_concurrency(None)
        await site.until(active=5, wait=1)
        gate.set()
        await site.until(completed=6)


# Starts per window ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limited_by", ["worker", "queue", "both"])
async def test_no_window_sees_more_starts_than_allowed(
    timed_site: Site, hand_clock: TestClock, limited_by: str
) -> None:
    """BMQ-092 a worker's limit is shared by all workers; BMQ-047 one that is set on the queue comes first."""
    site = timed_site
    handler = Counting()
    own = {
        "worker": RateLimit(5, LONG),
        "queue": None,
        "both": RateLimit(1_000, LONG),
    }[limited_by]
    if limited_by != "worker":
        await site.queue.set_rate_limit(RateLimit(5, LONG))
    await site.queue.add_many([("work", {})] * 12)
    async with site.working(handler, rate_limit=own), site.working(handler, rate_limit=own):
        for started in (5, 10):
            await site.until(completed=started, wait=12 - started)
            await eventually(lambda: hand_clock.sleepers >= 2)
            assert len(handler.started) == started
            assert await site.raw.get(site.keys.limiter) == "5"
            assert 0 < await site.raw.pttl(site.keys.limiter) <= LONG * 1000
            await end_window(site, hand_clock)
        await site.until(completed=12)


async def test_twenty_jobs_at_five_a_window_take_three_windows_bmq_047(site: Site) -> None:
    handler = Counting()
    await site.queue.set_rate_limit(RateLimit(5, 0.2))
    await site.queue.add_many([("work", {})] * 20)
    before = time.monotonic()
    async with site.working(handler, drain_delay=60), site.working(handler, drain_delay=60):
        await site.until(completed=20)

    assert time.monotonic() - before >= 0.6


async def test_a_limit_that_is_lifted_from_the_queue_holds_no_more_bmq_047(timed_site: Site) -> None:
    handler = Counting()
    await timed_site.queue.set_rate_limit(RateLimit(1, LONG))
    await timed_site.queue.add_many([("work", {})] * 5)
    async with timed_site.working(handler, drain_delay=60):
        await timed_site.until(completed=1, wait=4)
        await timed_site.queue.set_rate_limit(None)
        await timed_site.queue.lift_limit()
        await timed_site.until(completed=5)


async def test_a_job_that_is_only_failed_costs_no_start_bmq_092(timed_site: Site) -> None:
    site = timed_site
    handler = Counting()
    await site.queue.add_many([("work", {})] * 4)
    for job_id in ("1", "2"):
        await site.raw.hset(site.keys.job(job_id), "defa", "a child failed")
    async with site.working(handler, rate_limit=RateLimit(2, LONG)):
        await eventually(lambda: site.raw.zcard(site.keys.failed), message="jobs that are marked to fail")
        await site.until(failed=2, completed=2)


async def test_a_limited_worker_looks_again_though_nobody_calls_it_bmq_092(
    timed_site: Site, hand_clock: TestClock
) -> None:
    """The limiter may be deleted by hand, or by an older version that wakes nobody: 30 s are the most it idles."""
    site = timed_site
    handler = Counting()
    await site.raw.set(site.keys.limiter, 2**53 - 1, px=3_600_000)
    await site.queue.add("work")
    await site.raw.delete(site.keys.marker)
    worker = site.worker(
        handler, rate_limit=RateLimit(10, LONG), renew_leases=False, stalled_interval=0, drain_delay=3_600
    )
    async with site.running(worker):
        await eventually(lambda: hand_clock.sleepers)
        await site.raw.delete(site.keys.limiter)
        await site.until(wait=1)
        hand_clock.advance(30.1)
        await site.until(completed=1)


async def test_a_queue_limited_by_hand_starts_nothing_until_it_is_lifted_bmq_048(timed_site: Site) -> None:
    site = timed_site
    handler = Counting()
    ready = asyncio.Event()
    await site.queue.limit_for(3_600)
    await site.queue.add("work")
    worker = site.worker(handler, drain_delay=60)
    worker.on("ready", ready.set)
    async with site.running(worker):
        await ready.wait()
        assert 3_500 < await site.queue.rate_limit_ttl() <= 3_600
        await site.until(wait=1)
        assert handler.started == []

        await site.queue.lift_limit()
        await site.until(completed=1)


async def test_a_limit_by_hand_ends_by_itself_bmq_048(site: Site) -> None:
    handler = Counting()
    before = time.monotonic()
    await site.queue.limit_for(0.3)
    await site.queue.add("work")
    async with site.working(handler, drain_delay=60):
        await site.until(completed=1)

    assert time.monotonic() - before >= 0.3


@pytest.mark.parametrize(
    ("before", "rate_limit", "holds"),
    [
        pytest.param((2**53 - 1, 50_000), None, True, id="longer, by hand"),
        pytest.param((2**53 - 1, 5_000), None, False, id="shorter, by hand"),
        pytest.param((1, 50_000), RateLimit(1, LONG), True, id="a longer window that is used up"),
        pytest.param((1, 50_000), RateLimit(9, LONG), False, id="a longer window that is not"),
    ],
)
async def test_a_job_that_asks_for_a_pause_shortens_none_bmq_075(
    timed_site: Site, before: tuple[int, int], rate_limit: RateLimit | None, holds: bool
) -> None:
    """A provider says "in 20 s" to one job, after it has said "in 50 s" to another."""
    site = timed_site

    async def handler(_: Job) -> None:
        starts, pause_ms = before
        await site.raw.set(site.keys.limiter, starts, px=pause_ms)
        raise RateLimited(20)

    await site.queue.add("work")
    async with site.working(handler, rate_limit=rate_limit):
        await eventually(lambda: site.raw.exists(site.keys.limiter))
        await site.until(wait=1)
        left = await site.raw.pttl(site.keys.limiter)
    assert (40_000 if holds else 15_000) < left <= (50_000 if holds else 20_000)
