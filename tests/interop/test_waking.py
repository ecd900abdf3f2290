"""Idle workers of one engine start the other's jobs at once; pauses, concurrency and rate limits hold for both.

Every worker here would look by itself only after a minute (Node: after its longest block, 10 s), so a job that starts
within `AT_ONCE` was announced by the marker.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from faults.workers import until_ended
from interop.bullmq import Bullmq
from interop.conftest import StartWorker
from interop.sides import Side, SideName
from support.eventually import eventually
from support.store import RawStore
from taurine.options import AddOptions, RateLimit
from taurine.queue import Queue

AT_ONCE = 4.0
IDLE_NODE: dict[str, Any] = {"drainDelay": 60}
IDLE_OURS: dict[str, Any] = {"drain_delay": 60}


async def _blocked(raw: RawStore, count: int = 1) -> None:
    """Wait until as many clients block on markers."""

    async def blocked() -> bool:
        return sum(client["cmd"] == "bzpopmin" for client in await raw.client_list()) >= count

    await eventually(blocked, 10, f"{count} idle workers")


@pytest.mark.parametrize(
    "options", [{}, {"priority": 5}, {"lifo": True}, {"delay": 0.2}, {"priority": 5, "delay": 0.2}], ids=str
)
async def test_an_idle_node_worker_starts_our_job_at_once(
    node: Bullmq, queue: Queue, raw: RawStore, options: AddOptions
) -> None:
    await node.worker("q", **IDLE_NODE)
    await _blocked(raw)

    job = await queue.add("job", {}, **options)
    await node.until_state("q", job.stored_id, "completed", within=AT_ONCE)


@pytest.mark.parametrize(
    "options", [{}, {"priority": 5}, {"lifo": True}, {"delay": 200}, {"priority": 5, "delay": 200}], ids=str
)
async def test_our_idle_worker_starts_nodes_job_at_once(
    node: Bullmq, worker: StartWorker, raw: RawStore, options: dict[str, Any]
) -> None:
    async with worker(**IDLE_OURS):
        await _blocked(raw)
        job = await node.add("q", "job", {}, **options)
        await node.until_state("q", job["id"], "completed", within=AT_ONCE)


async def test_an_earlier_delay_moves_the_alarm_of_whoever_waits(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore
) -> None:
    async with worker(**IDLE_OURS):
        await _blocked(raw)
        late = await node.add("q", "late", {}, delay=3_600_000)
        soon = await node.add("q", "soon", {}, delay=100)
        await node.until_state("q", soon["id"], "completed", within=AT_ONCE)
    await node.worker("q", **IDLE_NODE)
    await _blocked(raw)
    sooner = await queue.add("soon", {}, delay=0.1)
    await node.until_state("q", sooner.stored_id, "completed", within=AT_ONCE)
    assert await node.state("q", late["id"]) == "delayed"


@pytest.mark.parametrize("first", ["node", "ours"])
async def test_who_takes_one_of_two_jobs_wakes_the_next_worker(
    *, node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str, first: str
) -> None:
    """Whoever has blocked for longest is woken, takes one, and tells the other: once each way round."""
    if first == "node":
        await node.worker("q", "node", **IDLE_NODE)
        await _blocked(raw)
    async with worker(name="ours", concurrency=1, **IDLE_OURS) as ours:
        if first == "ours":
            await _blocked(raw)
            await node.worker("q", "node", **IDLE_NODE)
        await _blocked(raw, 2)
        await queue.add_many([("hold", {"hold": True}, {"job_id": "a"}), ("hold", {"hold": True}, {"job_id": "b"})])

        for job in ("a", "b"):
            await node.until_state("q", job, "active", within=AT_ONCE)
        runners = {await raw.hget(f"{prefix}:q:{job}", "pb") for job in ("a", "b")}
        assert runners == {"node", "ours"}
        await ours.stop(grace=0)


async def test_a_worker_of_ours_that_stops_leaves_its_alarm_to_others(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str
) -> None:
    """Whoever pops the marker of a delayed job owns the alarm, and must not take it to the grave."""
    async with worker(**IDLE_OURS):
        # The client that has blocked for longest gets the marker: ours. Node blocks on, and knows of no job.
        await _blocked(raw)
        await node.worker("q", **IDLE_NODE)
        await _blocked(raw, 2)
        job = await queue.add("later", {}, delay=1.0)
        await _alarm_taken(raw, prefix)

    await node.until_state("q", job.stored_id, "completed", within=1.0 + AT_ONCE)


async def test_a_paused_worker_of_ours_leaves_its_alarm_to_others(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str
) -> None:
    async with worker(**IDLE_OURS) as ours:
        await _blocked(raw)
        await node.worker("q", "node", **IDLE_NODE)
        await _blocked(raw, 2)
        job = await queue.add("later", {}, delay=1.0)
        await _alarm_taken(raw, prefix)
        await ours.pause()
        await node.until_state("q", job.stored_id, "completed", within=1.0 + AT_ONCE)

    assert await raw.hget(f"{prefix}:q:{job.stored_id}", "pb") == "node"


async def test_a_full_worker_of_ours_leaves_its_alarm_to_others(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str
) -> None:
    await queue.add("long", {"hold": True}, job_id="long")
    async with worker(concurrency=2, **IDLE_OURS) as ours:
        await node.until_state("q", "long", "active")
        await _blocked(raw)
        await node.worker("q", "node", **IDLE_NODE)
        await _blocked(raw, 2)
        job = await queue.add("later", {}, delay=1.0)
        await _alarm_taken(raw, prefix)
        ours.concurrency = 1
        await node.until_state("q", job.stored_id, "completed", within=1.0 + AT_ONCE)
        await ours.stop(grace=0)


async def _alarm_taken(raw: RawStore, prefix: str) -> None:
    async def taken() -> bool:
        return not await raw.exists(f"{prefix}:q:marker")

    await eventually(taken, 5, "nobody took the marker of the delayed job")


@pytest.mark.parametrize("failed_by", ["node", "ours"])
async def test_a_retry_after_a_pause_wakes_the_other_engine(
    sides: dict[SideName, Side], node: Bullmq, worker: StartWorker, raw: RawStore, failed_by: SideName
) -> None:
    job = await sides[failed_by].add({}, attempts=2, backoff=0.1)
    assert await sides[failed_by].take() == job
    async with worker(**IDLE_OURS) if failed_by == "node" else nullcontext():
        if failed_by == "ours":
            await node.worker("q", **IDLE_NODE)
        await _blocked(raw)
        await sides[failed_by].settle(job, error="once")
        await node.until_state("q", job, "completed", within=AT_ONCE)


@pytest.mark.parametrize("pauser", ["node", "ours"])
async def test_a_pause_holds_both_and_a_resume_wakes_them(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, pauser: str
) -> None:
    await node.listen("q")
    await node.worker("q", **IDLE_NODE)
    async with worker(concurrency=1, **IDLE_OURS):
        await _blocked(raw, 2)
        await (node.queue("q", "pause") if pauser == "node" else queue.pause())
        assert await queue.is_paused()
        assert await node.queue("q", "isPaused")
        held = [
            await queue.add("held", {}),
            await queue.add("held", {}, delay=0.01),
            await queue.add("held", {}, priority=1),
        ]
        # A worker that looks now, of either kind, must take nothing.
        assert await node.take("q") is None
        looking = worker()
        assert await looking.fetch() is None
        await looking.stop()
        assert (await node.queue("q", "getJobCounts"))["active"] == 0

        await (node.queue("q", "resume") if pauser == "ours" else queue.resume())
        for job in held:
            await node.until_state("q", job.stored_id, "completed", within=AT_ONCE)

    assert (len(await node.seen("q", "paused")), len(await node.seen("q", "resumed"))) == (1, 1)


async def test_a_concurrency_of_one_over_both_engines(
    *, node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str, figure: Callable[[str], None]
) -> None:
    """Never two active, and no gap of a blocked worker's time-out between two jobs."""
    await node.queue("q", "setGlobalConcurrency", 1)
    await node.worker("q", "node", concurrency=5, **IDLE_NODE)
    total = 0
    async with worker(name="ours", concurrency=5, **IDLE_OURS):
        # Node holds on to a slot as long as it finds work, so the line is let run dry again and again.
        for _ in range(40):
            total += len(await queue.add_many([("job", {"ms": 1}) for _ in range(5)]))
            await until_ended(raw, f"{prefix}:q:", total, within=30)

    active, most, gaps, last_end = set[str](), 0, [0], 0
    for entry, fields in await raw.xrange(f"{prefix}:q:events"):
        if fields["event"] == "active":
            active.add(fields["jobId"])
            if last_end:
                gaps.append(int(entry.partition("-")[0]) - last_end)
        elif fields["event"] == "completed":
            active.discard(fields["jobId"])
            last_end = int(entry.partition("-")[0])
        most = max(most, len(active))
    runners = [await raw.hget(f"{prefix}:q:{number}", "pb") for number in range(1, total + 1)]
    figure(
        f"most active {most}, longest gap {max(gaps)} ms, {runners.count('ours')} run by us, {runners.count('node')} by Node"
    )
    assert most == 1
    assert max(gaps) < AT_ONCE * 1000
    assert set(runners) == {"node", "ours"}


@pytest.mark.parametrize("last", ["node", "ours"])
async def test_a_freed_slot_wakes_the_engine_that_waits_for_it(
    *, node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str, last: str
) -> None:
    """The engine that holds the only slot finishes, takes nothing further, and the other one is idle."""
    await queue.set_concurrency(1)
    await queue.add("first", {}, job_id="first")
    holder = worker()
    held = None
    if last == "node":
        assert (await node.take("q"))["id"] == "first"
    else:
        held = await holder.fetch()
    await queue.add("second", {}, job_id="second")
    async with worker(name="ours", drain_delay=2.0 if last == "node" else 60):
        if held is not None:
            await node.worker("q", **IDLE_NODE)
            await _blocked(raw, 2)
            await holder.complete(held)
        else:
            await node.settle("first")
        await node.until_state("q", "second", "completed", within=AT_ONCE)
    await holder.stop()


async def test_a_rate_limit_is_shared(
    *, node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str, figure: Callable[[str], None]
) -> None:
    """Starts are counted per window of the limiter key, over both kinds of workers."""
    most, window, total = 10, 0.25, 60
    await queue.set_rate_limit(RateLimit(most, window))
    await node.worker("q", "node", concurrency=10, limiter={"max": most, "duration": round(window * 1000)})
    async with worker(name="ours", concurrency=10):
        await queue.add_many([("job", {}) for _ in range(total)])

        async def all_ended() -> bool:
            return await raw.zcard(f"{prefix}:q:completed") == total

        await eventually(all_ended, 30, "the limited queue was not drained")

    starts = sorted(
        int(entry.partition("-")[0])
        for entry, fields in await raw.xrange(f"{prefix}:q:events")
        if fields["event"] == "active"
    )
    # A fixed window lets two windows' worth through around its edge, and never more: any most × 2 + 1 starts span a whole one.
    spans = [after - before for before, after in zip(starts, starts[2 * most :], strict=False)]
    runners = [await raw.hget(f"{prefix}:q:{number}", "pb") for number in range(1, total + 1)]
    figure(
        f"{total} starts in {starts[-1] - starts[0]} ms at {most} per {window * 1000:g} ms, {runners.count('node')} of them by Node"
    )
    assert min(spans) >= window * 1000 - 1
    assert starts[-1] - starts[0] >= (total / most - 1) * window * 1000 - 1


async def test_a_limit_by_hand_holds_both_and_its_end_lets_them_go(
    node: Bullmq, worker: StartWorker, queue: Queue
) -> None:
    await node.queue("q", "rateLimit", 60_000)
    job = await queue.add("job", {})
    await node.worker("q")
    async with worker() as ours:
        assert await node.take("q") is None
        assert await ours.fetch() is None
        await node.queue("q", "removeRateLimitKey")
        await node.queue("q", "pause")
        await node.queue("q", "resume")
        await node.until_state("q", job.stored_id, "completed")
