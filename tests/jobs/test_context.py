"""What a handler can ask of its context, in the worker and in a process of its own."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from support.executed import Task, declared_app, needs_deps, remote_job
from taurine.app import Taurine
from taurine.errors import JobFailed, Release
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry


async def test_it_says_which_attempt_of_which_job_this_is(app: Taurine) -> None:
    seen: list[Context] = []

    @app.job(
        "ticket.triage", queue="tasks", tenant="{tenant_id}", retry=Retry(attempts=4, backoff=Fixed(0)), timeout=30
    )
    async def task(_: Task, ctx: Context) -> None:
        seen.append(ctx)

    handle = await task.enqueue(Task(), delay=0.05, user="ann")
    async with app.worker(deps={"db": 1}):
        await handle.result(timeout=10)
    (ctx,) = seen
    record = await handle.record()
    assert (ctx.job_id, ctx.type, ctx.queue, ctx.tenant, ctx.user) == (
        handle.id,
        "ticket.triage",
        "tasks",
        "acme",
        "ann",
    )
    assert (ctx.attempt, ctx.max_attempts, ctx.deps) == (1, 4, {"db": 1})
    assert abs((ctx.created_at - record.created_at).total_seconds()) < 5
    assert ctx.scheduled_for is not None
    assert ctx.scheduled_for > ctx.created_at
    assert ctx.deadline is not None
    assert ctx.deadline > ctx.scheduled_for
    assert not ctx.cancelled
    assert ctx.cancel_reason is None


async def test_in_a_process_it_has_the_same_names(app: Taurine) -> None:
    """Progress, state, lines, effects, tracking and the application's own deps."""
    settings, declared_app.settings = declared_app.settings, app.settings
    try:
        handle = await remote_job.enqueue(Task())
        async with declared_app.worker():
            result = await handle.result(timeout=30)
        record = await handle.record()
    finally:
        await declared_app.close()
        declared_app.settings = settings
    assert result["pid"] != os.getpid()
    assert result["state"] == {"cursor": 7}, "the first attempt saved it"
    assert result["same"]
    assert result["tracked"] == [1, 2, 3, 4]
    assert result["deps"] == "hello"
    assert result["names"] == [handle.id, "report.render", "remote", None, 2, 2]
    assert result["created"] == record.created_at.isoformat(), "a second attempt has read the record"
    assert record.progress["percentage"] == 100


async def test_deps_of_the_worker_do_not_travel_and_it_says_so(app: Taurine) -> None:
    task = app.job("ticket.triage", queue="tasks", runs_in="process", retry=Retry.NONE)(needs_deps)
    handle = await task.enqueue(Task())
    async with app.worker(deps={"db": object()}):
        with pytest.raises(JobFailed, match=r"give deps to Taurine"):
            await handle.result(timeout=30)


async def test_an_attempt_that_was_given_up_can_do_nothing_any_more(app: Taurine) -> None:
    """A handler that goes on after its time limit, beside the next attempt."""
    caught: list[str] = []
    over = asyncio.Event()

    @app.job("ticket.triage", queue="tasks", timeout=0.05, retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> None:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:  # swallows every cancellation until it has been given up
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        try:
            await ctx.once("late", lambda: None)
        except Release as error:
            caught.append(str(error))
        over.set()

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="time limit"):
            await handle.result(timeout=10)
        await over.wait()
    assert caught == [f"this attempt of job {handle.id!r} has ended"]


async def test_saving_by_hand_is_committed_when_it_returns(app: Taurine) -> None:
    seen: list[object] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        ctx.state["cursor"] = 5
        ctx.progress(1, 2)
        await ctx.save()
        record = await app.get(ctx.job_id)
        assert record is not None
        seen.extend([record.state, record.progress["percentage"]])

    handle = await task.enqueue(Task())
    async with app.worker():
        await handle.result(timeout=10)
    assert seen == [{"cursor": 5}, 50]
