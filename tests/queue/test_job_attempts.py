"""A job while it runs and afterwards: BMQ-026, BMQ-027, BMQ-065, BMQ-066, BMQ-072 to BMQ-074, BMQ-076 to BMQ-078."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from taurine.errors import FailedChildren, JobFailed, LeaseLost, LeaseMissing, Permanent, Snooze, WaitForChildren
from taurine.options import Dedup, Parent
from taurine.queue import Job, Queue, Worker
from taurine.retry import Custom, Fixed
from taurine.testing import TestClock


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def test_the_fields_that_a_job_keeps(redis_socket_url: str, prefix: str) -> None:
    """BMQ-065: a job that fails, and then passes."""

    async def handler(job: Job) -> dict[str, int]:
        if job.attempts_made == 0:
            raise ValueError("not yet")
        await job.update_progress({"done": 1})
        return {"sum": 7}

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, name="w1"),
    ):
        added = await queue.add("n", attempts=2, deduplication=Dedup("d"))
        assert await added.wait(timeout=5) == {"sum": 7}
        job = await queue.get_job(added.id)
    assert job is not None
    assert (job.attempts_started, job.attempts_made, job.stalled_count) == (2, 2, 0)
    assert job.failed_reason == "not yet"
    assert len(job.stacktrace) == 1
    assert "ValueError: not yet" in job.stacktrace[0]
    assert (job.result, job.progress) == ({"sum": 7}, {"done": 1})
    assert job.processed_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.processed_at <= job.finished_at
    assert (job.processed_by, job.parent, job.deduplication_id, job.scheduler_id) == ("w1", None, "d", None)


async def test_a_child_and_a_stalled_job_say_so(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-065."""
    parent = await queue.add("parent", job_id="p")
    child = await queue.add("child", parent=Parent("p", "q"))
    await raw.hset(f"{prefix}:q:{child.id}", "stc", "2")
    job = await queue.get_job(child.id)
    assert job is not None
    assert job.parent == Parent(parent.id, "q", prefix)
    assert job.stalled_count == 2


@pytest.mark.parametrize("result", [None, 0, "ü", [1, {"a": None}], {"big": "x" * 100_000}])
async def test_a_result_is_read_by_everyone(queue: Queue, hand: Worker, result: object) -> None:
    """BMQ-066."""
    job = await queue.add("n")
    await hand.complete(await fetched(hand), result)
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert stored.result == result
    assert await job.wait(timeout=5) == result


async def test_a_custom_back_off_decides_by_type(redis_socket_url: str, prefix: str) -> None:
    """BMQ-026: seconds, 0 for the end of the line at once, negative to fail for good."""
    asked: list[tuple[int, str, str]] = []

    def strategy(attempts_made: int, kind: str, error: BaseException, job: Job) -> float:
        asked.append((attempts_made, kind, str(error)))
        return {"soon": 0.05, "now": 0.0, "never": -1.0}[kind]

    async def handler(job: Job) -> None:
        raise ValueError(job.name)

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, backoff_strategy=strategy, concurrency=1),
    ):
        jobs = {kind: await queue.add(kind, attempts=3, backoff=Custom(type=kind)) for kind in ("soon", "now", "never")}
        for job in jobs.values():
            with pytest.raises(JobFailed):
                await job.wait(timeout=5)
        made = {kind: stored.attempts_made for kind, job in jobs.items() if (stored := await queue.get_job(job.id))}
    assert made == {"soon": 3, "now": 3, "never": 1}
    assert (1, "never", "never") in asked
    assert [attempt for attempt, kind, _ in asked if kind == "now"] == [1, 2]


@pytest.mark.parametrize(("limit", "kept"), [(2, ["4", "5"]), (0, []), (None, ["1", "2", "3", "4", "5"])])
async def test_the_stack_trace_limit_keeps_the_newest(
    queue: Queue, hand: Worker, limit: int | None, kept: list[str]
) -> None:
    """BMQ-027."""
    options = {} if limit is None else {"stacktrace_limit": limit}
    job = await queue.add("n", attempts=5, **options)  # pyright: ignore[reportArgumentType] - a table of options
    for number in range(1, 6):
        await hand.fail(await fetched(hand), ValueError(f"number {number}"))
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert [trace.rstrip()[-1] for trace in stored.stacktrace] == kept


async def test_a_job_delays_itself_without_a_charge(redis_socket_url: str, prefix: str) -> None:
    """BMQ-072."""
    runs: list[tuple[int, int]] = []

    async def handler(job: Job) -> str:
        runs.append((job.attempts_started, job.attempts_made))
        if len(runs) == 1:
            job.delay(0.05)
        return "done"

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix),
    ):
        job = await queue.add("n")
        assert await job.wait(timeout=5) == "done"
    assert runs == [(1, 0), (2, 0)]


async def test_a_delayed_job_gives_up_its_slot(redis_socket_url: str, prefix: str) -> None:
    """BMQ-072: the next job starts while it is away."""

    async def handler(job: Job) -> None:
        if job.name == "first":
            await job.update_progress("seen")
            job.delay(3600)

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=1),
    ):
        first, second = await queue.add("first"), await queue.add("second")
        await second.wait(timeout=5)
        assert await first.state() == "delayed"


async def test_a_job_puts_itself_back_in_front_of_the_line(redis_socket_url: str, prefix: str) -> None:
    """BMQ-073."""
    runs: list[tuple[str, int]] = []

    async def handler(job: Job) -> None:
        runs.append((job.name, job.attempts_made))
        if len(runs) == 1:
            job.release()

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        jobs = [await queue.add(name) for name in ("a", "b")]
        async with Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=1):
            for job in jobs:
                await job.wait(timeout=5)
    assert runs == [("a", 0), ("a", 0), ("b", 0)]


async def test_a_parent_parks_until_its_children_have_ended(redis_socket_url: str, prefix: str) -> None:
    """BMQ-074: children added at run time; one slot, so it must be given up; no attempt is charged."""
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:

        async def handler(job: Job) -> object:
            if job.name == "child":
                return job.data * 10
            if job.attempts_started == 1:
                for number in (1, 2):
                    await queue.add("child", number, parent=Parent(job.id, "q"))
            await job.wait_for_children()
            counts = await job.dependency_counts()
            assert (counts.processed, counts.unprocessed) == (2, 0)
            return sorted((await job.children_values()).values())

        async with Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=1):
            parent = await queue.add("parent")
            assert await parent.wait(timeout=5) == [10, 20]
        stored = await queue.get_job(parent.id)
    assert stored is not None
    assert (stored.attempts_started, stored.attempts_made) == (2, 1)


async def test_a_parked_job_is_no_longer_its_workers(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-074: it may be started elsewhere before the handler has ended."""
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    await queue.add("child", parent=Parent("p", "q"))
    with pytest.raises(WaitForChildren):
        await parent.wait_for_children()
    assert parent.lease_given_up
    assert await parent.state() == "waiting-children"
    assert await raw.exists(f"{prefix}:q:p:lock") == 0
    with pytest.raises(LeaseMissing):
        await parent.log("late")


async def test_waiting_for_no_children_goes_on(queue: Queue, hand: Worker) -> None:
    """BMQ-074."""
    await queue.add("n")
    job = await fetched(hand)
    await job.wait_for_children()
    assert await job.state() == "active"
    await hand.complete(job)


async def test_a_failed_child_is_told_instead_of_waiting(queue: Queue, hand: Worker) -> None:
    """BMQ-074, BMQ-079 code -9."""
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    await queue.add("child", parent=Parent("p", "q"), on_child_failure="fail")
    await hand.fail(await fetched(hand), ValueError("no"))
    with pytest.raises(FailedChildren):
        await parent.wait_for_children()
    assert await parent.state() == "active"


async def test_the_children_of_a_job_are_read_in_pages(queue: Queue, hand: Worker) -> None:
    """BMQ-074 (and BMQ-064): 30 children, some done, some failed, some pending."""
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    policies = ["ignore", "fail", "continue"]
    for number in range(30):
        policy = policies[number % 3]
        await queue.add("child", number, parent=Parent("p", "q"), on_child_failure=policy)  # pyright: ignore[reportArgumentType] - a list of literals
    for _ in range(15):
        child = await fetched(hand)
        if child.data < 9:
            await hand.complete(child, child.data)
        else:
            await hand.fail(child, ValueError(f"no {child.data}"))
    processed: dict[str, object] = {}
    ignored: dict[str, str] = {}
    unprocessed, failed = set[str](), set[str]()
    page = await parent.dependencies(limit=5)
    while True:
        processed.update(page.processed)
        ignored.update(page.ignored)
        unprocessed.update(page.unprocessed)
        failed.update(page.failed)
        if page.cursor is None:
            break
        page = await parent.dependencies(cursor=page.cursor, limit=5)
    assert sorted(processed.values(), key=str) == list(range(9))
    assert len(unprocessed) == 15
    assert sorted(ignored.values()) == ["no 11", "no 12", "no 14", "no 9"]
    assert len(failed) == 2
    assert (await parent.children_values()) == processed
    counts = await parent.dependency_counts()
    assert (counts.processed, counts.unprocessed, counts.ignored, counts.failed) == (9, 15, 4, 2)


async def test_many_children_come_in_more_than_one_page(queue: Queue, hand: Worker) -> None:
    await queue.add("parent", job_id="p")
    parent = await fetched(hand)
    await queue.add_many([("child", None, {"parent": Parent("p", "q")}) for _ in range(1500)])
    page = await parent.dependencies(limit=100)
    assert page.cursor is not None
    seen, pages = set(page.unprocessed), 1
    while page.cursor is not None:
        page = await parent.dependencies(cursor=page.cursor, limit=100)
        seen.update(page.unprocessed)
        pages += 1
    assert len(seen) == 1500
    assert pages > 3


async def test_a_permanent_error_ends_the_job_at_once(redis_socket_url: str, prefix: str) -> None:
    """BMQ-076: attempts=5, one run."""

    async def handler(_: Job) -> None:
        raise Permanent("bad input")

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix),
    ):
        job = await queue.add("n", attempts=5, backoff=Fixed(0.01))
        with pytest.raises(JobFailed, match="bad input"):
            await job.wait(timeout=5)
        stored = await queue.get_job(job.id)
    assert stored is not None
    assert (stored.attempts_started, stored.attempts_made) == (1, 1)


async def test_a_parent_of_a_failed_child_is_marked_and_then_failed_unrun(
    redis_socket_url: str, prefix: str, raw: Redis
) -> None:
    """BMQ-077."""
    ran: list[str] = []

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:

        async def handler(job: Job) -> None:
            ran.append(f"{job.name} {job.attempts_started}")
            if job.name == "child":
                await queue.pause()
                raise ValueError("no")
            await queue.add("child", parent=Parent(job.id, "q"), on_child_failure="fail")
            await job.wait_for_children()

        async with Worker("q", handler, redis_socket_url, prefix=prefix):
            parent = await queue.add("parent")

            async def marked() -> Job | None:
                job = await queue.get_job(parent.id)
                return job if job is not None and job.deferred_failure is not None else None

            job = await eventually(marked, message="the parent is not marked")
            assert job is not None
            assert job.deferred_failure is not None
            assert "failed" in job.deferred_failure
            await queue.resume()
            with pytest.raises(JobFailed, match=r"child .* failed"):
                await parent.wait(timeout=5)
    assert ran == ["parent 1", "child 1"]


async def test_a_lease_is_extended_by_its_holder_only(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-078."""
    added = await queue.add("n")
    with pytest.raises(LeaseMissing):
        await added.extend_lease(60)
    job = await fetched(hand)
    await job.extend_lease(3600)
    assert await raw.pttl(f"{prefix}:q:{job.id}:lock") > 3_000_000
    await raw.set(f"{prefix}:q:{job.id}:lock", "another worker's")
    with pytest.raises(LeaseLost):
        await job.extend_lease(60)
    assert await raw.get(f"{prefix}:q:{job.id}:lock") == "another worker's"


async def test_a_job_that_nobody_runs_cannot_wait_for_children(queue: Queue) -> None:
    """BMQ-074, BMQ-078."""
    with pytest.raises(LeaseMissing):
        await (await queue.add("n")).wait_for_children()


async def test_a_cancelled_handler_is_told_why(redis_socket_url: str, prefix: str) -> None:
    started = asyncio.Event()
    told: list[tuple[bool, str | None]] = []

    async def handler(job: Job) -> None:
        assert not job.cancelled
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append((job.cancelled, job.cancel_reason))

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix) as worker,
    ):
        job = await queue.add("n")
        await started.wait()
        assert worker.cancel(job.id, "not needed")
        with pytest.raises(JobFailed):
            await job.wait(timeout=5)
    assert told == [(True, "not needed")]


async def test_the_delay_of_a_job_that_delays_itself_is_in_its_hash(
    queue: Queue, hand: Worker, clock: TestClock
) -> None:
    """BMQ-072."""
    await queue.add("n")
    job = await fetched(hand)
    with pytest.raises(Snooze) as signal:
        job.delay(30)
    await hand.fail(job, signal.value)
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert (await stored.state(), stored.delay_seconds, stored.attempts_made) == ("delayed", 30.0, 0)
    assert stored.failed_reason is None
