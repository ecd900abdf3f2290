"""What one bad job, one bad moment or one bad caller may not take along."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import InvalidOption, StoreUnavailable
from taurine.queue import Connection, Job, Queue, Worker


async def nothing(job: Job) -> None:
    return None


@pytest.mark.parametrize(
    ("link", "spoil"),
    [
        ('{"id":"1","queueKey":null}', None),
        ('{"id":"1","queueKey":{}}', None),
        ("valid", "dependencies"),
        ("valid", "processed"),
    ],
)
async def test_a_job_with_a_broken_parent_takes_no_other_job_along(site: Site, link: str, spoil: str | None) -> None:
    parent_key = f"{site.keys.prefix}:parents:p"
    if link == "valid":
        link = json.dumps({"id": "p", "queueKey": f"{site.keys.prefix}:parents"})
        await site.raw.hset(parent_key, mapping={"name": "p", "timestamp": "1"})
        if spoil == "processed":
            await site.raw.sadd(f"{parent_key}:dependencies", site.keys.job("bad"))
        await site.raw.set(f"{parent_key}:{spoil}", "no such type")
    await site.queue.add("bad", job_id="bad")
    await site.raw.hset(site.keys.job("bad"), mapping={"parentKey": parent_key, "parent": link})
    await site.queue.add_many([("good", {})] * 5)

    async with site.working(nothing, concurrency=10):
        await site.until(completed=5, failed=1)

    assert await site.queue.state("bad") == "failed"


async def test_a_worker_cancelled_under_load_keeps_no_lease(site: Site) -> None:
    await site.queue.add_many([("n", {})] * 3000)
    started = asyncio.Event()

    async def handle(job: Job) -> None:
        if int(job.id) > 500:
            started.set()

    run = asyncio.create_task(site.worker(handle, concurrency=100).run())
    await asyncio.wait_for(started.wait(), 30)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    counts = await site.queue.counts()
    assert counts["active"] == 0
    assert counts["waiting"] + counts["completed"] == 3000


async def test_jobs_handed_back_together_keep_their_order(site: Site) -> None:
    await site.queue.add_many([("n", {})] * 6)
    running = asyncio.Event()

    async def handle(job: Job) -> None:
        if job.id == "4":
            running.set()
        await asyncio.Event().wait()

    worker = site.worker(handle, concurrency=4)
    async with worker:
        await asyncio.wait_for(running.wait(), 30)
        await worker.stop(grace=0)

    assert await site.raw.lrange(site.keys.wait, 0, -1) == ["6", "5", "4", "3", "2", "1"]


async def test_a_set_that_was_kept_whole_is_cut_in_steps_bmq_029(site: Site) -> None:
    await site.raw.zadd(site.keys.completed, {f"old{i}": i for i in range(2500)})
    await site.queue.add("n", remove_on_complete=10)
    async with site.working(nothing):
        await site.until(completed=1501)
        await site.queue.add("n", remove_on_complete=10)
        await site.until(completed=502)


async def test_many_calls_at_once_share_few_links(site: Site) -> None:
    connection = Connection(site.url, max_links=4)
    queue = Queue(site.keys.name, connection, prefix=site.keys.prefix)
    job = await queue.add("n")
    before = len(await site.raw.client_list())

    found = await asyncio.gather(*(queue.get_job(job.id) for _ in range(500)))

    assert all(one is not None and one.id == job.id for one in found)
    assert len(await site.raw.client_list()) - before <= 4
    await connection.close()


async def test_a_call_that_finds_no_free_link_fails_in_bounded_time(site: Site) -> None:
    connection = Connection(site.url, max_links=1, timeout=0.2)
    async with connection.borrow():
        with pytest.raises(StoreUnavailable, match="in use"):
            await connection.call("PING")

    assert await connection.call("PING") == b"PONG"
    await connection.close()


async def test_a_cancelled_wait_for_a_link_loses_none(site: Site) -> None:
    connection = Connection(site.url, max_links=1)
    async with connection.borrow():
        waiting = [asyncio.create_task(connection.call("PING")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    replies = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(replies[0], asyncio.CancelledError)
    assert replies[1:] == [b"PONG", b"PONG"]
    await connection.close()


async def test_nothing_starts_once_pause_has_returned_bmq_090(site: Site) -> None:
    await site.queue.add_many([("n", {})] * 2000)
    started = 0

    async def handle(job: Job) -> None:
        nonlocal started
        started += 1

    async with site.working(handle, concurrency=20) as worker:
        for _ in range(20):
            await worker.pause()
            seen = started
            await site.raw.ping()
            assert started == seen
            worker.resume()
            await eventually(lambda seen=seen: started > seen or started == 2000)


async def test_jobs_removed_as_they_finish_are_counted(site: Site) -> None:
    for _ in range(10):
        await site.queue.add("n", remove_on_complete=True)
    async with site.working(nothing, metrics_points=5):
        await eventually(lambda: site.raw.hget(site.keys.key("metrics:completed"), "count"))
        await site.until()

    assert (await site.queue.metrics("completed")).count == 10


async def test_a_corrupt_run_does_not_end_its_schedule_bmq_125(site: Site) -> None:
    run = await site.queue.upsert_scheduler("s", every=3600)
    await site.raw.hset(site.keys.job(run.stored_id), "data", "{no json")
    async with site.working(nothing):
        await eventually(lambda: site.raw.zcard(site.keys.failed))

    assert (await site.raw.zcard(site.keys.delayed)) == 1
    scheduler = await site.queue.get_scheduler("s")
    assert scheduler is not None
    assert scheduler.next_job_id is not None


@pytest.mark.parametrize(
    "options",
    [
        {"remove_on_complete": {"count": 10}},
        {"remove_on_complete": "x"},
        {"remove_on_fail": -5},
        {"max_stalled": -1},
        {"max_started_attempts": 0},
        {"metrics_points": 1.5},
        {"rate_limit": (10, 1)},
    ],
    ids=str,
)
def test_a_workers_options_are_checked_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Worker("q", nothing, "redis://localhost", **options)


class Unforeseen(BaseException):
    """What other frameworks raise past `except Exception`."""


async def test_no_error_of_a_handler_costs_a_slot_bmq_080(site: Site) -> None:
    async def handle(job: Job) -> None:
        if job.name == "bad":
            raise Unforeseen("past everything")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # asyncio reports the task as well
    async with site.working(handle, concurrency=1) as worker:
        await site.queue.add("bad")
        await site.queue.add("good")
        await site.until(failed=1, completed=1)
        assert worker.running == []
