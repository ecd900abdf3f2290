"""Cancelling jobs: from another process, heard in under a second, wherever the handler runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.eventually import eventually
from support.executed import Task, poll
from taurine.app import Taurine
from taurine.errors import JobCancelled
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.handler.context import Context
from taurine.queue import Queue


async def shown_running(handle: JobHandle[Any]) -> None:
    async def running() -> bool:
        return (await handle.record()).status == "running"

    await eventually(running, message="the record never said running")


async def cancelled_within(handle: JobHandle[Any], seconds: float, reason: str) -> Any:
    """Wait for the end; returns the record."""
    with pytest.raises(JobCancelled, match=reason):
        await handle.result(timeout=seconds)
    return await handle.record()


async def test_an_async_handler_hears_it_in_the_middle_of_an_await(
    app: Taurine, app_factory: Callable[..., Taurine], prefix: str, redis_socket_url: str
) -> None:
    """SEED-145, SEED-262, CON-26: asked for by another application; record and queue agree."""
    ended: list[str] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(f"{ctx.cancelled} {ctx.cancel_reason}")

    handle = await task.enqueue(Task())
    async with app.worker():
        await shown_running(handle)
        await app_factory("other").cancel(handle.id, reason="enough")
        record = await cancelled_within(handle, 5, "enough")
        assert (record.status, record.cancel_reason, ended) == ("cancelled", "enough", ["True enough"])
        async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
            await eventually(lambda: _is_failed(queue, handle.id), message="the queue still has it active")


async def _is_failed(queue: Queue, job_id: str) -> bool:
    return await queue.state(job_id) == "failed"


async def test_it_is_heard_in_under_a_second(app: Taurine, figure: Callable[[str], None]) -> None:
    """SEED-145. The deadline is generous; what was measured is in the figures."""
    heard: list[float] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append(time.monotonic())

    delays: list[float] = []
    async with app.worker():
        for number in range(5):
            handle = await task.enqueue(Task(number=number))
            await shown_running(handle)
            asked = time.monotonic()
            await handle.cancel(reason="enough")
            await cancelled_within(handle, 5, "enough")
            delays.append(heard[-1] - asked)
    figure(f"a cancel is heard after {min(delays):.3f} to {max(delays):.3f} s")
    assert min(delays) < 1.0


async def test_a_batch_stops_between_two_items_and_keeps_its_partial_result(app: Taurine) -> None:
    """SEED-147: stops in one batch, with the count of what was processed."""

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> dict[str, int]:
        done = 0
        try:
            for number in ctx.track(range(1_000_000)):
                await asyncio.sleep(0.005)
                done = number + 1
        except asyncio.CancelledError:
            return {"processed": done}
        return {"processed": -1}

    handle = await task.enqueue(Task())
    async with app.worker():
        await shown_running(handle)
        await handle.cancel(reason="enough")
        record = await cancelled_within(handle, 5, "enough")
    assert 0 < record.output["processed"] < 1_000_000
    assert record.progress["done"] == record.output["processed"]


async def test_a_thread_hears_it_by_the_flag_and_keeps_its_partial_result(app: Taurine) -> None:
    """SEED-147, SEED-262: the poll form."""
    task = app.job("ticket.triage", queue="tasks")(poll)
    handle = await task.enqueue(Task())
    async with app.worker():
        await shown_running(handle)
        await handle.cancel(reason="enough")
        record = await cancelled_within(handle, 5, "enough")
    assert record.output["processed"] > 0


async def test_a_thread_that_raises_at_the_flag_is_cancelled(app: Taurine) -> None:
    ended = threading.Event()

    @app.job("ticket.triage", queue="tasks")
    def task(_: Task, ctx: Context) -> None:
        try:
            for _number in ctx.track(range(100_000)):
                time.sleep(0.005)
        finally:
            ended.set()

    handle = await task.enqueue(Task())
    async with app.worker():
        await shown_running(handle)
        await handle.cancel(reason="enough")
        await cancelled_within(handle, 5, "enough")
    assert ended.is_set()


async def test_a_process_hears_it_and_keeps_its_partial_result(app: Taurine) -> None:
    """SEED-145, SEED-147."""
    task = app.job("ticket.triage", queue="tasks", runs_in="process")(poll)
    handle = await task.enqueue(Task())
    async with app.worker():
        await shown_running(handle)
        await handle.cancel(reason="enough")
        record = await cancelled_within(handle, 10, "enough")
    assert record.output["processed"] > 0
    assert record.progress["done"] > 0


async def test_a_job_that_has_not_started_never_runs(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None:
        runs.append(1)

    handle = await task.enqueue(Task())
    await handle.cancel(reason="changed my mind")
    after = await task.enqueue(Task())
    async with app.worker(concurrency=1):
        await after.result(timeout=10)
    assert runs == [1]
    assert (await handle.record()).status == "cancelled"


async def test_of_a_cancel_and_a_finish_at_once_exactly_one_wins(
    app: Taurine, prefix: str, redis_socket_url: str
) -> None:
    """The record and the queue say the same of each job."""
    gates = [asyncio.Event() for _ in range(30)]

    @app.job("ticket.triage", queue="tasks")
    async def task(task: Task) -> int:
        await gates[task.number].wait()
        return task.number

    handles = [await task.enqueue(Task(number=number)) for number in range(30)]
    async with app.worker(concurrency=30) as worker:
        await eventually(lambda: worker.running == 30, 20, "they do not all run")
        for first, turns in zip(range(0, 30, 5), (0, 3, 10, 30, 100, 1000), strict=True):
            for gate in gates[first : first + 5]:
                gate.set()
            for _ in range(turns):  # of the event loop: the start that the ends have on their cancels
                await asyncio.sleep(0)
            asked = handles[first : first + 5]
            await asyncio.gather(*(handle.cancel(reason="race") for handle in asked), return_exceptions=True)
        ends = await asyncio.gather(*(handle.result(timeout=10) for handle in handles), return_exceptions=True)
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        for handle, end in zip(handles, ends, strict=True):
            record = await handle.record()
            state = await queue.state(handle.id)
            if isinstance(end, JobCancelled):
                assert (record.status, state) in {("cancelled", "failed"), ("cancelled", "unknown")}
            else:
                assert (record.status, record.output, state) == ("completed", end, "completed")
