"""Deliveries that are not the first, workers that were overtaken, and a ledger that is away when it matters."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from support.eventually import eventually
from support.executed import Task
from support.postgres import PostgresServer
from support.programs import Program, run_worker
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.queue import Queue
from taurine.retry import Fixed, Retry


async def lines_of(app: Taurine, job_id: str) -> list[str]:
    sql = text("select message from taurine_job_log where job_id = :id order by number")
    database = app._backend().database
    return [row[0] for row in await database.read(lambda connection: connection.execute(sql, {"id": job_id}).all())]


@asynccontextmanager
async def locked(path: Path) -> AsyncGenerator[None]:
    """Another process holds the write lock of the SQLite file: every write of ours is unavailable."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


async def test_a_worker_that_was_overtaken_changes_nothing_any_more(
    app: Taurine, worker_program: Callable[..., Program], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F03: SIGSTOP beyond the lease; after SIGCONT its progress, its lines and its finish are refused, and its handler
    is cancelled. That there was such an attempt is kept, and told.
    """
    task, path = run_worker.declare(app, "finish"), tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    stale = worker_program("slow")

    async def saved_by_stale() -> bool:
        record = await handle.record()
        return record.progress is not None and record.progress["done"] == 90

    await eventually(saved_by_stale, 20, "the first worker saved nothing")
    await stale.signal(signal.SIGSTOP)
    async with app.worker(stalled_interval=0.2, lease=0.6):
        assert await handle.result(timeout=30) == "by finish"
    before, lines = await handle.record(), await lines_of(app, handle.id)
    await stale.signal(signal.SIGCONT)
    await eventually(lambda: "cancelled" in path.read_text(), 20, "the stale handler was not cancelled")
    await stale.signal(signal.SIGTERM)
    assert await stale.died() == 0
    after = await handle.record()
    assert (after.status, after.output, after.worker) == ("completed", "by finish", before.worker)
    assert after.progress == before.progress
    assert await lines_of(app, handle.id) == lines
    lost, ended = await app.attempts(handle.id)
    assert (lost.outcome, lost.number, ended.outcome, ended.worker) == ("retried", 1, "completed", after.worker)
    assert lost.worker != ended.worker
    assert lost.started_at is not None
    assert lost.error is not None
    assert lost.error["type"] == "WorkerLost"
    assert f"runs again: worker {lost.worker} began it at" in caplog.text


async def test_a_late_finish_is_refused_while_the_later_attempt_runs(app: Taurine) -> None:
    """F03: a later delivery takes the record when it is admitted, not only when it first writes."""
    go, release, judged = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(0)))
    async def task(_: Task, ctx: Context) -> str:
        if ctx.fence == 1:
            try:
                await go.wait()
            except asyncio.CancelledError:
                release.set()
                raise
            return "early"
        release.set()
        await judged.wait()
        return "late"

    handle = await task.enqueue(Task())
    first, second = (
        app.worker(concurrency=1, lease=0.3, stalled_interval=0, name="first"),
        app.worker(concurrency=1, stalled_interval=0.1, name="second"),
    )
    async with first:
        await eventually(lambda: first.running == 1, message="the first worker has not claimed it")
        engine = first._workers["tasks"]
        await engine._leases.stop()  # as if its process stood still
        async with second:
            await release.wait()
            go.set()
            await eventually(lambda: first.running == 0, message="the first attempt has not ended")
            judged.set()
            assert await handle.result(timeout=20) == "late"
    record = await handle.record()
    assert (record.worker, record.output) == ("second", "late")


async def test_a_handler_that_blocks_the_loop_past_its_lease_never_has_two_accepted_ends(
    app: Taurine, worker_program: Callable[..., Program], tmp_path: Path
) -> None:
    """F04: the lease runs out, another worker takes the job, and the late finish is refused."""
    task, path = run_worker.declare(app, "finish"), tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    hog = worker_program("hog")
    await eventually(lambda: path.exists() and "begins" in path.read_text(), 20, "the first worker has not begun")
    async with app.worker(stalled_interval=0.2, lease=0.6):
        assert await handle.result(timeout=30) == "by finish"
        await hog.signal(signal.SIGTERM)
        assert await hog.died() == 0
    assert (await handle.record()).output == "by finish"


async def test_a_job_whose_record_has_ended_is_acknowledged_unrun(
    app: Taurine, prefix: str, redis_socket_url: str
) -> None:
    """P3: delivered again after its success, it gets the recorded result."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> dict[str, int]:
        runs.append(1)
        return {"answer": 42}

    handle = await task.enqueue(Task())
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        async with app.worker():
            await handle.result(timeout=10)
            await eventually(lambda: _is(queue, handle.id, "completed"), message="not settled")
            job = await queue.get_job(handle.id)
            assert job is not None
            await job.retry("completed")  # what a crash between record and queue comes to
            await eventually(lambda: _is(queue, handle.id, "completed"), message="not acknowledged")
        job = await queue.get_job(handle.id)
        assert job is not None
        assert (job.result, job.attempts_started) == ({"answer": 42}, 2)
    assert runs == [1]


async def _is(queue: Queue, job_id: str, state: str) -> bool:
    return await queue.state(job_id) == state


async def test_a_job_that_was_cancelled_meanwhile_is_acknowledged_unrun(app: Taurine) -> None:
    """The record says so before the queue has heard of it."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(0)))
    async def task(_: Task) -> None:
        runs.append(1)
        sql = text("update taurine_job set cancel_requested_at = 1, cancel_reason = 'asked'")
        await app._backend().database.write(lambda connection: connection.execute(sql) and None)
        raise ConnectionError

    handle = await task.enqueue(Task())
    async with app.worker():
        record = await app.wait(handle.id, 10)
    assert record is not None
    assert (record.status, record.cancel_reason, runs) == ("cancelled", "asked", [1])


async def test_a_cancel_that_the_failing_attempt_has_not_heard_is_not_forgotten(app: Taurine) -> None:
    """It counts at once, though the next attempt would be an hour off."""

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(3600)))
    async def task(_: Task) -> None:
        sql = text("update taurine_job set cancel_requested_at = 1, cancel_reason = 'asked'")
        await app._backend().database.write(lambda connection: connection.execute(sql) and None)
        raise ConnectionError

    handle = await task.enqueue(Task())
    async with app.worker():
        record = await app.wait(handle.id, 10)
    assert record is not None
    assert (record.status, record.cancel_reason, record.attempts) == ("cancelled", "asked", 1)


async def test_a_finish_waits_for_the_ledger_and_keeps_its_lease(
    app: Taurine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F33: SQL is down when the job finishes, for longer than its lease; it is recorded once, and ran once."""
    monkeypatch.setattr("taurine.ledger.database._LOCK_SECONDS", 0.2)
    runs: list[int] = []
    outage, finishing = asyncio.Event(), asyncio.Event()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> str:
        runs.append(1)
        finishing.set()
        await outage.wait()
        return "kept"

    handle = await task.enqueue(Task())
    async with app.worker(lease=0.6, stalled_interval=0.1):
        await finishing.wait()
        async with locked(tmp_path / "taurine.db"):
            outage.set()
            # Time is the subject: an outage of two leases and more, in which the finish has to keep its own.
            await asyncio.sleep(1.5)
        assert await handle.result(timeout=20) == "kept"
    assert runs == [1]


async def test_a_worker_that_stops_during_the_outage_hands_the_job_back(
    app: Taurine, tmp_path: Path, prefix: str, redis_socket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F33: what could not be recorded is never said to be done; the job runs again, unless the write that was given up
    reached the ledger after all.
    """
    monkeypatch.setattr("taurine.ledger.database._LOCK_SECONDS", 1.0)
    runs: list[int] = []
    running, outage, returned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> int:
        runs.append(1)
        running.set()
        await outage.wait()
        returned.set()
        return len(runs)

    handle = await task.enqueue(Task())
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue, app.worker() as worker:
        # Running first: a worker that has only just begun may have to ask the ledger before it runs a job, and waits for it as long as it is away.
        await running.wait()
        async with locked(tmp_path / "taurine.db"):
            outage.set()
            await returned.wait()
            await worker.stop(grace=0.2)
            assert (await handle.record()).status in ("queued", "running")
            assert await _is(queue, handle.id, "waiting")
    async with app.worker():
        record = await app.wait(handle.id, 60)
    assert record is not None
    assert record.status == "completed"


async def test_a_result_does_not_wait_until_its_progress_is_shown(
    app_factory: Callable[..., Taurine],
    server_factory: Callable[..., ValkeyServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server of queues hangs as the handler returns, and the worker is stopped: the job has completed, and is not
    run again.
    """
    monkeypatch.setattr("taurine.jobs.runtime.attendant._SHOW_TIME", 60.0)
    server = server_factory()
    app = app_factory(redis_url=server.socket_url)
    runs: list[int] = []
    returned = asyncio.Event()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> str:
        runs.append(1)
        ctx.progress(2, 2)
        if len(runs) == 1:
            server.freeze()
        returned.set()
        return "kept"

    handle = await task.enqueue(Task())
    async with app.worker(lease=1, stalled_interval=0.2) as worker:
        await returned.wait()
        stopping = asyncio.create_task(worker.stop(grace=0))

        async def over() -> bool:
            return stopping.done() or (await handle.record()).status == "completed"

        await eventually(over, 30, "the worker does not stop")
        server.thaw()
        await stopping
    async with app.worker(lease=1, stalled_interval=0.2):
        assert await handle.result(timeout=20) == "kept"
        async with Queue("tasks", server.socket_url, prefix=app.settings.prefix) as queue:
            await eventually(partial(_is, queue, handle.id, "completed"), 20)
    assert runs == [1]


async def test_a_completed_job_has_its_last_progress_in_the_queue_too(
    app: Taurine, prefix: str, redis_socket_url: str
) -> None:
    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        ctx.progress(2, 2)

    handle = await task.enqueue(Task())
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue, app.worker():
        await eventually(partial(_is, queue, handle.id, "completed"), 10)
        job = await queue.get_job(handle.id)
    assert job is not None
    assert job.progress["percentage"] == 100


async def test_postgresql_restarts_while_jobs_finish(
    app_factory: Callable[..., Taurine], postgres_factory: Callable[..., PostgresServer]
) -> None:
    """F33 on PostgreSQL: no outcome is lost, and each job ran once."""
    server = postgres_factory()
    app = app_factory(database_url=server.url_of(await server.create_database()))
    await app.migrate()
    runs: list[int] = []
    go, all_in = asyncio.Event(), asyncio.Event()

    @app.job("ticket.triage", queue="tasks")
    async def task(task: Task) -> int:
        runs.append(task.number)
        if len(runs) == 20:
            all_in.set()
        await go.wait()
        return task.number

    handles = await task.enqueue_many([Task(number=number) for number in range(20)])
    async with app.worker(concurrency=20):
        await all_in.wait()
        await asyncio.to_thread(server.stop)
        go.set()
        await asyncio.to_thread(server.start)
        for number, handle in enumerate(handles):
            record = await app.wait(handle.id, 30)
            assert record is not None
            assert record.output == number
    assert sorted(runs) == list(range(20))
