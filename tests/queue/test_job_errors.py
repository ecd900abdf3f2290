"""Each error code of BullMQ's scripts is an error type of its own here: BMQ-079 (A22).

Codes -10 and -11 are about schedulers: see test_schedulers.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from taurine import errors
from taurine.options import Parent
from taurine.queue import Job, Queue, Worker


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def expect(kind: type[errors.JobError], code: int, job_id: str, call: Any) -> str:
    """The message of the error, whose type and fields are as wanted."""
    with pytest.raises(kind) as caught:
        await call
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.job_id, error.queue) == (code, job_id, "q")
    assert repr(job_id) in str(error)
    return str(error)


async def test_a_job_that_is_not_stored(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-079, code -1."""
    await queue.add("n")
    job = await fetched(hand)
    await raw.delete(f"{prefix}:q:{job.id}")
    await expect(errors.JobNotFound, -1, job.id, hand.complete(job))


async def test_a_job_without_a_lease(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-078, BMQ-079, code -2."""
    await queue.add("n")
    job = await fetched(hand)
    await raw.delete(f"{prefix}:q:{job.id}:lock")
    await expect(errors.LeaseMissing, -2, job.id, hand.complete(job))
    assert await job.state() == "active"


async def test_a_job_in_another_state(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-079, code -3."""
    job = await queue.add("n")
    await expect(errors.NotInState, -3, job.id, job.promote())
    running = await fetched(hand)
    await raw.lrem(f"{prefix}:q:active", 1, job.id)
    await expect(errors.NotInState, -3, job.id, hand.complete(running))


async def test_a_parent_with_pending_children(queue: Queue, hand: Worker) -> None:
    """BMQ-079, code -4: the lease is kept, so the job can still be settled."""
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    await queue.add("child", parent=Parent("p", "q"))
    await expect(errors.PendingChildren, -4, "p", hand.complete(parent))
    await hand.complete(await fetched(hand))
    await hand.complete(parent)
    assert await parent.state() == "completed"


async def test_a_parent_that_is_not_stored(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-079, code -5: nothing is stored."""
    await expect(errors.ParentNotFound, -5, "c", queue.add("child", job_id="c", parent=Parent("nobody", "q")))
    assert await raw.exists(f"{prefix}:q:c", f"{prefix}:q:wait") == 0


async def test_a_job_under_the_lease_of_another(queue: Queue, hand: Worker) -> None:
    """BMQ-078, BMQ-079, code -6: the wrong token changes nothing."""
    await queue.add("n")
    job = await fetched(hand)
    mine, job.token = job.token, "somebody's"
    await expect(errors.LeaseLost, -6, job.id, hand.complete(job))
    assert await job.state() == "active"
    job.token = mine
    await hand.complete(job)


async def test_a_child_that_has_another_parent(queue: Queue) -> None:
    """BMQ-079, code -7."""
    for name in ("p1", "p2"):
        await queue.add(name, job_id=name)
    await queue.add("child", job_id="c", parent=Parent("p1", "q"))
    await expect(errors.ParentNotReplaceable, -7, "c", queue.add("child", job_id="c", parent=Parent("p2", "q")))


async def test_the_next_run_of_a_scheduler(queue: Queue) -> None:
    """BMQ-079, code -8."""
    await queue.upsert_scheduler("s", every=3600)
    [job] = await queue.get_jobs(("delayed", "waiting"))
    await expect(errors.BelongsToScheduler, -8, job.id, job.remove())
    assert await job.state() != "unknown"


async def test_a_parent_whose_child_failed(queue: Queue, hand: Worker) -> None:
    """BMQ-079, code -9."""
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    await queue.add("child", parent=Parent("p", "q"), on_child_failure="fail")
    await hand.fail(await fetched(hand), ValueError("no"))
    await expect(errors.FailedChildren, -9, "p", hand.complete(parent))


async def test_a_job_that_is_being_worked_on_cannot_be_removed(queue: Queue, hand: Worker) -> None:
    """BMQ-045, BMQ-079: BullMQ answers 0 here."""
    await queue.add("n")
    job = await fetched(hand)
    with pytest.raises(errors.JobLocked):
        await job.remove()
    await hand.complete(job)
    assert await job.remove()


async def test_a_child_that_is_being_worked_on_protects_its_parent(queue: Queue, hand: Worker) -> None:
    """BMQ-045: and the parent can still be removed alone."""
    parent = await queue.add("parent", job_id="p", delay=60)
    await queue.add("child", parent=Parent("p", "q"))
    child = await fetched(hand)
    with pytest.raises(errors.JobLocked):
        await parent.remove()
    assert await parent.remove(children=False)
    await hand.complete(child)


@pytest.mark.parametrize(
    ("state", "change", "message"),
    [
        ("waiting", "promote", "cannot be promoted: expected it to be delayed, found it waiting; it starts as soon as"),
        ("active", "change_delay", "cannot be delayed anew: expected it to be delayed, found it active; it runs now; wait"),
        ("completed", "retry", "cannot be retried: expected it to be failed, found it completed; to run it again call job.retry('completed')"),
        ("failed", "promote", "cannot be promoted: expected it to be delayed, found it failed; to run it again call job.retry()"),
        ("delayed", "retry", "cannot be retried: expected it to be failed, found it delayed; to run it now call job.promote()"),
    ],
)  # fmt: skip
async def test_a_job_in_another_state_is_told_of(
    queue: Queue, hand: Worker, state: str, change: str, message: str
) -> None:
    """BMQ-079: where the job is, where it should be, and what to call instead."""
    job = await queue.add("n", job_id="j", delay=60 if state == "delayed" else 0)
    if state in ("active", "completed", "failed"):
        running = await fetched(hand)
        if state == "completed":
            await hand.complete(running)
        if state == "failed":
            await hand.fail(running, ValueError("no"))
    changes = {"promote": job.promote, "retry": job.retry, "change_delay": lambda: job.change_delay(5)}
    with pytest.raises(errors.NotInState) as caught:
        await changes[change]()
    assert str(caught.value).startswith(f"job 'j' of queue 'q' {message}")
    assert (caught.value.found, caught.value.allowed) == (state, ("failed" if change == "retry" else "delayed",))


async def test_settling_a_job_that_was_taken_away_names_its_place(
    queue: Queue, hand: Worker, raw: Redis, prefix: str
) -> None:
    """BMQ-079."""
    await queue.add("n", job_id="j")
    running = await fetched(hand)
    await raw.lrem(f"{prefix}:q:active", 1, "j")
    with pytest.raises(
        errors.NotInState, match="cannot be settled: expected it to be active, found it unknown; it was moved"
    ):
        await hand.complete(running)
