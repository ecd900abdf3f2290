"""What a handler can ask of its context, in the worker and in a process of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.eventually import eventually
from support.executed import Task, declared_app, needs_deps, remote_job
from taurine.app import Taurine
from taurine.errors import JobFailed, Release
from taurine.jobs.handler.context import Context
from taurine.jobs.handover.adoption import Adopter
from taurine.ledger.generations import Seen, raise_generation
from taurine.queue import Job, Queue
from taurine.retry import Fixed, Retry


@pytest.fixture
async def queue(prefix: str, redis_socket_url: str) -> AsyncIterator[Queue]:
    """The queue `tasks` as it is beside the ledger."""
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        yield queue


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
    assert ctx.created_at == record.created_at
    assert ctx.scheduled_for is not None
    assert ctx.scheduled_for > ctx.created_at
    assert ctx.deadline is not None
    assert ctx.deadline > ctx.scheduled_for
    assert not ctx.cancelled
    assert ctx.cancel_reason is None


async def test_it_says_when_the_job_was_accepted_however_long_it_took_to_the_queue(
    app: Taurine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-21: a first delivery reads no record, and the queue has the time that the record has."""
    clock, seen = app._backend().clock, list[Context]()
    add = Queue.add

    async def add_late(queue: Queue, *arguments: Any, **options: Any) -> Job:
        accepted = clock.now()
        await eventually(lambda: clock.now() > accepted + 0.01)
        return await add(queue, *arguments, **options)

    monkeypatch.setattr(Queue, "add", add_late)

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        seen.append(ctx)

    async with app.worker():
        for delay in (0, 0.02):
            handle = await task.enqueue(Task(), delay=delay)
            await handle.result(timeout=10)
            record = await handle.record()
            assert seen[-1].created_at == record.created_at
            assert seen[-1].scheduled_for == record.scheduled_for
            assert record.started_at is not None
            assert record.started_at >= record.created_at + timedelta(seconds=delay)


async def test_a_job_that_others_have_delayed_says_when_it_was_to_start(app: Taurine, queue: Queue) -> None:
    """Nothing of ours travels with it; the record that was made of it while it waited has the time."""
    seen: list[tuple[datetime, datetime | None]] = []
    app.queue("tasks", shared=True)

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        seen.append((ctx.created_at, ctx.scheduled_for))

    await app.migrate()
    job = await queue.add("ticket.triage", {"number": 1}, job_id="theirs", delay=0.02)
    backend = app._backend()
    adopter = Adopter(catalog=backend.catalog, database=backend.database, clock=backend.clock)
    assert (await adopter.adopt([job])).keys() == {"theirs"}
    async with app.worker():
        await eventually(lambda: seen, message="it did not run")
    created_at = datetime.fromtimestamp(job.created_at, UTC)
    assert seen == [(created_at, created_at + timedelta(seconds=0.02))]


async def test_the_start_that_was_asked_for_outlives_attempts_and_the_queue(app: Taurine, queue: Queue) -> None:
    """P1: the queue lost the job while it waited for its second attempt; it is put back with its pause, and says when
    it was to start at first.
    """
    seen: list[datetime | None] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=2, backoff=Fixed(600)))
    async def task(_: Task, ctx: Context) -> None:
        seen.append(ctx.scheduled_for)
        if ctx.attempt == 1:
            raise ConnectionError("not yet")

    async def retrying() -> bool:
        return (await handle.record()).status == "retrying"

    async with app.worker():
        handle = await task.enqueue(Task(), delay=0.01)
        await eventually(retrying, message="the first attempt did not fail")
    await queue.obliterate(force=True)
    before = await handle.record()
    backend = app._backend()
    lost = [Seen(handle.id, before.generation, before.fence)]
    now = round(backend.clock.now() * 1000)
    [record] = await backend.database.write(lambda connection: raise_generation(connection, lost, now))
    assert record is not None
    await backend.dispatcher.dispatch([record])
    job = await queue.get_job(handle.id)
    assert job is not None
    assert before.next_attempt_at is not None
    due_in = before.next_attempt_at.timestamp() - job.created_at
    assert abs(job.delay_seconds - due_in) < 5, "it is due when its next attempt was"
    await job.promote()
    async with app.worker():
        await handle.result(timeout=10)
    asked = (await handle.record()).scheduled_for
    assert asked == before.scheduled_for is not None
    assert seen == [asked, asked]


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
        until = time.monotonic() + 60
        while not ctx.ended and time.monotonic() < until:  # swallows every cancellation until it has been given up
            try:
                await asyncio.sleep(0.01)
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
            await handle.result(timeout=30)
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
