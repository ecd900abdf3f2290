"""A time limit frees the slot whatever the code does: waits, computes in a thread, or blocks in C in a process."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.executed import Task, block, segfault
from taurine.app import Taurine
from taurine.errors import JobFailed
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry

ONCE_AGAIN = Retry(attempts=2, backoff=Fixed(0))


async def test_an_async_handler_that_never_returns_is_tried_again_and_its_slot_is_free(app: Taurine) -> None:
    """F05: the limit fails the attempt, as transient."""
    attempts: list[int] = []

    @app.job("ticket.triage", queue="tasks", timeout=0.1, retry=ONCE_AGAIN)
    async def task(task: Task, ctx: Context) -> str:
        if task.number:
            return "next"
        attempts.append(ctx.attempt)
        assert ctx.deadline is not None
        assert ctx.deadline > ctx.created_at
        await asyncio.Event().wait()
        return "never"

    stuck, other = await task.enqueue(Task()), await task.enqueue(Task(number=1))
    async with app.worker(concurrency=1):
        with pytest.raises(JobFailed, match="time limit"):
            await stuck.result(timeout=20)
        assert await other.result(timeout=10) == "next"
    assert attempts == [1, 2]
    record = await stuck.record()
    assert record.error is not None
    assert record.error["type"] == "TimeLimitExceeded"


async def test_a_loop_in_a_thread_is_interrupted(app: Taurine) -> None:
    """F05: plain Python code, which awaits nothing and looks at nothing."""
    ended: list[str] = []

    @app.job("ticket.triage", queue="tasks", timeout=0.1, retry=Retry.NONE)
    def task(task: Task) -> str:
        if task.number:
            return "next"
        try:
            while True:
                sum(range(1000))
        finally:
            ended.append("cleaned up")

    stuck, other = await task.enqueue(Task()), await task.enqueue(Task(number=1))
    async with app.worker(concurrency=1):
        with pytest.raises(JobFailed, match="time limit"):
            await stuck.result(timeout=20)
        assert await other.result(timeout=10) == "next"
    assert ended == ["cleaned up"]


async def test_a_handler_that_looks_at_the_flag_ends_by_its_time_limit_not_as_cancelled(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", timeout=0.1, retry=Retry.NONE)
    def task(_: Task, ctx: Context) -> None:
        while True:
            ctx.raise_if_cancelled()
            time.sleep(0.002)

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="time limit"):
            await handle.result(timeout=20)


async def test_a_blocking_call_in_c_is_killed_with_its_process(app: Taurine) -> None:
    """F05."""
    task = app.job("ticket.triage", queue="tasks", timeout=0.5, retry=Retry.NONE, runs_in="process")(block)
    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="time limit"):
            await handle.result(timeout=30)


async def test_a_handler_that_kills_its_process_is_dead_lettered_with_the_signal_and_the_worker_lives(
    app: Taurine,
) -> None:
    """F07: the worker does not restart."""
    task = app.job("ticket.triage", queue="tasks", retry=ONCE_AGAIN, runs_in="process")(segfault)

    @app.job("mail.send", queue="tasks")
    async def other(_: Task) -> str:
        return "alive"

    handle = await task.enqueue(Task())
    async with app.worker() as worker:
        with pytest.raises(JobFailed, match=r"signal 11 \(SIGSEGV\)"):
            await handle.result(timeout=30)
        assert await (await other.enqueue(Task())).result(timeout=10) == "alive"
        assert worker.is_ready
    assert (await handle.record()).attempts == 2
