"""From the claim to the settled record: what is run, what is not, and what the record and the queue say after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from support.eventually import eventually
from support.executed import Task
from taurine.app import Taurine
from taurine.errors import (
    Cancel,
    JobCancelled,
    JobExpired,
    JobFailed,
    Permanent,
    RateLimited,
    Release,
    Snooze,
    TenantMismatch,
)
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.alerts import Alert
from taurine.queue import Queue
from taurine.retry import Fixed, Retry

QUICK = Retry(attempts=3, backoff=Fixed(0))


class Sent(BaseModel):
    sent_at: int


@pytest.fixture
def alerts() -> list[Alert]:
    return []


@pytest.fixture
def app(app_factory: Callable[..., Taurine], alerts: list[Alert]) -> Taurine:
    return app_factory(on_alert=alerts.append)


@pytest.fixture
async def queue(prefix: str, redis_socket_url: str) -> Any:
    """The queue `tasks` as somebody sees it who does not go through the application."""
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        yield queue


async def dead_reason(app: Taurine, job_id: str) -> str:
    sql = text("select reason from taurine_dead_letter where job_id = :id")
    backend = app._backend()
    return await backend.database.read(lambda connection: connection.execute(sql, {"id": job_id}).scalar_one())


async def test_one_record_goes_from_queued_to_completed_with_its_output(app: Taurine, queue: Queue) -> None:
    """SEED-025, SEED-044, SEED-124, SEED-278: one row through life; the result and the times of the platform are in it."""

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> Sent:
        return Sent(sent_at=5)

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == Sent(sent_at=5)
    record = await app.get(handle.id)

    assert record is not None
    assert (record.status, record.output, record.attempts, record.error) == ("completed", {"sent_at": 5}, 1, None)
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.created_at <= record.started_at <= record.finished_at
    assert (await queue.counts())["completed"] == 1


async def test_a_handler_may_return_nothing(app: Taurine) -> None:
    """SEED-256."""

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None:
        return None

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) is None


async def test_a_result_that_cannot_be_kept_fails_for_good_and_is_not_run_again(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task) -> Sent:
        runs.append(1)
        return {"sent_at": "never"}  # pyright: ignore[reportReturnType] - what is tested

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="cannot be kept"):
            await handle.result(timeout=10)
    assert runs == [1]


async def test_a_forged_job_in_a_queue_that_is_not_shared_is_refused(
    app: Taurine, queue: Queue, alerts: list[Alert]
) -> None:
    """SEED-230: a job that went round the application never runs, and operators hear of it once."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(task: Task) -> None:
        runs.append(task.number)

    forged = await queue.add("ticket.triage", {"number": 666})
    async with app.worker():
        with pytest.raises(JobFailed, match="not accepted by this application"):
            await forged.wait(timeout=10)
    assert runs == []
    assert [alert.kind for alert in alerts] == ["forged_job"]


async def test_a_forged_job_cannot_borrow_the_record_of_another(
    app: Taurine, queue: Queue, alerts: list[Alert]
) -> None:
    """SEED-230: the record of its id is of another queue."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(task: Task) -> None:
        runs.append(task.number)

    @app.job("other.work", queue="elsewhere")
    async def other(_: Task) -> None: ...

    honest = await other.enqueue(Task(), job_id="mine")
    forged = await queue.add("ticket.triage", {"number": 666}, job_id=honest.id)
    async with app.worker(queues=["tasks"]):
        with pytest.raises(JobFailed, match="not accepted"):
            await forged.wait(timeout=10)
    assert runs == []
    record = await app.get("mine")
    assert record is not None
    assert record.status == "queued"


async def test_an_unknown_type_is_dead_with_its_reason(
    app_factory: Callable[..., Taurine], alerts: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-083, SEED-270: neither success nor an endless retry."""
    monkeypatch.setattr("taurine.jobs.runtime.admission._UNKNOWN_FOR_MS", 0)
    monkeypatch.setattr("taurine.jobs.runtime.admission._UNKNOWN_TIMES", 0)
    producer = app_factory()
    old = producer.declare("task.of-old", Task, queue="tasks")
    worker = app_factory(on_alert=alerts.append)

    @worker.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None: ...

    handle = await old.enqueue(Task())
    async with worker.worker():
        with pytest.raises(JobFailed, match="no handler"):
            await handle.result(timeout=10)
    record = await handle.record()
    assert record.status == "failed"
    assert await dead_reason(producer, handle.id) == "unknown_type"
    assert [alert.kind for alert in alerts] == ["dead_letter"]


async def test_a_stored_payload_that_was_changed_is_refused_without_a_retry(app: Taurine, queue: Queue) -> None:
    """SEED-031, SEED-084: validated at both ends, one attempt."""

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task) -> None: ...

    handle = await task.enqueue(Task())
    job = await queue.get_job(handle.id)
    assert job is not None
    await job.update_data({"number": "many"})
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    record = await handle.record()
    assert (record.attempts, await dead_reason(app, handle.id)) == (1, "permanent")
    assert record.error is not None
    assert record.error["type"] == "PayloadInvalid"


async def test_a_job_of_another_tenant_fails_once_and_alerts_once(
    app: Taurine, queue: Queue, alerts: list[Alert]
) -> None:
    """SEED-020, SEED-032, SEED-237."""
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", tenant="{tenant_id}", retry=QUICK)
    async def task(_: Task) -> None:
        runs.append(1)

    handle = await task.enqueue(Task(tenant_id="acme"))
    job = await queue.get_job(handle.id)
    assert job is not None
    await job.update_data({"tenant_id": "globex"})
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert runs == []
    record = await handle.record()
    assert record.attempts == 1
    assert record.error is not None
    assert record.error["type"] == TenantMismatch.__name__
    assert [alert.kind for alert in alerts].count("denied") == 1


async def test_a_handler_that_is_denied_access_is_not_tried_again_and_alerts(app: Taurine, alerts: list[Alert]) -> None:
    """SEED-032."""

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task) -> None:
        raise PermissionError("not yours")

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert (await handle.record()).attempts == 1
    assert sorted(alert.kind for alert in alerts) == ["dead_letter", "denied"]


async def test_a_job_that_is_due_too_late_never_runs(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", expires_in=0.05)
    async def task(_: Task) -> None:
        runs.append(1)

    handle = await task.enqueue(Task())
    await asyncio.sleep(0.1)  # the time limit itself
    async with app.worker():
        with pytest.raises(JobExpired):
            await handle.result(timeout=10)
    assert runs == []


async def test_a_snooze_costs_no_attempt_and_shows_as_waiting(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> int:
        runs.append(ctx.attempt)
        if len(runs) < 3:
            raise Snooze(timedelta(seconds=0.2))
        return len(runs)

    handle = await task.enqueue(Task())
    async with app.worker():

        async def waits() -> bool:
            return (await handle.record()).status == "waiting"

        await eventually(waits, message="the record never said waiting")
        assert await handle.result(timeout=10) == 3
    assert runs == [1, 1, 1]
    assert (await handle.record()).attempts == 1


@pytest.mark.parametrize("signal", [Release("later"), RateLimited(0.05)], ids=["release", "rate-limited"])
async def test_a_release_costs_no_attempt(app: Taurine, signal: Exception) -> None:
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> str:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise signal
        return "done"

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == "done"
    assert runs == [1, 1]


async def test_a_handler_can_cancel_its_own_job(app: Taurine, queue: Queue) -> None:
    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task) -> None:
        raise Cancel("the ticket was closed")

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobCancelled, match="the ticket was closed"):
            await handle.result(timeout=10)
    assert (await handle.record()).cancel_reason == "the ticket was closed"
    await eventually(lambda: queue.state(handle.id), message="the queue did not settle it")
    assert await queue.state(handle.id) == "failed"


async def test_sys_exit_in_a_handler_fails_the_attempt_and_not_the_worker(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(task: Task) -> str:
        if task.number:
            raise SystemExit(3)
        return "alive"

    bad, good = await task.enqueue(Task(number=1)), await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match=r"sys\.exit"):
            await bad.result(timeout=10)
        assert await good.result(timeout=10) == "alive"


async def test_a_cancelled_error_of_the_handlers_own_is_a_failure(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task) -> None:
        raise asyncio.CancelledError

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="nobody had cancelled"):
            await handle.result(timeout=10)


async def test_an_outcome_that_the_ledger_refuses_for_good_does_not_loop(app: Taurine) -> None:
    """One job's completion violates a rule of the database: it is failed for that, and its neighbours complete."""

    @app.job("ticket.triage", queue="tasks")
    async def task(task: Task) -> str:
        return "poison" if task.number == 3 else "fine"

    handles = [await task.enqueue(Task(number=number)) for number in range(6)]
    trigger = text(
        "create trigger no_poison before update on taurine_job when new.output = '\"poison\"' "
        "begin select raise(abort, 'no poison'); end"
    )
    await app._backend().database.write(lambda connection: connection.execute(trigger) and None)
    async with app.worker(concurrency=6):
        for number, handle in enumerate(handles):
            if number == 3:
                with pytest.raises(JobFailed, match="cannot be recorded"):
                    await handle.result(timeout=10)
            else:
                assert await handle.result(timeout=10) == "fine"
    assert await dead_reason(app, handles[3].id) == "permanent"


_TRIGGER = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'refused' using errcode = '{code}'; end $$;
create trigger refusing before update on taurine_job for each row when (new.status = 'completed') execute function refuse();
"""


async def _run_sql(app: Taurine, script: str) -> None:
    for statement in filter(str.strip, script.replace("end $$;", "end $$;;").split(";;")):
        parts = [statement] if "$$" in statement else statement.split(";")
        for part in filter(str.strip, parts):
            await app._backend().database.write(lambda connection, part=part: connection.exec_driver_sql(part) and None)


async def test_data_that_postgresql_refuses_fails_its_job(
    postgres_url: str, app_factory: Callable[..., Taurine]
) -> None:
    """An error of class 22 is about this outcome: another try ends in the same way."""
    app = app_factory(database_url=postgres_url)
    await app.migrate()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> str:
        return "unstorable"

    await _run_sql(app, _TRIGGER.format(code="22021"))
    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="cannot be recorded"):
            await handle.result(timeout=10)


async def test_a_full_disk_is_waited_out(postgres_url: str, app_factory: Callable[..., Taurine]) -> None:
    """F33: it refuses every outcome, and passes; nothing is recorded that did not happen, and nothing is lost."""
    app = app_factory(database_url=postgres_url)
    await app.migrate()
    runs: list[int] = []

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> str:
        runs.append(1)
        return "kept"

    await _run_sql(app, _TRIGGER.format(code="53100"))
    handle = await task.enqueue(Task())
    async with app.worker():
        await eventually(lambda: runs, message="the job has not run")
        assert await app.wait(handle.id, 0.5) is not None
        assert (await handle.record()).status != "failed"
        await _run_sql(app, "drop trigger refusing on taurine_job")
        assert await handle.result(timeout=20) == "kept"
    assert runs == [1]


async def test_when_the_worker_stops_a_running_job_goes_back_to_queued_at_no_charge(app: Taurine) -> None:
    """P7: the record does not say `running` for hours; what the attempt saved is there for the next."""
    begun, cursors = asyncio.Event(), list[Any]()

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> str:
        cursors.append(ctx.state.get("cursor"))
        if len(cursors) == 1:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ctx.state["cursor"] = 11  # the last word, which no pass of the attendant has seen
        return "done"

    handle = await task.enqueue(Task())
    async with app.worker() as worker:
        await begun.wait()

        async def shown() -> bool:
            return (await handle.record()).status == "running"

        await eventually(shown, message="the record never said running")
        await worker.stop(grace=0)
    record = await handle.record()
    assert (record.status, record.attempts, record.state) == ("queued", 0, {"cursor": 11})
    async with app.worker():
        assert await handle.result(timeout=10) == "done"
    assert cursors == [None, 11]
    assert (await handle.record()).attempts == 1


async def test_what_a_stopped_handler_returns_is_not_taken_for_its_result(app: Taurine) -> None:
    """It was told to stop, so it may have left off in the middle."""
    begun, runs = asyncio.Event(), list[int]()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> str:
        runs.append(1)
        if len(runs) > 1:
            return "whole"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half"
        return "never"

    handle = await task.enqueue(Task())
    async with app.worker() as worker:
        await begun.wait()
        await worker.stop(grace=0)
    async with app.worker():
        assert await handle.result(timeout=10) == "whole"


async def test_a_permanent_error_has_one_attempt_and_a_dead_letter(app: Taurine) -> None:
    """SEED-096, SEED-250."""

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task) -> None:
        raise Permanent("gone")

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="gone"):
            await handle.result(timeout=10)
    assert (await handle.record()).attempts == 1
    assert await dead_reason(app, handle.id) == "permanent"
