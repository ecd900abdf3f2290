"""Running a queue's affairs: BMQ-015, 036, 038, 040 to 056, and where BullMQ loses work or wakes nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from support.claims import ByHand
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.errors import (
    BelongsToScheduler,
    InvalidOption,
    JobLocked,
    JobNotFound,
    QueueBusy,
    QueueNotPaused,
    StoreRefused,
    StoreUnavailable,
)
from taurine.options import Dedup, Parent, RateLimit
from taurine.queue import Queue, Worker, administration
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.turn import Failed, Outcome, Turn, TurnReply, WaitingForChildren
from taurine.testing import TestClock

FAILED = Failed("boom", "[]", "::", 1)


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
async def connection(redis_socket_url: str) -> AsyncIterator[Connection]:
    connection = Connection(redis_socket_url)
    yield connection
    await connection.close()


@pytest.fixture
def keys(prefix: str) -> QueueKeys:
    return QueueKeys("q", prefix)


@pytest.fixture
def queue(connection: Connection, prefix: str, clock: TestClock) -> Queue:
    return Queue("q", connection, prefix=prefix, clock=clock)


@pytest.fixture
def other(connection: Connection, prefix: str, clock: TestClock) -> Queue:
    """Another queue under the same prefix."""
    return Queue("other", connection, prefix=prefix, clock=clock)


@pytest.fixture
def worker(keys: QueueKeys, connection: Connection, clock: TestClock) -> ByHand:
    return ByHand(keys, connection, clock)


async def claimed(worker: ByHand) -> Job:
    job = await worker.claim()
    assert job is not None, "there was nothing to claim"
    return job


async def end(worker: ByHand, job: Job, outcome: Outcome) -> None:
    await worker._settle(job, outcome)


async def fail_next(worker: ByHand) -> Job:
    job = await claimed(worker)
    await end(worker, job, FAILED)
    return job


async def waiting_parent(queue: Queue, worker: ByHand, job_id: str, *children: tuple[Queue, str]) -> Job:
    """A job that waits for these children, each given by its queue and id."""
    await queue.add("parent", {}, job_id=job_id, lifo=True)
    parent = await claimed(worker)
    for child_queue, child_id in children:
        await child_queue.add("child", {}, job_id=child_id, parent=Parent(job_id, queue.name))
    await end(worker, parent, WaitingForChildren())
    return parent


async def events_of(raw: Redis, keys: QueueKeys, *names: str) -> list[tuple[str, str | None]]:
    """(event, job id) of the events of these names, oldest first."""
    return [(entry["event"], entry.get("jobId")) for entry in await entries(raw, keys) if entry["event"] in names]


async def entries(raw: Redis, keys: QueueKeys) -> list[dict[str, str]]:
    """The queue's event stream, oldest first."""
    return [cast(dict[str, str], fields) for _, fields in cast(list[Any], await raw.xrange(keys.events))]


async def keys_under(raw: Redis, keys: QueueKeys) -> set[str]:
    return {key.removeprefix(keys.base) async for key in raw.scan_iter(f"{keys.base}*", count=10_000)}


# Promoting and retrying many ------------------------------------------------------------------------------------------------------


async def test_promote_jobs_moves_all_delayed_jobs_in_steps(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-015, and what BullMQ forgets: the delay is reset and priorities hold."""
    await queue.add_many([("n", {}, {"job_id": f"j{n}", "delay": 60.0 + n}) for n in range(240)])
    await queue.add_many([("n", {}, {"job_id": f"p{n}", "delay": 10.0, "priority": 7}) for n in range(10)])
    told: list[int] = []

    promoted = await queue.promote_jobs(count=100, on_progress=told.append)

    assert promoted == 250
    assert told == [100, 200, 250]
    assert await queue.counts("waiting", "prioritized", "delayed") == {"waiting": 240, "prioritized": 10, "delayed": 0}
    assert await raw.lrange(keys.wait, -2, -1) == ["j1", "j0"]
    assert {await raw.hget(keys.job(job_id), "delay") for job_id in ("j5", "p5")} == {"0"}
    assert await raw.zscore(keys.marker, "0") == 0
    assert ("waiting", "j7") in await events_of(raw, keys, "waiting")


async def test_promote_jobs_drops_an_id_without_a_job(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    await queue.add("n", {}, job_id="real", delay=5)
    await raw.zadd(keys.delayed, {"ghost": 1})

    assert await queue.promote_jobs() == 1

    assert await raw.exists(keys.job("ghost")) == 0
    assert await raw.lrange(keys.wait, 0, -1) == ["real"]


@pytest.mark.parametrize("count", [0, -1, 1.5, True, 10_001])
async def test_steps_out_of_range_are_refused(queue: Queue, count: Any) -> None:
    with pytest.raises(InvalidOption, match="expected count"):
        await queue.promote_jobs(count=count)
    with pytest.raises(InvalidOption, match="expected count"):
        await queue.retry_jobs(count=count)


async def test_retry_jobs_takes_the_older_half(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-044."""
    await queue.add_many([("n", {}, {"job_id": f"j{n}"}) for n in range(50)])
    cutoff = clock.now()
    for number in range(50):
        if number == 25:
            clock.advance(10)
        await fail_next(worker)

    assert await queue.retry_jobs(before=cutoff, count=10) == 25

    assert await queue.counts("failed", "waiting") == {"failed": 25, "waiting": 25}
    assert [await queue.state("j24"), await queue.state("j25")] == ["waiting", "failed"]
    assert await queue.retry_jobs() == 25


async def test_a_retried_job_is_as_new(queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-044, and what BullMQ forgets: its priority, the old delay, and the wake-up."""
    await queue.add("n", {}, job_id="urgent", priority=3)
    await fail_next(worker)
    await raw.hset(keys.job("urgent"), "delay", "5000")
    await raw.delete(keys.marker)

    assert await queue.retry_jobs() == 1

    assert await queue.state("urgent") == "prioritized"
    fields = await raw.hgetall(keys.job("urgent"))
    assert fields["delay"] == "0"
    assert not {"failedReason", "finishedOn", "processedOn"} & fields.keys()
    assert await raw.zscore(keys.marker, "0") == 0
    assert (await events_of(raw, keys, "waiting"))[-1] == ("waiting", "urgent")


async def test_a_retried_child_is_awaited_again(queue: Queue, other: Queue, worker: ByHand, raw: Redis) -> None:
    """BMQ-044: completed children too."""
    parent = await waiting_parent(queue, worker, "p", (queue, "c1"), (other, "c2"))
    await worker.complete(await claimed(worker))
    dependencies = f"{worker.store.keys.job(parent.stored_id)}:dependencies"
    assert await raw.scard(dependencies) == 1

    assert await queue.retry_jobs(state="completed") == 1

    assert await raw.scard(dependencies) == 2
    assert await queue.state("p") == "waiting-children"


# Pausing --------------------------------------------------------------------------------------------------------------------------


async def test_nothing_starts_while_paused(queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-038: adding goes on, running jobs end."""
    await queue.add("n", {}, job_id="running")
    running = await claimed(worker)

    await queue.pause()
    await queue.pause()
    await queue.add("n", {}, job_id="late")

    assert await worker.claim() is None
    assert await raw.exists(keys.marker) == 0
    await worker.complete(running)
    assert await queue.state("running") == "completed"
    await queue.resume()
    await queue.resume()
    assert await raw.zscore(keys.marker, "0") == 0
    assert (await claimed(worker)).id == "late"
    assert await events_of(raw, keys, "paused", "resumed") == [("paused", None), ("resumed", None)]


async def at_rest(queue: Queue, worker: Worker) -> None:
    """Wait until the worker has found the queue empty: from then on only a marker wakes it, within its drain delay."""
    drained = asyncio.Event()
    worker.on("drained", drained.set)
    await queue.add("first", {})
    async with asyncio.timeout(10):
        await drained.wait()


async def test_resume_wakes_an_idle_worker(redis_socket_url: str, prefix: str) -> None:
    """BMQ-038."""
    names: list[str] = []

    async def handler(job: Job) -> None:
        names.append(job.name)

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, drain_delay=100) as worker,
    ):
        await at_rest(queue, worker)
        await queue.pause()
        await queue.add("second", {})
        await queue.resume()
        await eventually(lambda: names == ["first", "second"], message="the worker was not woken")


async def test_resume_brings_back_what_bullmq_5_set_aside(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-038: in their old order, before the jobs that came later."""
    await queue.add("n", {}, job_id="later")
    await queue.pause()
    await raw.rpush(keys.legacy_paused, *(f"old{n}" for n in range(2500)))

    await queue.resume()

    assert await raw.lrange(keys.wait, 0, -1) == ["later", *(f"old{n}" for n in range(2500))]
    assert await raw.exists(keys.legacy_paused) == 0
    assert await events_of(raw, keys, "resumed") == [("resumed", None)]


async def test_paused_and_maxed_can_be_read(queue: Queue, worker: ByHand) -> None:
    """BMQ-040."""
    assert not await queue.is_paused()
    await queue.pause()
    assert await queue.is_paused()
    await queue.resume()
    assert not await queue.is_paused()

    await queue.add_many([("n", {}), ("n", {})])
    await claimed(worker)
    assert not await queue.is_maxed()
    await queue.set_concurrency(1)
    assert await queue.is_maxed()
    await queue.set_concurrency(2)
    assert not await queue.is_maxed()


# Draining -------------------------------------------------------------------------------------------------------------------------


async def test_drain_removes_what_waits_and_nothing_else(queue: Queue, other: Queue, worker: ByHand) -> None:
    """BMQ-041."""
    await waiting_parent(queue, worker, "parent", (other, "elsewhere"))
    await queue.add_many([("n", {}, {"job_id": job_id}) for job_id in ("done", "bad", "running")])
    await worker.complete(await claimed(worker))
    await fail_next(worker)
    await claimed(worker)
    await queue.add_many([("n", {}), ("n", {}, {"priority": 4}), ("n", {}, {"delay": 60})])

    assert await queue.drain() == 2

    assert await queue.counts() == {
        "waiting": 0, "prioritized": 0, "delayed": 1, "active": 1, "waiting-children": 1, "completed": 1, "failed": 1,
    }  # fmt: skip
    assert await queue.drain(delayed=True) == 1
    assert await queue.counts("delayed") == {"delayed": 0}


async def test_drain_leaves_no_key_of_a_removed_job(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-041: in steps, with logs and deduplication ids."""
    job = await queue.add("n", {}, job_id="kept-out", deduplication=Dedup("once"))
    await job.log("a line")
    await queue.add_many([("n", {}) for _ in range(2200)])
    told: list[int] = []

    assert await queue.drain(on_progress=told.append) == 2201

    assert told == [1000, 2000, 2201]
    assert await keys_under(raw, keys) <= {"meta", "id", "events", "marker"}
    assert not (await queue.add("n", {}, deduplication=Dedup("once"))).duplicate


@pytest.mark.parametrize("position", ["first", "middle", "last"])
async def test_drain_keeps_the_next_run_of_a_scheduler(
    queue: Queue, worker: ByHand, raw: Redis, monkeypatch: pytest.MonkeyPatch, position: str
) -> None:
    """BMQ-041: BullMQ cuts as many entries as it removed from the other end, so it may lose the run and leave a removed
    id.
    """
    before, after = {"first": (0, 4), "middle": (2, 2), "last": (4, 0)}[position]
    await queue.add_many([("n", {}, {"job_id": f"before{n}"}) for n in range(before)])
    armed = await queue.upsert_scheduler("tick", every=60)
    await queue.add_many([("n", {}, {"job_id": f"after{n}"}) for n in range(after)])
    await queue.promote_jobs()
    assert await queue.count("waiting") == 5
    monkeypatch.setattr(administration, "_STEP", 2)

    assert await queue.drain(delayed=True) == 4

    assert await raw.lrange(worker.store.keys.wait, 0, -1) == [armed.stored_id]
    assert (await claimed(worker)).id == armed.id


async def test_drain_takes_a_parent_with_its_last_child(queue: Queue, other: Queue, worker: ByHand) -> None:
    """BMQ-041: a parent in this queue would only come to wait here; one elsewhere, or with a child that runs, stays."""
    await waiting_parent(queue, worker, "half", (queue, "runs"), (queue, "c0"))
    await waiting_parent(queue, worker, "here", (queue, "c1"), (queue, "c2"))
    in_other = ByHand(QueueKeys("other", queue.prefix), queue._store.connection, queue._store.clock)
    await waiting_parent(other, in_other, "there", (queue, "c3"))
    assert (await claimed(worker)).id == "runs"

    assert await queue.drain() == 5

    assert {job.id for job in await queue.get_jobs()} == {"half", "runs"}
    assert await queue.state("half") == "waiting-children"
    assert await other.state("there") == "waiting"
    assert (await claimed(in_other)).id == "there"


# Cleaning -------------------------------------------------------------------------------------------------------------------------


async def finish(queue: Queue, worker: ByHand, ids: Sequence[str]) -> None:
    await queue.add_many([("n", {}, {"job_id": job_id}) for job_id in ids])
    for _ in ids:
        await worker.complete(await claimed(worker))


async def test_clean_removes_only_what_is_old(queue: Queue, worker: ByHand, clock: TestClock, raw: Redis) -> None:
    """BMQ-042."""
    old = [f"old{n}" for n in range(10)]
    for job_id in old:
        await finish(queue, worker, [job_id])
        clock.advance(0.001)
    clock.advance(60)
    await finish(queue, worker, [f"new{n}" for n in range(10)])

    assert await queue.clean(30, 4) == old[:4]
    assert await queue.clean(30, 0, "completed") == old[4:]
    assert await queue.clean(30) == []

    assert await queue.count("completed") == 10
    assert await raw.exists(queue._store.keys.job("old3")) == 0
    assert ("cleaned", None) in await events_of(raw, queue._store.keys, "cleaned")


async def test_clean_of_each_state_that_is_still_to_run(queue: Queue, clock: TestClock) -> None:
    """BMQ-042: by age since creation, with jobs of any age in between."""
    for age in (100, 10, 100, 10, 100):
        created = clock.now() - age
        places: dict[str, dict[str, Any]] = {"waiting": {}, "prioritized": {"priority": 2}, "delayed": {"delay": 9000}}
        for state, options in places.items():
            await queue.add("n", {}, job_id=f"{state}{age}-{created:.3f}", timestamp=created, **options)
        clock.advance(0.5)

    for state in ("waiting", "prioritized", "delayed"):
        ids = await queue.clean(50, None, state)
        assert len(ids) == 3
        assert all(job_id.startswith(f"{state}100") for job_id in ids)
        assert [job.id.split("-")[0] for job in await queue.get_jobs(state)] == [f"{state}10"] * 2


async def test_clean_keeps_leased_jobs_and_frees_a_slot(
    queue: Queue, worker: ByHand, clock: TestClock, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-042: of active jobs only those that nobody works on."""
    await queue.add_many([("n", {}, {"job_id": job_id}) for job_id in ("gone", "leased", "next")])
    await claimed(worker)
    await claimed(worker)
    await queue.set_concurrency(2)
    await raw.delete(keys.lock("gone"), keys.marker)
    clock.advance(60)

    assert await queue.clean(1, None, "active") == ["gone"]

    assert await raw.lrange(keys.active, 0, -1) == ["leased"]
    assert await raw.zscore(keys.marker, "0") == 0


async def test_clean_keeps_the_next_run_of_a_scheduler(queue: Queue, clock: TestClock) -> None:
    """BMQ-042, BMQ-127."""
    armed = await queue.upsert_scheduler("tick", pattern="0 0 1 1 *", tz="UTC")
    clock.advance(60)

    assert await queue.clean(0, None, "delayed") == []
    assert await queue.state(armed.id) == "delayed"


async def test_cleaning_a_failed_child_lets_its_parent_go_on(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-042: BullMQ deletes the parent as well."""
    await waiting_parent(queue, worker, "p", (queue, "c"))
    await fail_next(worker)
    clock.advance(1)

    assert await queue.clean(0, None, "failed") == ["c"]

    assert await queue.state("p") == "waiting"


async def test_clean_goes_in_steps(queue: Queue, clock: TestClock) -> None:
    """BMQ-042: 2,500 waiting jobs of which every other is old."""
    old = clock.now() - 100
    await queue.add_many(
        [("n", {}, {"job_id": f"j{n}", "timestamp": old if n % 2 else clock.now()}) for n in range(2500)]
    )
    told: list[int] = []

    ids = await queue.clean(50, None, "waiting", on_progress=told.append)

    assert ids == [f"j{n}" for n in range(1, 2500, 2)]
    assert told == [500, 1000, 1250]
    assert [job.id for job in await queue.get_jobs("waiting", ascending=True)] == [f"j{n}" for n in range(0, 2500, 2)]


async def test_clean_refuses_other_words(queue: Queue) -> None:
    """BMQ-042."""
    with pytest.raises(InvalidOption, match="did you mean 'completed'"):
        await queue.clean(0, 10, "complete")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidOption, match="waiting-children"):
        await queue.clean(0, 10, "waiting-children")
    with pytest.raises(InvalidOption, match="expected limit"):
        await queue.clean(0, -1)


# Obliterating ---------------------------------------------------------------------------------------------------------------------


async def every_state(queue: Queue, other: Queue, worker: ByHand) -> None:
    """One job in each state, with everything that a queue may have."""
    await waiting_parent(queue, worker, "parent", (queue, "child"), (other, "elsewhere"))
    await worker.complete(await claimed(worker), keep="::")
    await queue.add_many([("n", {}, {"job_id": job_id}) for job_id in ("bad", "running")])
    await fail_next(worker)
    job = await claimed(worker)
    await job.log("a line")
    await queue.add("n", {}, deduplication=Dedup("once"), job_id="owner")
    await queue.add("n", {}, priority=1)
    await queue.add("n", {}, delay=100)
    await queue.upsert_scheduler("tick", every=3600)
    await queue.set_rate_limit(RateLimit(100, 100))
    await queue.limit_for(100)
    store = queue._store
    await store.connection.call("HSET", store.keys.key("metrics:completed"), "count", 1)
    await store.connection.call("LPUSH", store.keys.key("metrics:completed:data"), 1)
    await store.connection.call("SADD", store.keys.key("stalled"), "running")


async def test_obliterate_refuses_active_jobs_and_changes_nothing(
    queue: Queue, other: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-043."""
    await every_state(queue, other, worker)
    before = await keys_under(raw, keys)

    with pytest.raises(QueueBusy, match="has active jobs"):
        await queue.obliterate()

    assert await keys_under(raw, keys) == before
    assert not await queue.is_paused()


async def test_obliterate_by_force_leaves_no_key(
    queue: Queue, other: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-043: BullMQ leaves parents that wait for children, the limiter and deduplication ids."""
    await every_state(queue, other, worker)
    await queue.add_many([("n", {}) for _ in range(1500)])
    told: list[int] = []

    removed = await queue.obliterate(force=True, on_progress=told.append)

    assert await keys_under(raw, keys) == set()
    assert removed == 1508
    assert told == [1000, 1508]
    assert await other.state("elsewhere") == "waiting"
    assert (await queue.add("n", {})).id == "1"


async def test_obliterate_lets_parents_in_other_queues_go_on(queue: Queue, other: Queue, worker: ByHand) -> None:
    """BMQ-043."""
    in_other = ByHand(QueueKeys("other", queue.prefix), queue._store.connection, queue._store.clock)
    await waiting_parent(other, in_other, "there", (queue, "c"))

    assert await queue.obliterate() == 1

    assert await other.state("there") == "waiting"


async def test_obliterate_stops_when_somebody_resumes(
    queue: Queue, valkey: ValkeyServer, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-043."""
    await queue.add_many([("n", {}) for _ in range(1500)])

    def resume(_: int) -> None:
        with BlockingRedis(unix_socket_path=str(valkey.socket)) as client:
            client.hdel(keys.meta, "paused")

    with pytest.raises(QueueNotPaused, match="1000 jobs are gone"):
        await queue.obliterate(on_progress=resume)

    assert await queue.count() == 500
    assert await queue.obliterate() == 500


async def test_a_worker_survives_the_end_of_its_queue(redis_socket_url: str, prefix: str) -> None:
    """BMQ-043: its jobs are gone when it settles them, and it goes on with the next."""
    gauge, ran = Gauge(), asyncio.Event()

    async def handler(job: Job) -> None:
        if job.name == "after":
            ran.set()
        else:
            await gauge(job)

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, drain_delay=100),
        gauge,
    ):
        await queue.add_many([("n", {}) for _ in range(3)])
        await eventually(lambda: gauge.now == 3, message="the jobs did not start")
        assert await queue.obliterate(force=True) == 3
        gauge.let_go()
        await eventually(lambda: gauge.now == 0, message="the jobs did not end")
        await queue.add("after", {})
        async with asyncio.timeout(10):
            await ran.wait()
        await eventually(lambda: queue.count("completed"), message="the worker did not settle the job")


# Removing one ---------------------------------------------------------------------------------------------------------------------


async def test_remove_refuses_a_job_that_is_worked_on(queue: Queue, worker: ByHand) -> None:
    """BMQ-045."""
    await queue.add("n", {}, job_id="busy")
    await claimed(worker)

    with pytest.raises(JobLocked, match="'busy'"):
        await queue.remove("busy")

    assert await queue.state("busy") == "active"


async def test_remove_works_in_every_state(
    queue: Queue, other: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-045: the event tells where the job stood, in BullMQ's words."""
    await every_state(queue, other, worker)
    await raw.delete(keys.lock("running"))
    jobs = await queue.get_jobs()
    removable = [job.id for job in jobs if job.scheduler_id is None]

    for job_id in removable:
        await queue.remove(job_id)

    assert await queue.count(*(await queue.counts())) == 1, "the next run of the scheduler is left"
    assert await other.state("elsewhere") == "unknown"
    removed = [entry for entry in await entries(raw, keys) if entry["event"] == "removed"]
    assert {entry["prev"] for entry in removed} == {
        "wait", "prioritized", "delayed", "active", "waiting-children", "completed", "failed",
    }  # fmt: skip
    assert await raw.exists(keys.deduplication("once")) == 0
    assert await queue.remove("bad") is False


async def test_removing_the_last_child_lets_the_parent_go_on(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-045: with the parent's own priority."""
    await queue.add("parent", {}, job_id="p", priority=5)
    parent = await claimed(worker)
    for child in ("c1", "c2"):
        await queue.add("child", {}, job_id=child, parent=Parent("p", "q"))
    await end(worker, parent, WaitingForChildren())

    assert await queue.remove("c1")
    assert await queue.state("p") == "waiting-children"
    assert await queue.remove("c2")

    assert await queue.state("p") == "prioritized"
    assert await raw.zscore(keys.marker, "0") == 0


async def test_a_parent_goes_with_its_children_or_not_at_all(
    queue: Queue, other: Queue, worker: ByHand, raw: Redis
) -> None:
    """BMQ-045: children of children too, in any queue; one that is worked on protects all."""
    keys = queue._store.keys
    in_other = ByHand(QueueKeys("other", queue.prefix), queue._store.connection, queue._store.clock)
    await waiting_parent(queue, worker, "p", (queue, "done"), (other, "c"))
    await worker.complete(await claimed(worker))
    await queue.add("grandchild", {}, job_id="g", parent=Parent("c", "other"))
    grandchild = await claimed(worker)

    with pytest.raises(JobLocked):
        await queue.remove("p")
    assert [await queue.state("p"), await other.state("c"), await queue.state("done")] == [
        "waiting-children", "waiting", "completed",
    ]  # fmt: skip

    await end(worker, grandchild, FAILED)
    assert await queue.remove("p")

    assert await queue.get_jobs() == []
    assert await other.get_jobs() == []
    assert await in_other.claim() is None
    removed = [job_id for _, job_id in await events_of(raw, keys, "removed")]
    assert sorted(filter(None, removed[:2])) == ["done", "g"]
    assert removed[2:] == ["p"], "children go first"
    assert not {name for name in await keys_under(raw, keys) if ":" in name}


async def test_children_may_stay(queue: Queue, worker: ByHand) -> None:
    """BMQ-045."""
    await waiting_parent(queue, worker, "p", (queue, "c"))

    assert await queue.remove("p", children=False)

    assert await queue.state("c") == "waiting"
    await worker.complete(await claimed(worker))
    assert await queue.state("c") == "completed"


async def test_an_id_that_another_job_took_is_no_child(queue: Queue, worker: ByHand) -> None:
    """BMQ-045: a completed child was removed, and its id is used for something else by now."""
    await waiting_parent(queue, worker, "p", (queue, "c1"), (queue, "c2"))
    await worker.complete(await claimed(worker), keep="0::")
    await queue.add("stranger", {}, job_id="c1")

    assert await queue.remove("p")

    assert await queue.state("c1") == "waiting"


async def test_the_next_run_of_a_scheduler_cannot_be_removed(queue: Queue) -> None:
    """BMQ-045, BMQ-127."""
    armed = await queue.upsert_scheduler("tick", every=60)

    with pytest.raises(BelongsToScheduler, match="remove the scheduler instead"):
        await queue.remove(armed.id)


@pytest.mark.parametrize("job_id", ["7", "a:b", "t%x", "0:1", "ünï ☃"])
async def test_a_job_is_named_by_the_id_it_was_given(queue: Queue, job_id: str) -> None:
    """BMQ-045, BMQ-051: ids that are stored in another form."""
    await queue.add("n", {}, job_id=job_id)

    await queue.update_progress(job_id, 5)
    assert await queue.add_log(job_id, "a line") == 1
    assert (await queue.logs(job_id)).lines == ["a line"]
    assert await queue.state(job_id) == "waiting"
    assert await queue.remove(job_id)
    assert await queue.state(job_id) == "unknown"


# Limits ---------------------------------------------------------------------------------------------------------------------------


class Gauge:
    """A handler that runs until it is let go, and how many of it run at once; it is let go at the end of a block."""

    def __init__(self) -> None:
        self.now = self.started = 0
        self.most_later = 0
        """The most that ran at once of those that started after it was let go."""
        self._go = asyncio.Event()

    async def __call__(self, _: Job) -> None:
        self.started += 1
        self.now += 1
        if self._go.is_set():
            self.most_later = max(self.most_later, self.now)
        await self._go.wait()
        self.now -= 1

    def let_go(self) -> None:
        self._go.set()

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        self.let_go()


async def test_concurrency_holds_over_all_workers(redis_socket_url: str, prefix: str) -> None:
    """BMQ-046: two workers of five, a limit of three; raising it wakes workers that look by themselves only after
    minutes.
    """
    gauge = Gauge()

    def worker() -> Worker:
        return Worker("q", gauge, redis_socket_url, prefix=prefix, concurrency=5, drain_delay=100)

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.set_concurrency(3)
        async with worker(), worker(), gauge:
            await queue.add_many([("n", {}) for _ in range(20)])
            await eventually(lambda: gauge.now == 3, message="three jobs did not start")
            await queue.set_concurrency(4)
            await eventually(lambda: gauge.now == 4, message="no worker was woken")
            await queue.set_concurrency(None)
            await eventually(lambda: gauge.now == 10, message="the workers were not woken")
            await queue.set_concurrency(3)
            gauge.let_go()
            await eventually(lambda: gauge.started == 20, message="not all jobs ran")
            assert gauge.most_later <= 3
        assert (await queue.meta()).concurrency == 3


async def claim_up_to(worker: ByHand, want: int, limit: RateLimit | None = None) -> TurnReply:
    turn = Turn(worker.store.now_ms(), "claims", 30_000, want, limit=limit)
    return TurnReply.read(await worker.store.run("turn", *turn.arguments()))


async def test_a_rate_limit_of_the_queue_comes_before_the_workers(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-047."""
    await queue.add_many([("n", {}) for _ in range(20)])
    await queue.set_rate_limit(RateLimit(5, 60))

    first = await claim_up_to(worker, 10, RateLimit(100, 60))
    second = await claim_up_to(worker, 10, RateLimit(100, 60))

    assert (len(first.jobs), len(second.jobs)) == (5, 0)
    assert 0 < second.wait_ms <= 60_000
    assert 0 < await queue.rate_limit_ttl() <= 60
    assert await queue.rate_limit_ttl(6) == 0
    assert (await queue.meta()).rate_limit == RateLimit(5, 60.0)

    await raw.delete(keys.marker)
    await queue.set_rate_limit(None)

    assert (await queue.meta()).rate_limit is None
    assert await raw.zscore(keys.marker, "0") == 0, "a worker may start jobs again and was not woken"
    assert len((await claim_up_to(worker, 10)).jobs) == 10


async def test_two_workers_share_a_rate_limit(redis_socket_url: str, prefix: str) -> None:
    """BMQ-047: five starts in each window of 0.2 s, so the last of 20 jobs come three windows after the first; half of
    that shows it.
    """
    starts: list[float] = []
    now = asyncio.get_running_loop().time

    async def handler(_: Job) -> None:
        starts.append(now())

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.set_rate_limit(RateLimit(5, 0.2))
        await queue.add_many([("n", {}) for _ in range(20)])
        async with (
            Worker("q", handler, redis_socket_url, prefix=prefix),
            Worker("q", handler, redis_socket_url, prefix=prefix),
        ):
            await eventually(lambda: len(starts) == 20, 20, "not all jobs ran")
    assert starts[-1] - starts[0] >= 0.3


async def test_a_limit_by_hand_holds_and_can_be_lifted(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-048: on a queue without a rate limit too, where BullMQ passes over it."""
    await queue.add("n", {})
    await queue.limit_for(60)
    await raw.delete(keys.marker)

    assert await worker.claim() is None
    assert 0 < await queue.rate_limit_ttl() <= 60

    assert await queue.lift_limit()

    assert await queue.rate_limit_ttl() == 0
    assert await raw.zscore(keys.marker, "0") == 0
    assert await worker.claim() is not None
    assert not await queue.lift_limit()


async def test_lifting_a_limit_wakes_a_worker_that_waits_for_it(redis_socket_url: str, prefix: str) -> None:
    """BMQ-048."""
    names: list[str] = []

    async def handler(job: Job) -> None:
        names.append(job.name)

    async with (
        Queue("q", redis_socket_url, prefix=prefix) as queue,
        Worker("q", handler, redis_socket_url, prefix=prefix, drain_delay=100) as worker,
    ):
        await at_rest(queue, worker)
        await queue.limit_for(100)
        await queue.add("second", {})
        await eventually(lambda: worker._prospect.limited, message="the worker did not hear of the limit")
        assert names == ["first"]
        await queue.lift_limit()
        await eventually(lambda: names == ["first", "second"], message="the worker was not woken")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
async def test_limits_out_of_range_are_refused(queue: Queue, value: Any) -> None:
    """BMQ-046, BMQ-047, BMQ-048."""
    with pytest.raises(InvalidOption, match="expected concurrency"):
        await queue.set_concurrency(value)
    with pytest.raises(InvalidOption, match="expected limit to be a RateLimit"):
        await queue.set_rate_limit(value)
    with pytest.raises(InvalidOption, match="expected max_length"):
        await queue.set_max_events(value)


# Settings and events --------------------------------------------------------------------------------------------------------------


async def test_settings_read_back(queue: Queue) -> None:
    """BMQ-049."""
    await queue.set_concurrency(7)
    await queue.set_rate_limit(RateLimit(5, 1.5))
    await queue.set_max_events(500)
    await queue.pause()

    meta = await queue.meta()

    assert (meta.concurrency, meta.max, meta.duration, meta.max_events, meta.paused) == (7, 5, 1.5, 500, True)
    assert meta.version is not None
    assert meta.version.startswith("taurine:")


async def test_the_writer_of_a_queue_is_not_overwritten(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-049: settings in forms that others have left do not stop the reader."""
    await raw.hset(keys.meta, mapping={"version": "bullmq:6.7.0", "max": "many", "paused": "0"})

    await queue.set_concurrency(2)

    meta = await queue.meta()
    assert (meta.version, meta.max, meta.rate_limit, meta.paused) == ("bullmq:6.7.0", None, None, True)


async def test_trim_events_cuts_to_length(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-050."""
    await queue.add_many([("n", {}) for _ in range(50)])
    assert await raw.xlen(keys.events) == 100

    assert await queue.trim_events(10) == 90

    assert await raw.xlen(keys.events) == 10


async def test_progress_and_logs_by_id(queue: Queue, raw: Redis, keys: QueueKeys, redis_url: str, prefix: str) -> None:
    """BMQ-051: from another connection, and an unknown job is an error."""
    job = await queue.add("n", {})
    async with Queue("q", redis_url, prefix=prefix) as elsewhere:
        await elsewhere.update_progress(job.id, {"done": 3})
        assert [await elsewhere.add_log(job.id, f"line {number}", keep=2) for number in range(4)] == [1, 2, 2, 2]
        with pytest.raises(JobNotFound):
            await elsewhere.update_progress("none", 1)
        with pytest.raises(JobNotFound):
            await elsewhere.add_log("wait", "a queue's own key is no job")

    stored = await queue.get_job(job.id)
    assert stored is not None
    assert stored.progress == {"done": 3}
    assert (await queue.logs(job.id)).lines == ["line 2", "line 3"]
    assert json.loads((await entries(raw, keys))[-1]["data"]) == {"done": 3}
    assert await raw.exists(f"{keys.base}none:logs") == 0


async def test_a_deduplication_id_can_be_looked_up_and_freed(queue: Queue) -> None:
    """BMQ-036."""
    assert await queue.deduplication_owner("once") is None
    await queue.add("n", {}, job_id="12", deduplication=Dedup("once"))
    assert await queue.deduplication_owner("once") == "12"

    assert await queue.remove_deduplication("once")

    assert not await queue.remove_deduplication("once")
    assert not (await queue.add("n", {}, deduplication=Dedup("once"))).duplicate


# Orphans --------------------------------------------------------------------------------------------------------------------------


async def test_orphans_go_and_everything_else_stays(
    queue: Queue, other: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-052."""
    await every_state(queue, other, worker)
    await queue.add("n", {}, job_id="a:b:c", delay=5)
    await queue.upsert_scheduler("a:5:logs", every=60)
    before = await keys_under(raw, keys)
    for orphan in ("lost", "x:y:z", "repeat:tick:1"):
        await raw.hset(keys.job(orphan), mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": "1"})
    await raw.rpush(f"{keys.base}lost:logs", "a line")
    await raw.sadd(f"{keys.base}parent-gone:dependencies", "k")
    await raw.hset(f"{keys.base}not-a-job", "field", "value")
    await raw.set(keys.lock("leased"), "token")
    await raw.hset(keys.job("leased"), "timestamp", "1")
    nested = Queue("inner", redis_target(queue), prefix=keys.qualified)
    await nested.add("n", {}, job_id="theirs")

    assert await queue.remove_orphaned_jobs() == 4

    after = {name for name in await keys_under(raw, keys) if not name.startswith("inner:")}
    assert after == before | {"not-a-job", "leased", "leased:lock"}
    assert await nested.state("theirs") == "waiting"


def redis_target(queue: Queue) -> Connection:
    return queue._store.connection


async def test_removing_orphans_can_be_bounded(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-052."""
    for number in range(30):
        await raw.hset(keys.job(f"lost{number}"), mapping={"name": "n", "timestamp": "1"})

    assert await queue.remove_orphaned_jobs(limit=10) == 10
    assert await queue.remove_orphaned_jobs(limit=0) == 20


async def test_an_orphaned_child_no_longer_holds_its_parent(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-052."""
    await waiting_parent(queue, worker, "p", (queue, "c"))
    await raw.lrem(keys.wait, 0, "c")

    assert await queue.remove_orphaned_jobs() == 1

    assert await queue.state("p") == "waiting"


# Opening, closing, and what a queue touches ---------------------------------------------------------------------------------------


async def test_reading_writes_nothing(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-053: a Queue that only reads leaves no key, and so does not set another's settings."""
    await queue.counts()
    await queue.get_jobs()
    await queue.get_job("1")
    await queue.state("1")
    await queue.logs("1")
    await queue.meta()
    await queue.is_paused()
    await queue.workers()
    await queue.metrics("failed")
    await queue.rate_limit_ttl()
    await queue.counts_per_priority([0, 1])

    assert [key async for key in raw.scan_iter(f"{prefix}*")] == []


async def test_adding_keeps_the_settings_of_others(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-053."""
    settings = {"opts.maxLenEvents": "123", "version": "bullmq:6.7.0"}
    await raw.hset(keys.meta, mapping=cast(Any, settings))

    await queue.add("n", {})

    assert await raw.hgetall(keys.meta) == settings


async def test_a_dead_server_is_an_error_at_once(server_factory: Callable[..., ValkeyServer]) -> None:
    """BMQ-054."""
    server = server_factory()
    server.stop()
    async with Queue("q", server.url) as queue, asyncio.timeout(1.0):
        for call in (queue.add("n", {}), queue.counts(), queue.pause(), queue.get_job("1")):
            with pytest.raises(StoreUnavailable) as raised:
                await call
            assert raised.value.retryable


async def test_close_is_safe_to_repeat(redis_url: str, prefix: str, raw: Redis) -> None:
    """BMQ-055: no socket is left, as the fixture of all tests counts; a later call opens one of its own."""
    queue = Queue("q", redis_url, prefix=prefix)
    await asyncio.gather(*(queue.add("n", {}) for _ in range(20)), queue.counts(), queue.meta())

    await queue.close()
    await queue.close()

    assert await queue.count() == 20


async def test_prefixes_keep_queues_apart(connection: Connection, prefix: str, raw: Redis) -> None:
    """BMQ-056."""
    one, two = (Queue("q", connection, prefix=f"{prefix}:{name}") for name in ("one", "two"))
    await one.add("n", {"of": "one"}, job_id="same")
    await two.add("n", {"of": "two"}, job_id="same")
    await one.pause()

    assert await one.obliterate() == 1

    job = await two.get_job("same")
    assert job is not None
    assert job.data == {"of": "two"}
    assert not await two.is_paused()
    assert [key async for key in raw.scan_iter(f"{prefix}:one:*")] == []


async def test_a_full_server_can_be_emptied(server_factory: Callable[..., ValkeyServer]) -> None:
    """Faults: whatever frees memory, or stops its growth, works when there is none left."""
    server = server_factory()
    async with Queue("q", server.socket_url) as queue, Redis.from_url(server.socket_url) as client:
        await queue.add_many([("n", {}, {"job_id": f"j{n}", "delay": float(n % 2)}) for n in range(2000)])
        await client.config_set("maxmemory", "100kb")
        with pytest.raises(StoreRefused, match="maxmemory"):
            await queue.add("n", {})

        await queue.pause()
        assert await queue.remove("j0")
        assert len(await queue.clean(0, 10, "waiting")) == 10
        assert await queue.drain() == 989
        await queue.set_concurrency(1)
        await queue.lift_limit()
        await queue.resume()
        assert await queue.remove_orphaned_jobs() == 0
        assert await queue.obliterate() == 1000
