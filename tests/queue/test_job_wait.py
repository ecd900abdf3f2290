"""Waiting for a job to end: BMQ-071."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from taurine.errors import CorruptJob, JobFailed, JobNotFound, StoreRefused, StoreUnavailable, WaitTimeout
from taurine.options import Dedup
from taurine.queue import Job, Queue, Worker
from taurine.testing import TestClock


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def listening(raw: Redis, count: int = 1) -> None:
    """Wait until `count` links of ours block on an event stream: then whoever waits has asked and listens."""

    async def blocked() -> bool:
        clients = [client for client in await raw.client_list() if client["cmd"] == "xread"]
        assert len(clients) == count, f"{len(clients)} readers"
        return True

    await eventually(blocked, message="no reader listens")


@contextlib.asynccontextmanager
async def waiting(job: Job, raw: Redis) -> AsyncGenerator[asyncio.Task[Any]]:
    task = asyncio.create_task(job.wait(timeout=20))
    await listening(raw)
    yield task
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("keep", [False, True])
async def test_a_wait_gets_the_result(queue: Queue, hand: Worker, raw: Redis, keep: bool) -> None:
    """BMQ-071: kept, or removed as it ends."""
    job = await queue.add("n", remove_on_complete=keep)
    async with waiting(job, raw) as result:
        await hand.complete(await fetched(hand), {"v": "ü"})
        assert await result == {"v": "ü"}
    assert job.result == {"v": "ü"}


@pytest.mark.parametrize("keep", [False, True])
async def test_a_wait_gets_the_reason_of_a_failure(queue: Queue, hand: Worker, raw: Redis, keep: bool) -> None:
    """BMQ-071."""
    job = await queue.add("n", remove_on_fail=keep)
    async with waiting(job, raw) as result:
        await hand.fail(await fetched(hand), ValueError("no bread"))
        with pytest.raises(JobFailed, match="no bread") as caught:
            await result
    assert caught.value.reason == job.failed_reason == "no bread"


async def test_a_job_that_has_ended_is_not_waited_for(queue: Queue, hand: Worker) -> None:
    """BMQ-071."""
    good, bad = await queue.add("good"), await queue.add("bad")
    await hand.complete(await fetched(hand), 7)
    await hand.fail(await fetched(hand), ValueError("no"))
    assert await good.wait(timeout=5) == 7
    with pytest.raises(JobFailed, match="no"):
        await bad.wait(timeout=5)


async def test_a_wait_ends_in_time(queue: Queue, raw: Redis, clock: TestClock) -> None:
    """BMQ-071: and the job goes on."""
    job = await queue.add("n")
    task = asyncio.create_task(job.wait(timeout=30))
    await listening(raw)
    clock.advance(29)
    await asyncio.sleep(0)
    assert not task.done()
    clock.advance(2)
    with pytest.raises(WaitTimeout, match="30 s") as caught:
        await task
    assert isinstance(caught.value, TimeoutError)
    assert await job.state() == "waiting"


async def test_an_attempt_that_is_retried_is_no_end(queue: Queue, hand: Worker, raw: Redis) -> None:
    """BMQ-071."""
    job = await queue.add("n", attempts=2)
    async with waiting(job, raw) as result:
        await hand.fail(await fetched(hand), ValueError("once"))
        await hand.complete(await fetched(hand), "twice")
        assert await result == "twice"


async def test_a_job_that_was_removed_as_it_ended_before_the_wait(queue: Queue, hand: Worker) -> None:
    """BMQ-071: the event stream still tells of its end."""
    good = await queue.add("good", remove_on_complete=True)
    bad = await queue.add("bad", remove_on_fail=True)
    await hand.complete(await fetched(hand), 7)
    await hand.fail(await fetched(hand), ValueError("no"))
    await queue.add_many([("noise", None)] * 1500)
    assert await good.wait(timeout=5) == 7
    with pytest.raises(JobFailed, match="no"):
        await bad.wait(timeout=5)


async def test_an_earlier_job_of_the_same_id_does_not_answer(queue: Queue, hand: Worker) -> None:
    """BMQ-071 with BMQ-008: the newest event of the id decides."""
    await queue.add("n", job_id="same", remove_on_complete=True)
    await hand.complete(await fetched(hand), "old")
    again = await queue.add("n", job_id="same")
    await again.remove()
    with pytest.raises(JobNotFound):
        await again.wait(timeout=5)


async def test_a_job_that_is_not_stored(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-071: no end will ever come, so the wait does not begin."""
    job = await queue.add("n")
    await raw.delete(f"{prefix}:q:{job.id}", f"{prefix}:q:events")
    with pytest.raises(JobNotFound):
        await job.wait()


async def test_a_job_that_is_removed_while_it_is_waited_for(queue: Queue, raw: Redis) -> None:
    """BMQ-071."""
    job = await queue.add("n")
    async with waiting(job, raw) as result:
        await job.remove()
        with pytest.raises(JobNotFound):
            await result


async def test_a_job_that_is_replaced_while_it_is_waited_for(queue: Queue, raw: Redis) -> None:
    """BMQ-071 with BMQ-032."""
    debounce = Dedup("x", ttl=5, replace=True)
    job = await queue.add("n", delay=60, deduplication=debounce)
    async with waiting(job, raw) as result:
        await queue.add("n", delay=60, deduplication=debounce)
        with pytest.raises(JobNotFound):
            await result


async def test_a_result_that_is_no_json(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    job = await queue.add("n")
    await hand.complete(await fetched(hand))
    await raw.hset(f"{prefix}:q:{job.id}", "returnvalue", "{oh no")
    with pytest.raises(CorruptJob, match="result"):
        await job.wait(timeout=5)


async def test_many_waits_share_one_reader(redis_socket_url: str, prefix: str, raw: Redis) -> None:
    """BMQ-071: 1,000 waits, over two Queues and one job more than once, on one connection that reads."""
    go = asyncio.Event()

    async def handler(job: Job) -> int:
        await go.wait()
        return job.data

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Queue("q", redis_socket_url, prefix=prefix) as same_queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=200),
    ):
        jobs = await queue.add_many([("n", number) for number in range(400)])
        jobs += await same_queue.add_many([("n", number) for number in range(400, 800)])
        waits = [asyncio.create_task(job.wait(timeout=30)) for job in [*jobs, *jobs[:200]]]
        await listening(raw)
        before = len(await raw.client_list())
        go.set()
        assert await asyncio.gather(*waits) == [*range(800), *range(200)]
        assert len(await raw.client_list()) <= before + 1


async def test_no_end_is_missed_between_the_question_and_listening(redis_socket_url: str, prefix: str) -> None:
    """BMQ-071: jobs end at every moment of the waits' beginnings, most are removed as they end."""

    async def handler(job: Job) -> int:
        return job.data

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=20),
    ):

        async def one(number: int) -> Any:
            job = await queue.add("n", number, remove_on_complete=number % 4 != 0)
            for _ in range(number % 7):
                await asyncio.sleep(0)
            return await job.wait(timeout=20)

        for first in range(0, 600, 60):
            numbers = range(first, first + 60)
            assert await asyncio.gather(*(one(number) for number in numbers)) == list(numbers)


async def test_a_wait_outlives_an_outage(
    valkey: ValkeyServer, hand: Worker, prefix: str, raw: Redis, clock: TestClock
) -> None:
    """BMQ-071: the end happens while nobody can listen, and its event is cut from the stream before anybody can."""
    async with FaultProxy(valkey.port) as proxy, Queue("q", proxy.url, prefix=prefix, clock=clock) as queue:
        job, other = await queue.add("n"), await queue.add("other")
        task = asyncio.create_task(job.wait(timeout=30))
        await listening(raw)
        proxy.down()
        await hand.complete(await fetched(hand), "ended")
        await raw.xtrim(f"{prefix}:q:events", maxlen=0, approximate=False)
        with pytest.raises(StoreUnavailable):
            await other.wait(timeout=30)
        assert not task.done()
        await proxy.heal()
        assert await asyncio.wait_for(task, 20) == "ended"


async def test_an_end_whose_event_was_cut_is_found_by_asking_again(
    queue: Queue, hand: Worker, raw: Redis, prefix: str, clock: TestClock
) -> None:
    """BMQ-071: a stream that is cut faster than it is read hides ends."""
    job = await queue.add("n")
    async with waiting(job, raw) as result:
        await raw.hset(f"{prefix}:q:{job.id}", "returnvalue", "5")
        await raw.zadd(f"{prefix}:q:completed", {job.id: 1})
        clock.advance(11)
        await raw.xadd(f"{prefix}:q:events", {"event": "anything"})  # type: ignore[reportArgumentType]
        assert await result == 5


async def test_who_waits_again_after_a_refusal_is_heard(
    server_factory: Callable[[], ValkeyServer], prefix: str
) -> None:
    """BMQ-071: two who take turns, so that somebody waits all the time, and the reader that was refused is the one of
    both.
    """
    server, refusals = server_factory(), 0

    async def stubborn(job: Job) -> Any:
        nonlocal refusals
        while True:
            try:
                return await job.wait(timeout=20)
            except StoreRefused:
                refusals += 1

    async with (
        Redis.from_url(server.url, decode_responses=True) as raw,
        Queue("q", server.url, prefix=prefix) as queue,
        Queue("q", server.url.replace("//", "//reader:pw@"), prefix=prefix) as reader,
    ):
        await raw.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all")
        jobs = [await reader.get_job((await queue.add("n")).id) for _ in range(2)]
        waits = [asyncio.create_task(stubborn(job)) for job in jobs if job is not None]
        await listening(raw)
        await raw.execute_command("ACL", "SETUSER", "reader", "-xread")
        await raw.xadd(f"{prefix}:q:events", {"event": "anything"})
        await eventually(lambda: refusals >= 2)
        await raw.execute_command("ACL", "SETUSER", "reader", "+xread")
        await listening(raw)
        hand = Worker("q", None, server.url, prefix=prefix)
        for number in range(2):
            await hand.complete(await fetched(hand), number)
        assert await asyncio.gather(*waits) == [0, 1]
        await hand.stop()


@pytest.mark.parametrize("broken", ["EventStream.read", "_Watch._look_back"])
async def test_an_error_that_nobody_foresaw_is_told_to_who_waits(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """BMQ-071: else they would wait for ever."""

    async def bug(*_: Any) -> None:
        raise RuntimeError("a bug")

    job = await queue.add("n")
    if broken != "EventStream.read":
        await job.remove()
    monkeypatch.setattr(f"taurine.queue.endings.{broken}", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(job.wait(timeout=60), 10)


async def test_a_cancelled_wait_leaves_nothing(queue: Queue, raw: Redis) -> None:
    """The leak check after the test looks for its task and connection."""
    job = await queue.add("n")
    async with waiting(job, raw) as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await listening(raw, 0)


async def test_a_wait_that_is_cancelled_at_any_step_leaves_no_connection(queue: Queue, raw: Redis) -> None:
    """The leak check after the test counts them."""
    job = await queue.add("n")
    for steps in range(40):
        task = asyncio.create_task(job.wait(timeout=20))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await listening(raw, 0)


# What it knows afterwards -----------------------------------------------------------------------------------------------------------


async def test_after_a_failed_wait_the_job_knows_what_went_wrong(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-071: no second look at the job is needed."""
    job = await queue.add("n", attempts=2)
    for reason in ("first", "second"):
        await hand.fail(await fetched(hand), ValueError(reason))
    with pytest.raises(JobFailed):
        await job.wait(timeout=5)

    assert job.failed_reason == "second"
    assert [trace.splitlines()[-1] for trace in job.stacktrace] == ["ValueError: first", "ValueError: second"]
    assert (job.attempts_made, job.attempts_started) == (2, 2)
    assert job.finished_at == pytest.approx(clock.now(), abs=0.01)
    assert job.corrupt is None


async def test_after_a_wait_that_was_heard_of_the_job_knows_its_runs(queue: Queue, hand: Worker, raw: Redis) -> None:
    """BMQ-071: by the event stream as well as by asking."""
    job = await queue.add("n")
    async with waiting(job, raw) as result:
        running = await fetched(hand)
        await running.update_progress(50)
        await hand.complete(running, "done")
        assert await result == "done"
    assert (job.result, job.progress, job.attempts_made) == ("done", 50, 1)
    assert job.finished_at is not None


async def test_a_job_that_is_gone_keeps_what_it_knew(queue: Queue, hand: Worker, raw: Redis) -> None:
    """BMQ-071: the end comes all the same."""
    job = await queue.add("n", 7, remove_on_complete=True)
    async with waiting(job, raw) as result:
        await hand.complete(await fetched(hand), "done")
        assert await result == "done"
    assert (job.data, job.attempts_made, job.finished_at) == (7, 0, None)


async def test_an_end_is_told_though_the_job_cannot_be_read(
    server_factory: Callable[[], ValkeyServer], prefix: str
) -> None:
    """BMQ-071: a user without the right to read jobs still gets results."""
    server = server_factory()
    async with Redis.from_url(server.url) as raw:
        await raw.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all", "-hmget")
    async with (
        Queue("q", server.url, prefix=prefix) as queue,
        Queue("q", server.url.replace("//", "//poor:pw@"), prefix=prefix) as poor,
    ):
        hand = Worker("q", None, server.url, prefix=prefix)
        job = await queue.add("n")
        seen = await poor.get_job(job.id)
        assert seen is not None
        await hand.complete(await fetched(hand), "done")
        assert await seen.wait(timeout=5) == "done"
        await hand.stop()
