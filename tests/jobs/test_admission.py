"""Deliveries that look like first ones and are not: their job was cancelled, edited, put back or taken by another while
its copy stood in the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from support.eventually import eventually
from support.executed import Task
from taurine.app import Taurine
from taurine.errors import JobFailed
from taurine.jobs.handler.context import Context
from taurine.jobs.runtime.recording import Recorder
from taurine.jobs.worker.worker import JobWorker
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.completions import Completion, apply_completions
from taurine.ledger.generations import NewGeneration, Seen, raise_generation, start_generation
from taurine.queue import Queue
from taurine.retry import Fixed, Retry

_LONG_AGO = 1
_FAR_OFF = 1 << 45


@pytest.fixture
async def queue(prefix: str, redis_socket_url: str) -> AsyncIterator[Queue]:
    """The queue `tasks` as it is beside the ledger."""
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        yield queue


async def change(app: Taurine, work: Callable[[Connection], Any]) -> Any:
    """Write to the ledger alone, as where the server of queues is away."""
    return await app._backend().database.write(work)


async def act(app: Taurine, worker: JobWorker, job_id: str, sql: str = "select 1") -> None:
    """Change a job's record behind the queue's back, and wait until the worker knows that something was done to it."""
    now = round(app._backend().clock.now() * 1000)  # an old row would be purged

    def work(connection: Connection) -> None:
        connection.execute(text(sql))
        record_actions(connection, [AuditEntry(now, "ann", "test", job_id)])

    await change(app, work)
    await eventually(lambda: job_id in worker._attendant.acted_on, message="the worker has not heard of it")


async def paused(app: Taurine, worker: JobWorker) -> None:
    """Its first look is behind it, so a delivery that nobody has acted on goes straight to its handler; nothing is
    claimed.
    """
    await eventually(lambda: worker.is_ready, message="the worker is not ready")
    await eventually(lambda: "nobody's" not in worker._attendant.acted_on, message="the worker has not looked yet")
    await worker.pause()


async def test_a_cancelled_job_whose_removal_did_not_get_through_never_runs(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(payload: Task) -> None:
        runs.append(payload.number)

    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task(number=1))
        await change(app, lambda connection: request_cancel(connection, handle.id, _FAR_OFF, None))
        await act(app, worker, handle.id)
        worker.resume()
        await (await task.enqueue(Task(number=2))).result(timeout=10)
    assert runs == [2]
    assert (await handle.record()).status == "cancelled"


PURGED = "delete from taurine_job"
ENDED = """update taurine_job set status = 'completed', output = '"kept"', finished_at = 1"""


@pytest.mark.parametrize(("sql", "state", "result"), [(PURGED, "failed", None), (ENDED, "completed", "kept")])
async def test_a_job_that_is_too_late_does_not_run_whatever_its_record_says(
    app: Taurine, queue: Queue, sql: str, state: str, result: str | None
) -> None:
    """Its record is gone or has ended, so it cannot be said there that it expired."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(payload: Task) -> None:
        runs.append(payload.number)

    async with app.worker(stalled_interval=0.2) as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task(), expires_in=0.001)
        expired_at = app._backend().clock.now() + 0.01
        await change(app, lambda connection: connection.execute(text(sql)))
        await eventually(lambda: app._backend().clock.now() > expired_at, every=0.001)
        worker.resume()
        await eventually(partial(_is, queue, handle.id, state), 10)
    job = await queue.get_job(handle.id)
    assert job is not None
    assert job.result == result
    assert runs == []


async def test_a_job_that_is_to_be_cancelled_does_not_run_though_its_record_goes_away_meanwhile(
    app: Taurine, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    cancel = Recorder.cancel

    @app.job("ticket.triage", queue="tasks")
    async def task(payload: Task) -> None:
        runs.append(payload.number)

    async def behind_the_purge(self: Recorder, *details: Any) -> Any:
        await change(app, lambda connection: connection.execute(text(PURGED)))
        return await cancel(self, *details)

    monkeypatch.setattr(Recorder, "cancel", behind_the_purge)
    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task())
        await act(app, worker, handle.id, "update taurine_job set cancel_requested_at = 1")
        worker.resume()
        await eventually(partial(_is, queue, handle.id, "failed"), 10)
    assert runs == []


async def _is(queue: Queue, job_id: str, state: str) -> bool:
    assert await queue.state(job_id) == state
    return True


async def test_an_old_copy_runs_what_the_later_generation_says(app: Taurine) -> None:
    """The payload, the retries and the time to start are those of the record."""
    seen: list[tuple[int, int, int]] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=1))
    async def task(payload: Task, ctx: Context) -> str:
        seen.append((payload.number, ctx.attempt, ctx.max_attempts))
        if len(seen) == 1:
            raise ConnectionError
        return "done"

    def again(connection: Connection) -> None:
        request_cancel(connection, handle.id, _LONG_AGO, None)
        options = {"retry": {"n": 3, "fixed": 0, "jitter": 0}}
        item = NewGeneration(
            id=handle.id, at=_LONG_AGO, action="retry", payload='{"number":2}', max_attempts=3, options=options
        )
        assert start_generation(connection, [item])[0] is not None
        connection.execute(text("update taurine_job set dispatched_at = 1"))  # its own copy found the old one there

    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task(number=1))
        await change(app, again)
        await act(app, worker, handle.id)
        worker.resume()
        assert await handle.result(timeout=10) == "done"
    assert seen == [(2, 1, 3), (2, 2, 3)]
    assert (await handle.record()).attempts == 2


async def test_a_job_that_had_begun_in_time_does_not_expire_when_it_is_put_back(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", expires_in=3600)
    async def task(_: Task) -> str:
        return "done"

    def put_back(connection: Connection) -> None:
        connection.execute(text("update taurine_job set started_at = 1, attempts = 1, expires_at = 2"))
        assert raise_generation(connection, [Seen(handle.id, 0, 0)], _LONG_AGO)[0] is not None
        connection.execute(text("update taurine_job set dispatched_at = 1"))

    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task())
        await change(app, put_back)
        await act(app, worker, handle.id)
        worker.resume()
        assert await handle.result(timeout=10) == "done"


async def test_a_recorded_retry_that_the_queue_never_heard_of_counts_and_keeps_its_pause(
    app: Taurine, queue: Queue
) -> None:
    """P5: the worker died between the two."""
    attempts: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(0)))
    async def task(_: Task, ctx: Context) -> str:
        attempts.append(ctx.attempt)
        return "done"

    async def rests() -> bool:
        return await queue.state(handle.id) == "delayed"

    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task())
        retrying = "update taurine_job set status = 'retrying', attempts = 1, fence = 1, started_at = 1"
        await act(app, worker, handle.id, f"{retrying}, next_attempt_at = {_FAR_OFF}")
        worker.resume()
        await eventually(rests, message="the pause is not kept")
        assert (await handle.record()).status == "retrying"
        await act(app, worker, handle.id, "update taurine_job set next_attempt_at = 1")
        job = await queue.get_job(handle.id)
        assert job is not None
        await job.promote()
        assert await handle.result(timeout=10) == "done"
    assert attempts == [2]
    assert (await handle.record()).attempts == 2


async def test_of_two_deliveries_with_one_fence_the_earlier_one_is_refused(app: Taurine) -> None:
    """F40: a failover has forgotten the claim of another worker, which still runs."""
    refusals: list[Any] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> str:
        late = Completion(
            id=ctx.job_id, fence=1, attempts=1, output='"early"', worker="other", started_at=1, at=_LONG_AGO
        )
        refusals.extend(await change(app, lambda connection: apply_completions(connection, [late])))
        return "late"

    async with app.worker() as worker:
        await paused(app, worker)
        handle = await task.enqueue(Task())
        held = "update taurine_job set status = 'running', fence = 1, worker = 'other', started_at = 1"
        await act(app, worker, handle.id, held)
        worker.resume()
        assert await handle.result(timeout=10) == "late"
    assert refusals == ["running"]


def note_passes(worker: JobWorker, looked_after: list[int]) -> None:
    """Have the attendant write down after each pass how many handlers it has looked after."""
    attendant = worker._attendant
    run_once = attendant.run_once

    async def noted() -> int:
        looked_after.append(await run_once())
        return looked_after[-1]

    attendant.run_once = noted


async def test_a_later_attempt_in_the_same_worker_is_not_stopped_with_the_earlier_one(
    app: Taurine, queue: Queue
) -> None:
    """F20: Redis lost a job that runs; it was put back, and one worker has both attempts."""
    started: list[int] = []
    stopped, lingers, looked_after = asyncio.Event(), asyncio.Event(), list[int]()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> str:
        started.append(ctx.fence)
        if ctx.fence == 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
                await lingers.wait()  # it closes what it has open, for some passes of the attendant
        await stopped.wait()
        await eventually(lambda: looked_after.count(2) >= 3, 20, "the attendant does not look after both")
        lingers.set()
        return "late"

    async def runs() -> bool:
        return (await handle.record()).status == "running"

    worker = app.worker(concurrency=2)
    note_passes(worker, looked_after)
    async with worker:
        handle = await task.enqueue(Task())
        await eventually(runs, message="the first attempt does not run")
        await queue.obliterate(force=True)
        seen = await handle.record()
        lost = [Seen(handle.id, seen.generation, seen.fence)]
        [record] = await change(app, lambda connection: raise_generation(connection, lost, _LONG_AGO))
        await app._backend().dispatcher.dispatch([record])
        assert await handle.result(timeout=20) == "late"
    record = await handle.record()
    assert (record.status, record.generation, record.cancel_reason) == ("completed", 1, None)
    assert started == [1, (1 << 32) + 1]


@pytest.mark.parametrize("declared", [True, False], ids=["declared without a handler", "unknown"])
async def test_a_job_without_a_handler_here_is_left_to_newer_workers(
    app_factory: Callable[..., Taurine], queue: Queue, declared: bool
) -> None:
    """F31: while workers are replaced one by one."""
    new, old = app_factory(), app_factory()

    @new.job("ticket.new", queue="tasks")
    async def task(_: Task) -> str:
        return "done"

    @old.job("ticket.triage", queue="tasks")
    async def known(_: Task) -> None: ...

    if declared:
        old.declare("ticket.new", Task, queue="tasks")

    async def left() -> bool:
        return await queue.state(handle.id) == "delayed"

    handle = await task.enqueue(Task())
    async with old.worker():
        await eventually(left, message="it was not handed back")
        assert (await handle.record()).status == "queued"
    job = await queue.get_job(handle.id)
    assert job is not None
    await job.promote()
    async with new.worker():
        assert await handle.result(timeout=10) == "done"


async def test_a_job_of_an_unknown_type_is_left_to_others_for_a_while_however_old_it_is(
    app_factory: Callable[..., Taurine], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F31: it stood in a long line, or was handed over late; no worker has seen it before."""
    monkeypatch.setattr("taurine.jobs.runtime.admission._UNKNOWN_FOR_MS", 0)
    new, old = app_factory(), app_factory()
    unknown = new.declare("ticket.of-new", Task, queue="tasks")

    @old.job("ticket.triage", queue="tasks")
    async def known(_: Task) -> None: ...

    async def left() -> bool:
        return await queue.state(handle.id) == "delayed"

    handle = await unknown.enqueue(Task())
    async with old.worker():
        await eventually(left, message="it was not handed back")
    assert (await handle.record()).status == "queued"


async def test_a_type_that_nobody_knows_is_given_up_in_the_end_and_a_declared_one_is_not(
    app_factory: Callable[..., Taurine], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taurine.jobs.runtime.admission._UNKNOWN_FOR_MS", 0)
    monkeypatch.setattr("taurine.jobs.runtime.admission._UNKNOWN_TIMES", 0)
    new, old = app_factory(), app_factory()
    unknown = new.declare("ticket.of-old", Task, queue="tasks")
    declared = new.declare("ticket.declared", Task, queue="tasks")
    old.declare("ticket.declared", Task, queue="tasks")

    @old.job("ticket.triage", queue="tasks")
    async def known(_: Task) -> None: ...

    async def left() -> bool:
        return await queue.state(kept.id) == "delayed"

    kept, dead = await declared.enqueue(Task()), await unknown.enqueue(Task())
    async with old.worker():
        with pytest.raises(JobFailed, match="no handler"):
            await dead.result(timeout=10)
        await eventually(left, message="it was not handed back")
    assert (await kept.record()).status == "queued"
