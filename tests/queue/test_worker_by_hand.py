"""Fetching and settling by hand: the worker's parts without its loop. BMQ-095."""

from __future__ import annotations

import asyncio

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import CorruptJob, JobNotFound, LeaseLost, LeaseMissing, Permanent
from taurine.retry import Fixed
from taurine.testing import TestClock


async def test_a_hand_made_loop_bmq_095(site: Site) -> None:
    worker = site.worker(None, name="by hand".replace(" ", "-"))
    for number in range(5):
        await site.queue.add("work", {"n": number}, attempts=2)
    seen: list[tuple[int, int]] = []
    while (job := await worker.fetch()) is not None:
        seen.append((job.data["n"], job.attempts_started))
        if job.data["n"] == 3 and job.attempts_made == 0:
            await worker.fail(job, RuntimeError("once"))
        elif job.data["n"] == 4:
            await worker.fail(job, Permanent("never"))
        else:
            await worker.complete(job, job.data["n"] * 10)

    assert seen == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (3, 2)]
    await site.until(completed=4, failed=1)
    assert (await site.hash("3"))["returnvalue"] == "20"
    assert (await site.hash("3"))["pb"] == "by-hand"
    assert await site.raw.keys(site.keys.job("*:lock")) == []


async def test_nothing_to_fetch_bmq_095(site: Site) -> None:
    worker = site.worker(None)
    assert await worker.fetch() is None
    assert await worker.fetch(timeout=0.05) is None


async def test_a_waiting_fetch_gets_what_is_added_bmq_095(site: Site) -> None:
    worker = site.worker(None, drain_delay=60)
    fetching = asyncio.create_task(worker.fetch(timeout=30))
    await eventually(lambda: blocked(site))
    await site.queue.add("work")
    job = await asyncio.wait_for(fetching, 15)
    assert job is not None
    await worker.complete(job)
    await site.until(completed=1)


async def test_a_waiting_fetch_gets_what_becomes_due_bmq_095(site: Site) -> None:
    worker = site.worker(None, drain_delay=60)
    await site.queue.add("work", delay=0.2)
    job = await asyncio.wait_for(worker.fetch(timeout=30), 15)
    assert job is not None
    await worker.complete(job)


async def test_a_waiting_fetch_gets_a_job_that_is_delayed_meanwhile_bmq_095(site: Site) -> None:
    worker = site.worker(None, drain_delay=60)
    fetching = asyncio.create_task(worker.fetch(timeout=30))
    await eventually(lambda: blocked(site))
    await site.queue.add("work", delay=0.2)
    job = await asyncio.wait_for(fetching, 15)
    assert job is not None
    await worker.complete(job)


@pytest.mark.parametrize("end", ["time", "another job", "cancelled"])
async def test_a_fetch_leaves_the_alarm_of_a_job_that_is_due_later_to_others_bmq_095(site: Site, end: str) -> None:
    """It has popped the marker; an idle worker would hear of the job only when its own wait is over."""
    worker = site.worker(None, drain_delay=60)
    fetching = asyncio.create_task(worker.fetch(timeout=1 if end == "time" else 30))
    await eventually(lambda: blocked(site))
    later = await site.queue.add("later", delay=100)
    await eventually(lambda: blocked(site))
    if end == "another job":
        await site.queue.add("now")
    elif end == "cancelled":
        fetching.cancel()
    await asyncio.wait({fetching})

    assert fetching.cancelled() == (end == "cancelled")
    due_ms = await site.due_ms(later.stored_id)
    assert await site.raw.zrange(site.keys.marker, 0, -1, withscores=True) == [("1", due_ms)]


async def blocked(site: Site) -> bool:
    return any("b" in client["flags"] for client in await site.raw.client_list())


async def test_a_fetched_job_is_under_a_lease_bmq_095(site: Site) -> None:
    worker = site.worker(None, lease=20)
    await site.queue.add("work")
    job = await worker.fetch()
    assert job is not None
    assert await site.raw.get(site.keys.lock("1")) == job.token

    await site.raw.pexpire(site.keys.lock("1"), 1_000)
    assert await worker.renew(job)
    assert await site.raw.pttl(site.keys.lock("1")) > 10_000
    await site.raw.set(site.keys.lock("1"), "another's", px=60_000)
    assert not await worker.renew(job)
    with pytest.raises(LeaseLost, match="leased to another worker"):
        await worker.complete(job)
    with pytest.raises(LeaseLost):
        await worker.fail(job, RuntimeError())
    await site.until(active=1)


async def test_what_cannot_be_settled_says_why_bmq_095(site: Site) -> None:
    worker = site.worker(None)
    await site.queue.add("work")
    job = await worker.fetch()
    assert job is not None
    await site.raw.delete(site.keys.lock("1"))
    with pytest.raises(LeaseMissing, match="under no lease"):
        await worker.complete(job)
    await site.raw.delete(site.keys.job("1"))
    with pytest.raises(JobNotFound, match="is not stored") as caught:
        await worker.complete(job)
    assert (caught.value.job_id, caught.value.queue) == ("1", "q")


async def test_a_corrupt_job_is_failed_as_it_is_fetched_bmq_095(site: Site) -> None:
    worker = site.worker(None)
    await site.queue.add("work")
    await site.raw.hset(site.keys.job("1"), "opts", "[]")
    with pytest.raises(CorruptJob, match=r"'1'.*opts"):
        await worker.fetch()
    await site.until(failed=1)


async def test_a_failed_attempt_pauses_as_its_options_say_bmq_095(timed_site: Site, hand_clock: TestClock) -> None:
    worker = timed_site.worker(None)
    await timed_site.queue.add("work", attempts=2, backoff=Fixed(5.0))
    job = await worker.fetch()
    assert job is not None
    await worker.fail(job, RuntimeError("once"))
    assert await worker.fetch() is None
    hand_clock.advance(5.001)
    job = await worker.fetch()
    assert job is not None
    assert job.attempts_made == 1
    await worker.complete(job)


async def test_stalled_jobs_are_looked_for_by_hand_bmq_095(timed_site: Site) -> None:
    """At most once per interval over all workers."""
    worker = timed_site.worker(None)
    await timed_site.queue.add("work")
    assert await worker.fetch()
    await timed_site.raw.delete(timed_site.keys.lock("1"))
    assert await worker.recover_stalled() == []
    assert await worker.recover_stalled() == []
    await timed_site.raw.delete(timed_site.keys.key("stalled-check"))
    assert await worker.recover_stalled() == ["1"]
    await timed_site.until(wait=1)


async def test_a_workers_own_connection_is_closed_after_fetching_by_hand_bmq_095(site: Site) -> None:
    worker = site.worker(None, site.url)
    await site.queue.add("work")
    job = await worker.fetch()
    assert job is not None
    await worker.complete(job)
    await worker.stop()
