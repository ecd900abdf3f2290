"""What BullMQ's QueueEvents and waitUntilFinished make of jobs that our worker runs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from interop.bullmq import Bullmq, NodeError
from interop.conftest import StartWorker
from support.eventually import eventually
from taurine.queue import Job, Queue, Worker


async def test_queue_events_misses_no_job_of_thirty_thousand(
    node: Bullmq, redis_url: str, prefix: str, queue: Queue, figure: Callable[[str], None]
) -> None:
    """BMQ: the stream is trimmed to 10,000 entries, and a reader that waits must still get every entry of a turn."""
    total = 30_000

    async def nothing(job: Job) -> None:
        return None

    for first in range(0, total, 5000):
        await queue.add_many([("task", {}, {"remove_on_complete": True}) for _ in range(first, first + 5000)])
    await node.listen("q")
    began = time.monotonic()
    async with Worker("q", nothing, redis_url, prefix=prefix, concurrency=100):

        async def all_told() -> list[str]:
            told = await node.seen("q", "completed", "jobId")
            assert len(told) >= total, f"{len(told)} told"
            return told

        told = await eventually(all_told, 60, "QueueEvents missed jobs", every=0.5)
    seconds = time.monotonic() - began

    assert Counter(told) == Counter(str(number) for number in range(1, total + 1))
    figure(f"missed 0/{total} completed events, {total / seconds:.0f} jobs/s while Node listened")


@pytest.mark.parametrize(
    "result",
    [None, "x" * 1_000_000, "ü 🐂 \u2028 \x00", {"list": [], "none": None, "n": 1.5}, 0, False, ""],
    ids=["none", "1 MB", "non-ASCII", "object", "zero", "false", "empty"],
)
async def test_wait_until_finished_gets_our_result(node: Bullmq, worker: StartWorker, result: Any) -> None:
    await node.listen("q")
    work = {"size": 1_000_000} if isinstance(result, str) and len(result) > 1000 else {"result": result}
    before = await node.add("q", "before", work)
    waiting = asyncio.create_task(node.wait_until_finished("q", before["id"]))

    async with worker():
        assert await waiting == result
        # Asked for after the end, it is read from the job.
        assert await node.wait_until_finished("q", before["id"]) == result


async def test_wait_until_finished_gets_our_failure(node: Bullmq, worker: StartWorker, queue: Queue) -> None:
    await node.listen("q")
    job = await queue.add("bad", {"failures": 1, "error": "nö: \n🐂"})
    waiting = asyncio.create_task(node.wait_until_finished("q", job.stored_id))

    async with worker():
        with pytest.raises(NodeError, match="nö: \n🐂"):
            await waiting


@pytest.mark.parametrize("backoff", [0.0, 0.03], ids=["at once", "after a pause"])
async def test_wait_until_finished_passes_over_attempts_that_are_retried(
    node: Bullmq, worker: StartWorker, queue: Queue, backoff: float
) -> None:
    await node.listen("q")
    job = await queue.add("flaky", {"failures": 2, "error": "again", "result": "third"}, attempts=3, backoff=backoff)
    waiting = asyncio.create_task(node.wait_until_finished("q", job.stored_id))

    async with worker():
        assert await waiting == "third"

    assert not await node.seen("q", "failed")


async def test_a_jobs_life_is_told_in_order(node: Bullmq, worker: StartWorker, queue: Queue) -> None:
    """Each event with the fields that BullMQ's own has."""
    await node.listen("q")
    async with worker():
        job = await queue.add(
            "life", {"failures": 1, "error": "once", "result": 7}, attempts=2, delay=0.02, backoff=0.02
        )
        await node.until_state("q", job.stored_id, "completed")
        await eventually(lambda: node.seen("q", "completed"), 10)

    told = {name: await node.seen("q", name) for name in ("added", "delayed", "waiting", "active", "completed")}
    due = [int(event.pop("delay")) for event in told["delayed"]]
    assert due == sorted(due)
    assert told == {
        "added": [{"jobId": "1", "name": "life"}],
        "delayed": [{"jobId": "1"}, {"jobId": "1"}],
        "waiting": [{"jobId": "1", "prev": "delayed"}] * 2,
        "active": [{"jobId": "1", "prev": "waiting"}] * 2,
        "completed": [{"jobId": "1", "returnvalue": 7, "prev": "active"}],
    }
    assert await eventually(lambda: node.seen("q", "drained"), 10)


async def test_get_workers_lists_ours(node: Bullmq, worker: StartWorker) -> None:
    async with worker(name="ours-1"), worker():

        async def listed() -> list[str]:
            found = await node.queue("q", "getWorkers")
            assert len(found) == 2, found
            return sorted(one["rawname"] for one in found)

        assert [name.endswith(":w:ours-1") for name in await eventually(listed, 10)] == [False, True]
