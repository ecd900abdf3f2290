"""Our Job's methods on jobs that Node adds and runs, and what Node makes of the changes: BMQ-013, BMQ-014, BMQ-018,
BMQ-067 to BMQ-071.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interop.bullmq import Bullmq
from taurine.errors import JobFailed
from taurine.options import Keep
from taurine.queue import Job, Queue


@pytest.mark.parametrize("keep", [False, True])
async def test_a_wait_hears_of_jobs_that_node_runs(node: Bullmq, queue: Queue, keep: bool) -> None:
    """BMQ-071: results and failures; before and after the end; kept, and removed as they end."""
    ours = await queue.add_many([("ours", {"result": {"v": "ü"}}, {"remove_on_complete": keep}) for _ in range(20)])
    bad = await queue.add("bad", {"failures": 1, "error": "no bread"}, remove_on_fail=keep)
    waits = [asyncio.create_task(job.wait(timeout=20)) for job in ours]
    failing = asyncio.create_task(bad.wait(timeout=20))
    await node.worker("q")
    assert await asyncio.gather(*waits) == [{"v": "ü"}] * 20
    with pytest.raises(JobFailed, match="no bread"):
        await failing
    assert await ours[0].wait(timeout=5) == {"v": "ü"}


async def read(queue: Queue, job_id: str) -> Job:
    job = await queue.get_job(job_id)
    assert job is not None
    return job


async def test_node_reads_what_our_methods_change(node: Bullmq, queue: Queue) -> None:
    """BMQ-013, BMQ-014, BMQ-018, BMQ-067, BMQ-068, BMQ-069: on jobs of Node."""
    added = await node.add("q", "n", {"v": 1}, delay=60_000, keepLogs=2)
    job = await read(queue, added["id"])
    await job.change_delay(3600)
    await job.update_data({"v": "ü"})
    await job.update_progress({"done": 1})
    for line in ("one", "two", "three"):
        await job.log(line)
    await job.promote()
    await job.change_priority(3)
    assert await node.state("q", job.id) == "prioritized"
    assert (await node.queue("q", "getJob", job.id))["data"] == {"v": "ü"}
    logs: Any = await node.queue("q", "getJobLogs", job.id)
    assert logs == {"logs": ["two", "three"], "count": 2}
    await node.job("q", job.id, "changePriority", {"priority": 0})
    assert await job.state() == "waiting"
    assert (await read(queue, job.id)).priority == 0


async def test_a_retry_starts_a_worker_of_node(node: Bullmq, queue: Queue) -> None:
    """BMQ-070: one that sleeps already."""
    await node.worker("q")
    job = await queue.add("n", {"failures": 1, "error": "no"}, remove_on_complete=Keep(count=10))
    with pytest.raises(JobFailed):
        await job.wait(timeout=20)
    await job.retry()
    # attemptsMade counts on, so that the second run passes.
    assert await job.wait(timeout=4) is None
