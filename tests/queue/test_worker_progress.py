"""The worker's own event for progress (BMQ-100)."""

from __future__ import annotations

import asyncio
from typing import Any

from taurine.queue import Job, Queue, Worker


async def test_progress_is_told_to_the_worker_that_runs_the_job_bmq_100(redis_url: str, prefix: str) -> None:
    seen: list[tuple[str, Any]] = []
    done = asyncio.Event()

    async def handle(job: Job) -> None:
        for percent in (10, 50, 100):
            await job.update_progress(percent)

    worker = Worker("q", handle, redis_url, prefix=prefix)
    worker.on("progress", lambda job, value: seen.append((job.id, value)))
    worker.on("completed", lambda _job, _result: done.set())
    async with Queue("q", redis_url, prefix=prefix) as queue, worker:
        job = await queue.add("steps")
        await asyncio.wait_for(done.wait(), 10)

    assert seen == [(job.id, 10), (job.id, 50), (job.id, 100)]


async def test_a_callback_may_write_to_a_job_that_has_just_ended_bmq_100(redis_url: str, prefix: str) -> None:
    logged = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def handle(_job: Job) -> None:
        return None

    async def note(job: Job) -> None:
        await job.log("seen to its end")
        logged.set()

    worker = Worker("q", handle, redis_url, prefix=prefix)
    worker.on("completed", lambda job, _result: tasks.append(asyncio.create_task(note(job))))
    async with Queue("q", redis_url, prefix=prefix) as queue, worker:
        job = await queue.add("short")
        await asyncio.wait_for(logged.wait(), 10)
        assert (await queue.logs(job.id)).lines == ["seen to its end"]
    await asyncio.gather(*tasks)
