"""Which errors are tried again, when, and what the record says in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from support.eventually import eventually
from support.executed import Task
from taurine.app import Taurine
from taurine.errors import JobFailed, RetryAfter
from taurine.jobs.handler.context import Context
from taurine.retry import Exponential, Fixed, Retry, Rule


class HttpError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


async def outcomes(app: Taurine, job_id: str) -> list[tuple[str, int]]:
    sql = text("select outcome, number from taurine_attempt where job_id = :id order by fence")
    database = app._backend().database
    return [tuple(row) for row in await database.read(lambda connection: connection.execute(sql, {"id": job_id}).all())]


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        pytest.param(TimeoutError("provider"), 3, id="SEED-029 a provider's time-out"),
        pytest.param(ConnectionError("store"), 3, id="SEED-030, SEED-095 a network error"),
        pytest.param(HttpError(429), 3, id="SEED-095 too many requests"),
        pytest.param(HttpError(503), 3, id="a server's error"),
        pytest.param(HttpError(404), 1, id="SEED-134 not found"),
        pytest.param(PermissionError(), 1, id="SEED-032 denied"),
        pytest.param(RuntimeError("unknown"), 3, id="an unknown error"),
    ],
)
async def test_attempts_by_kind_of_error(app: Taurine, error: Exception, attempts: int) -> None:
    seen: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(0)))
    async def task(_: Task, ctx: Context) -> None:
        seen.append(ctx.attempt)
        raise error

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert seen == list(range(1, attempts + 1))
    record = await handle.record()
    assert (record.status, record.attempts) == ("failed", attempts)
    assert await outcomes(app, handle.id) == [
        *(("retried", number) for number in range(1, attempts)),
        ("failed", attempts),
    ]


async def test_between_two_attempts_the_record_says_retrying_and_then_completes(app: Taurine) -> None:
    """SEED-045, SEED-235: `failed` is said only when no attempt remains; the handler does not put itself back."""
    go, seen = asyncio.Event(), list[int]()

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=2, backoff=Fixed(0.3)))
    async def task(_: Task, ctx: Context) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt == 1:
            raise TimeoutError("slow")
        await go.wait()
        return "done"

    handle = await task.enqueue(Task())
    statuses: set[str] = set()
    async with app.worker():

        async def status_is(status: str) -> bool:
            record = await handle.record()
            statuses.add(record.status)
            return record.status == status

        await eventually(lambda: status_is("retrying"), message="never retrying")
        record = await handle.record()
        assert record.error is not None
        assert record.error["message"] == "slow"
        await eventually(lambda: status_is("running"), message="never running again")
        go.set()
        assert await handle.result(timeout=10) == "done"
    assert "failed" not in statuses
    record = await handle.record()
    assert (record.status, record.attempts, record.error, seen) == ("completed", 2, None, [1, 2])


async def test_the_pause_is_the_policys_own_and_retry_after_goes_before_it(app_factory: Callable[..., Taurine]) -> None:
    """The time of the next attempt stands in the record."""
    app = app_factory()

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Exponential(100.0, jitter=0)))
    async def task(task: Task) -> None:
        raise RetryAfter(1000) if task.number else TimeoutError

    usual, asked = await task.enqueue(Task(number=0)), await task.enqueue(Task(number=1))
    async with app.worker():

        async def both_wait() -> bool:
            return {(await usual.record()).status, (await asked.record()).status} == {"retrying"}

        await eventually(both_wait, message="not both are waiting for their retry")
    for handle, pause in ((usual, 100), (asked, 1000)):
        record = await handle.record()
        assert record.next_attempt_at is not None
        assert abs((record.next_attempt_at - record.updated_at).total_seconds() - pause) < 0.1


async def test_a_rule_of_the_job_type_decides_first(app: Taurine) -> None:
    seen: list[int] = []

    @app.job(
        "ticket.triage", queue="tasks", retry=Retry(attempts=5, backoff=Fixed(0), rules=(Rule(KeyError, "permanent"),))
    )
    async def task(_: Task) -> None:
        seen.append(1)
        raise KeyError("x")

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert seen == [1]


async def test_a_retry_that_one_job_was_given_counts_for_it_alone(app: Taurine) -> None:
    seen: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=5, backoff=Fixed(0)))
    async def task(_: Task) -> None:
        seen.append(1)
        raise TimeoutError

    handle = await task.enqueue(Task(), retry=Retry(attempts=2, backoff=Fixed(0)))
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert len(seen) == 2


async def test_an_error_that_breaks_when_it_is_looked_at_is_still_recorded(app: Taurine) -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task) -> None:
        raise Hostile

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    record = await handle.record()
    assert record.error is not None
    assert record.error["type"] == "Hostile"


async def test_errors_from_one_place_have_one_fingerprint(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(task: Task) -> None:
        if task.number == 9:
            raise KeyError(task.number)
        raise ValueError(f"number {task.number}")

    handles = [await task.enqueue(Task(number=number)) for number in (1, 2, 9)]
    async with app.worker():
        for handle in handles:
            with pytest.raises(JobFailed):
                await handle.result(timeout=10)
    one, two, other = [(await handle.record()).error_fingerprint for handle in handles]
    assert one == two != other
    record: Any = await handles[0].record()
    assert "taurine/jobs" not in record.error["traceback"], "the traceback begins in the handler"
