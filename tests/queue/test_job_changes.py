"""What may be done to a stored job: BMQ-013, BMQ-014, BMQ-018, BMQ-028, BMQ-067 to BMQ-070."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from taurine.errors import (
    InvalidOption,
    JobNotFound,
    LeaseLost,
    LeaseMissing,
    NotInState,
    PayloadError,
    PayloadTooLarge,
)
from taurine.options import Parent
from taurine.queue import Job, Queue, Worker
from taurine.testing import TestClock


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def run_order(hand: Worker) -> list[str]:
    names: list[str] = []
    while (job := await hand.fetch()) is not None:
        names.append(job.name)
    return names


async def newest_event(raw: Redis, prefix: str) -> dict[str, str]:
    newest: Any = await raw.xrevrange(f"{prefix}:q:events", count=1)
    return newest[0][1]


async def dangling(queue: Queue, raw: Redis, prefix: str, **options: Any) -> Job:
    """A job whose hash somebody deleted, while its id still stands in the queue."""
    job = await queue.add("n", **options)
    await raw.delete(f"{prefix}:q:{job.id}")
    return job


# Delay ------------------------------------------------------------------------------------------------------------------------


async def test_change_delay_counts_from_now(
    queue: Queue, hand: Worker, clock: TestClock, raw: Redis, prefix: str
) -> None:
    """BMQ-013."""
    job = await queue.add("n", delay=60)
    clock.advance(10)
    await job.change_delay(5)
    assert job.delay_seconds == 5
    due_ms = int((clock.now() + 5) * 1000)
    assert await newest_event(raw, prefix) == {"event": "delayed", "jobId": job.id, "delay": str(due_ms)}
    assert await raw.zscore(f"{prefix}:q:marker", "1") == due_ms, "a worker that sleeps hears of the new time"
    clock.advance(4.9)
    assert await hand.fetch() is None
    clock.advance(0.2)
    assert (await fetched(hand)).id == job.id


async def test_change_delay_is_for_delayed_jobs_only(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-013: the typed error "not in state"."""
    job = await queue.add("n")
    with pytest.raises(NotInState) as caught:
        await job.change_delay(5)
    assert (caught.value.code, caught.value.job_id, caught.value.queue) == (-3, job.id, "q")
    assert await raw.hget(f"{prefix}:q:{job.id}", "delay") == "0"


@pytest.mark.parametrize("delay", [-1, float("nan"), "5"])
async def test_a_delay_out_of_range_is_refused(queue: Queue, delay: Any) -> None:
    job = await queue.add("n", delay=60)
    with pytest.raises(InvalidOption, match="delay"):
        await job.change_delay(delay)
    assert job.delay_seconds == 60


async def test_a_promoted_job_is_processed_at_once(redis_socket_url: str, prefix: str, raw: Redis) -> None:
    """BMQ-014: the worker sleeps until a far time, and is woken."""

    async def sleeps() -> bool:
        blocked = any(client["cmd"] == "bzpopmin" for client in await raw.client_list())
        return blocked and not await raw.exists(f"{prefix}:q:marker")

    async def handler(_: Job) -> str:
        return "ran"

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix),
    ):
        job = await queue.add("n", delay=3600)
        await eventually(sleeps, message="the worker does not come to rest")
        await job.promote()
        assert await job.wait(timeout=3) == "ran"


async def test_promote_keeps_the_priority_and_tells_it(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-014."""
    job = await queue.add("late", delay=60, priority=1)
    await queue.add("early", priority=2)
    await job.promote()
    assert job.delay_seconds == 0
    assert await newest_event(raw, prefix) == {"event": "waiting", "jobId": job.id, "prev": "delayed"}
    assert await raw.hget(f"{prefix}:q:{job.id}", "delay") == "0"
    assert await run_order(hand) == ["late", "early"]
    with pytest.raises(NotInState):
        await job.promote()


async def test_promote_makes_no_half_job(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-014: BullMQ would write a hash that holds nothing but a delay, and run it."""
    job = await dangling(queue, raw, prefix, delay=60)
    with pytest.raises(JobNotFound):
        await job.promote()
    assert await raw.exists(f"{prefix}:q:{job.id}") == 0
    assert await raw.zcard(f"{prefix}:q:delayed") == 0
    assert await hand.fetch() is None


async def test_promote_in_a_paused_queue_wakes_nobody(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-014."""
    job = await queue.add("n", delay=60)
    await queue.pause()
    await job.promote()
    assert await job.state() == "waiting"
    assert await raw.zscore(f"{prefix}:q:marker", "0") is None


# Priority -----------------------------------------------------------------------------------------------------------------------


async def test_change_priority_changes_the_order(queue: Queue, hand: Worker) -> None:
    """BMQ-018."""
    for name, priority in (("a", 10), ("b", 16), ("c", 0)):
        await queue.add(name, priority=priority)
    [b] = [job for job in await queue.get_jobs("prioritized") if job.name == "b"]
    await b.change_priority(1)
    assert b.priority == 1
    assert await run_order(hand) == ["c", "b", "a"]


@pytest.mark.parametrize(("lifo", "order"), [(False, ["a", "b", "x"]), (True, ["x", "a", "b"])])
@pytest.mark.parametrize(("start", "end"), [(9, 3), (3, 3), (0, 3), (9, 0), (0, 0)])
async def test_change_priority_places_the_job_last_or_first(
    queue: Queue, hand: Worker, start: int, end: int, *, lifo: bool, order: list[str]
) -> None:
    """BMQ-018: from and to none alike."""
    await queue.add("a", priority=end)
    job = await queue.add("x", priority=start)
    await queue.add("b", priority=end)
    await job.change_priority(end, lifo=lifo)
    assert await job.state() == ("prioritized" if end else "waiting")
    assert await run_order(hand) == order


@pytest.mark.parametrize("lifo", [False, True])
async def test_change_priority_wakes_a_worker(queue: Queue, raw: Redis, prefix: str, lifo: bool) -> None:
    """BMQ-018: BullMQ wakes nobody with lifo."""
    job = await queue.add("n", priority=5)
    await raw.delete(f"{prefix}:q:marker")
    await job.change_priority(4, lifo=lifo)
    assert await raw.zscore(f"{prefix}:q:marker", "0") == 0


async def test_change_priority_of_a_delayed_job_counts_when_it_is_due(
    queue: Queue, hand: Worker, clock: TestClock
) -> None:
    """BMQ-018."""
    await queue.add("a", priority=5)
    job = await queue.add("x", delay=10)
    await job.change_priority(9)
    assert await job.state() == "delayed"
    clock.advance(11)
    assert await run_order(hand) == ["a", "x"]


@pytest.mark.parametrize("priority", [1.5, 2_097_152, -1, True])
async def test_a_priority_out_of_range_changes_nothing(queue: Queue, priority: Any) -> None:
    """BMQ-018."""
    job = await queue.add("n", priority=5)
    with pytest.raises(InvalidOption, match="priority"):
        await job.change_priority(priority)
    assert job.priority == 5


async def test_change_priority_makes_no_half_job(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-018."""
    job = await dangling(queue, raw, prefix, priority=5)
    with pytest.raises(JobNotFound):
        await job.change_priority(1)
    assert await raw.exists(f"{prefix}:q:{job.id}") == 0


# Data, progress, logs -----------------------------------------------------------------------------------------------------------


async def test_the_worker_sees_data_that_was_updated_while_the_job_waited(queue: Queue, hand: Worker) -> None:
    """BMQ-067."""
    job = await queue.add("n", {"v": 1})
    await job.update_data({"v": 2})
    assert job.data == {"v": 2}
    assert (await fetched(hand)).data == {"v": 2}


async def test_updated_data_is_checked_as_new_data_is(queue: Queue) -> None:
    """BMQ-067."""
    job = await queue.add("n", 1, size_limit=10)
    with pytest.raises(PayloadError):
        await job.update_data(object())
    with pytest.raises(PayloadTooLarge):
        await job.update_data("x" * 10)
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert stored.data == 1


@pytest.mark.parametrize("value", [0, 55.5, "half way", True, {"done": 3, "of": 4}, [1], None])
async def test_progress_is_whatever_json_holds(queue: Queue, value: Any, raw: Redis, prefix: str) -> None:
    """BMQ-068."""
    job = await queue.add("n")
    assert job.progress == 0
    await job.update_progress(value)
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert stored.progress == job.progress == value
    event = await newest_event(raw, prefix)
    assert (event["event"], event["jobId"], json.loads(event["data"])) == ("progress", job.id, value)


async def test_progress_that_json_cannot_hold_is_refused(queue: Queue) -> None:
    """BMQ-068: malformed JSON in the stream would end every Node listener."""
    job = await queue.add("n")
    with pytest.raises(PayloadError, match="progress"):
        await job.update_progress(float("nan"))
    assert job.progress == 0


async def test_logs_are_kept_cut_and_cleared(queue: Queue) -> None:
    """BMQ-069."""
    job = await queue.add("n")
    assert [await job.log(line) for line in ("one", "two", "ü three")] == [1, 2, 3]
    assert await job.logs() == ["one", "two", "ü three"]
    await job.clear_logs(keep=1)
    assert await job.logs() == ["ü three"]
    await job.clear_logs()
    assert await job.logs() == []
    with pytest.raises(InvalidOption):
        await job.clear_logs(-1)


async def test_logs_are_read_in_pages_from_either_end(queue: Queue) -> None:
    """BMQ-069."""
    job = await queue.add("n")
    for number in range(5):
        await job.log(str(number))
    assert await job.logs(1, 2) == ["1", "2"]
    assert await job.logs(0, 1, ascending=False) == ["4", "3"]
    assert await job.logs(ascending=False) == ["4", "3", "2", "1", "0"]
    assert await job.logs(9, 12) == []


@pytest.mark.parametrize(("keep", "lines"), [(5, ["15", "16", "17", "18", "19"]), (0, [])])
async def test_keep_logs_keeps_the_newest_lines(queue: Queue, keep: int, lines: list[str]) -> None:
    """BMQ-028."""
    job = await queue.add("n", keep_logs=keep)
    lengths = [await job.log(str(number)) for number in range(20)]
    assert lengths[-1] == keep
    assert await job.logs() == lines


async def test_a_log_needs_a_job(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-069: or its lines would stay for ever."""
    job = await dangling(queue, raw, prefix)
    with pytest.raises(JobNotFound):
        await job.log("lost")
    assert await raw.exists(f"{prefix}:q:{job.id}:logs") == 0


# From a worker that lost the job --------------------------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_job_writes_nothing_more(
    queue: Queue, hand: Worker, raw: Redis, prefix: str
) -> None:
    """BMQ-078: progress, data and logs of the run that counts are not overwritten."""
    await queue.add("n", "data")
    job = await fetched(hand)
    await job.update_progress("mine")
    await raw.set(f"{prefix}:q:{job.id}:lock", "another worker's")
    for write in (job.update_progress("late"), job.update_data("late"), job.log("late")):
        with pytest.raises(LeaseLost):
            await write
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert (stored.progress, stored.data, await job.logs()) == ("mine", "data", [])


async def test_a_job_that_was_put_back_is_no_longer_written_by_its_worker(
    queue: Queue, hand: Worker, raw: Redis, prefix: str
) -> None:
    """BMQ-078: no lease, and not active."""
    await queue.add("n")
    job = await fetched(hand)
    await raw.delete(f"{prefix}:q:{job.id}:lock")
    await job.log("the lease ran out, and nobody took the job: it is still ours")
    await raw.lrem(f"{prefix}:q:active", 1, job.id)
    await raw.rpush(f"{prefix}:q:wait", job.id)
    with pytest.raises(LeaseMissing):
        await job.log("late")


# Retry ------------------------------------------------------------------------------------------------------------------------


async def failed_for_good(queue: Queue, hand: Worker, **options: Any) -> Job:
    job = await queue.add("n", attempts=2, **options)
    for _ in range(2):
        await hand.fail(await fetched(hand), ValueError("no"))
    assert await job.state() == "failed"
    return job


async def test_a_retried_job_fails_at_once_without_new_attempts(queue: Queue, hand: Worker) -> None:
    """BMQ-070."""
    job = await failed_for_good(queue, hand)
    await job.retry()
    again = await fetched(hand)
    assert (again.attempts_made, again.attempts_started) == (2, 3)
    await hand.fail(again, ValueError("no"))
    assert await job.state() == "failed"


async def test_a_retried_job_may_get_all_its_attempts_again(queue: Queue, hand: Worker) -> None:
    """BMQ-070."""
    job = await failed_for_good(queue, hand)
    await job.retry(reset_attempts_made=True, reset_attempts_started=True)
    again = await fetched(hand)
    assert (again.attempts_made, again.attempts_started) == (0, 1)
    await hand.fail(again, ValueError("no"))
    assert await job.state() == "waiting"


async def test_retry_clears_what_the_last_run_left(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-070: the result fields go; the stack traces stay."""
    job = await failed_for_good(queue, hand)
    await raw.delete(f"{prefix}:q:marker")
    await job.retry()
    stored = await raw.hgetall(f"{prefix}:q:{job.id}")
    assert not {"finishedOn", "processedOn", "failedReason"} & stored.keys()
    assert len(json.loads(stored["stacktrace"])) == 2
    assert await newest_event(raw, prefix) == {"event": "waiting", "jobId": job.id, "prev": "failed"}
    assert await raw.zscore(f"{prefix}:q:marker", "0") == 0


async def test_a_completed_job_is_retried_when_asked_for(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-070."""
    job = await queue.add("n")
    await hand.complete(await fetched(hand), {"v": 1})
    with pytest.raises(NotInState):
        await job.retry()
    await job.retry("completed")
    assert await raw.hget(f"{prefix}:q:{job.id}", "returnvalue") is None
    assert await job.state() == "waiting"


async def test_retry_keeps_priority_and_lifo(queue: Queue, hand: Worker) -> None:
    """BMQ-070."""
    for name, options in (("p", {"priority": 3}), ("l", {"lifo": True})):
        await queue.add(name, **options)  # pyright: ignore[reportArgumentType] - a table of options
    for _ in range(2):
        await hand.fail(await fetched(hand), ValueError("no"))
    await queue.add("a", priority=9)
    await queue.add("b")
    for job in await queue.get_jobs("failed"):
        await job.retry()
    assert await run_order(hand) == ["l", "b", "p", "a"]


@pytest.mark.parametrize("ended", ["completed", "failed"])
async def test_a_parent_waits_again_for_a_retried_child(
    queue: Queue, hand: Worker, raw: Redis, prefix: str, ended: str
) -> None:
    """BMQ-070: restores the link."""
    parent = await queue.add("parent")
    await fetched(hand)
    child = await queue.add("child", parent=Parent(parent.id, "q"), on_child_failure="ignore")
    running = await fetched(hand)
    key = f"{prefix}:q:{parent.id}"
    if ended == "completed":
        await hand.complete(running)
        await child.retry("completed")
    else:
        await hand.fail(running, ValueError("no"))
        assert await raw.hgetall(f"{key}:failed") == {f"{prefix}:q:{child.id}": "no"}
        await child.retry()
    assert await raw.smembers(f"{key}:dependencies") == {f"{prefix}:q:{child.id}"}
    assert await raw.exists(f"{key}:processed", f"{key}:failed") == 0


async def test_an_unknown_state_is_refused(queue: Queue) -> None:
    job = await queue.add("n")
    with pytest.raises(InvalidOption, match="'failed' or 'completed'"):
        await job.retry("waiting")  # pyright: ignore[reportArgumentType] - what an untyped caller may pass


# Any job -----------------------------------------------------------------------------------------------------------------------


async def test_a_change_to_a_job_that_is_gone_is_one_typed_error(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-079, code -1: and nothing is written."""
    job = await queue.add("n")
    await job.remove()
    calls = [
        job.promote(), job.change_delay(1), job.change_priority(1), job.retry(), job.update_data(1), job.update_progress(1), job.log("x"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(JobNotFound):
            await call
    assert await raw.keys(f"{prefix}:q:{job.id}*") == []
    assert await job.state() == "unknown"
    assert await job.remove() is False


async def test_a_job_with_an_escaped_id_can_be_changed(queue: Queue) -> None:
    """Ids that Node refuses are stored in another form, and everything finds them."""
    await queue.add("n", 1, job_id="a:b", delay=60)
    job = await queue.get_job("a:b")
    assert job is not None
    await job.update_data(2)
    await job.promote()
    assert await job.state() == "waiting"


async def test_many_changes_at_once_leave_the_job_in_one_place(queue: Queue) -> None:
    """The scripts are atomic: the job stands in one collection, whatever the order."""
    job = await queue.add("n", delay=60)
    changes = [job.change_priority(number % 3, lifo=bool(number % 2)) for number in range(20)]
    await asyncio.gather(job.promote(), *changes)
    assert sum((await queue.counts()).values()) == 1
