"""F11: calls and handlers that are cancelled at any point leave nothing behind: no reply for another, no slot taken for
ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from faults.workers import ended_jobs, until_ended
from support.store import RawStore
from taurine.queue import Job, Queue, Worker
from taurine.queue.connection import Connection

Figure = Callable[[str], None]


async def test_f11_a_call_that_is_cancelled_gives_its_reply_to_nobody_else(
    redis_url: str, prefix: str, seed: int, figure: Figure
) -> None:
    """F11: 10,000 calls are cancelled at whatever point they have come to; every other caller gets its own answer."""
    total, callers, random, crossed, cut = 10_000, 10, Random(seed), 0, 0
    connection = Connection(redis_url)

    async def caller(number: int) -> None:
        nonlocal crossed, cut
        for turn in range(total // callers):
            word = f"{number}-{turn}"
            call = asyncio.create_task(connection.call("ECHO", f"cancelled {word}"))
            for _ in range(random.randrange(12)):
                await asyncio.sleep(0)
            cut += call.cancel()
            crossed += await connection.call("ECHO", word) != word.encode()
            with suppress(asyncio.CancelledError):
                await call

    await asyncio.gather(*(caller(number) for number in range(callers)))
    await connection.close()
    figure(f"crossed_replies {crossed}/{total}, {cut} cut short")
    assert crossed == 0
    assert cut > total / 10


async def test_f11_a_handler_that_is_cancelled_in_a_call(
    redis_url: str, prefix: str, raw: RawStore, seed: int, figure: Figure
) -> None:
    """F11: 1,000 handlers are cancelled while they report progress, and the queue's own calls stay in step."""
    total, random = 1000, Random(seed)

    async def work(job: Job) -> None:
        while True:
            await job.update_progress({"of": job.id})

    async with Queue("q", redis_url, prefix=prefix) as queue:
        await queue.add_many([("job", {}) for _ in range(total)])
        async with Worker("q", work, redis_url, prefix=prefix, concurrency=20) as worker:
            while await ended_jobs(raw, f"{prefix}:q:") < total:
                for job in random.sample(worker.running, min(5, len(worker.running))):
                    worker.cancel(job.id)
                await asyncio.sleep(0)
        jobs = await queue.get_jobs("failed", start=0, end=-1)

    wrong = [job.id for job in jobs if job.progress not in (0, {"of": job.id})]
    figure(f"{len(jobs)} handlers cancelled, {len(wrong)} with another's progress")
    assert len(jobs) == total
    assert wrong == []


async def test_f11_a_job_that_is_cancelled_before_its_first_step_gives_its_slot_back(
    redis_url: str, prefix: str, raw: RawStore
) -> None:
    async def work(job: Job) -> None:
        await asyncio.Event().wait()

    async with Queue("q", redis_url, prefix=prefix) as queue:
        await queue.add_many([("job", {}) for _ in range(3)])
        worker = Worker("q", work, redis_url, prefix=prefix, concurrency=1)
        worker.on("active", lambda job: worker.cancel(job.id))
        async with worker:
            await until_ended(raw, f"{prefix}:q:", 3, within=10)

    assert await raw.zcard(f"{prefix}:q:failed") == 3
