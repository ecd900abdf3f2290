"""What the queue keeps of ended jobs with the rules of a job type that says nothing, and with its own (SEED-010, 011,
090 to 092, 251, CON-02, CON-03).

The ledger's own retention is elsewhere; here the record is always still there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from jobs.reconciling import NO_UPKEEP
from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.reporting.alerts import Alert
from taurine.observe.alerts import DeadLettersOpen
from taurine.options import Keep
from taurine.queue import Job, Queue, Worker
from taurine.queue.states import JobState
from taurine.retry import Exponential, Retry
from taurine.testing import TestClock

DAY = 86_400.0
Run = Callable[[int, str | None], Awaitable[str]]


@pytest.fixture
async def queue(redis_socket_url: str, prefix: str) -> AsyncIterator[Queue]:
    async with Queue("orders", redis_socket_url, prefix=prefix) as queue:
        yield queue


def runner(orders: JobType[Any, Any], app: Taurine) -> Run:
    """Runs one order to its end, and returns its id: `await run(7, None)` completes, `await run(7, "permanent")` fails."""

    async def run(number: int, fail: str | None) -> str:
        async with app.worker(upkeep=NO_UPKEEP):
            handle = await orders.enqueue(Order(number=number, fail=fail))
            await ended(handle.record, "completed" if fail is None else "failed")
        return handle.id

    return run


async def kept(queue: Queue, *job_ids: str) -> list[bool]:
    return [await queue.get_job(job_id) is not None for job_id in job_ids]


async def test_completed_jobs_are_kept_for_a_day(app_factory: Callable[..., Taurine], queue: Queue) -> None:
    """SEED-010, CON-02: by the default; the record outlives what the queue keeps."""
    clock = TestClock()
    app = app_factory(clock=clock)
    run = runner(declare_orders(app), app)
    first = await run(1, None)
    clock.advance(23 * 3600)
    second = await run(2, None)
    assert await kept(queue, first, second) == [True, True]
    clock.advance(2 * 3600)

    third = await run(3, None)

    assert await kept(queue, first, second, third) == [False, True, True]
    record = await app.get(first)
    assert record is not None
    assert record.output == {"price": 2}


async def test_of_completed_jobs_a_thousand_are_kept(app: Taurine, queue: Queue) -> None:
    """SEED-010, SEED-091, CON-02: by the default; the 1,001st pushes the oldest out."""
    orders = declare_orders(app)
    async with app.worker(upkeep=NO_UPKEEP, concurrency=100):
        first = await orders.enqueue(Order(number=0))
        await first.result(timeout=10)
        handles = await orders.enqueue_many([Order(number=number) for number in range(1, 1000)])
        await eventually(lambda: _has(queue, "completed", 1000), 20, "not all have ended")
        assert await kept(queue, first.id) == [True]

        last = await orders.enqueue(Order(number=1000))
        await last.result(timeout=10)
        await eventually(lambda: _is_gone(queue, first.id), message="the oldest is still there")

    assert (await queue.counts())["completed"] == 1000
    assert await kept(queue, handles[0].id, last.id) == [True, True]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        pytest.param(Keep(count=1), [False, False, True], id="by count alone"),
        pytest.param(Keep(age=36 * 3600), [False, True, True], id="by age alone"),
        pytest.param(2, [False, True, True], id="the newest two"),
        pytest.param(True, [True, True, True], id="all"),
        pytest.param(False, [False, False, False], id="none"),
    ],
)
async def test_a_job_type_says_what_is_kept(
    app_factory: Callable[..., Taurine], queue: Queue, keep: Any, expected: list[bool]
) -> None:
    """CON-02, CON-03: age and number may each be set alone; True keeps what there is, and False nothing."""
    clock = TestClock()
    app = app_factory(clock=clock)
    run = runner(declare_orders(app, keep_completed=keep, keep_failed=keep), app)
    completed, failed = list[str](), list[str]()
    for number in range(3):
        clock.advance(DAY)
        completed.append(await run(number, None))
        failed.append(await run(number, "permanent"))

    assert await kept(queue, *completed) == expected
    assert await kept(queue, *failed) == expected
    assert all([await app.get(job_id) is not None for job_id in (*completed, *failed)])


async def test_failed_jobs_are_kept_for_a_week(app_factory: Callable[..., Taurine], queue: Queue) -> None:
    """SEED-011, SEED-251, CON-03: by the default, which is finite; the record and the dead letter are kept for longer."""
    clock = TestClock()
    app = app_factory(clock=clock)
    run = runner(declare_orders(app), app)
    first = await run(1, "permanent")
    clock.advance(6 * DAY)
    second = await run(2, "permanent")
    assert await kept(queue, first, second) == [True, True]
    clock.advance(2 * DAY)

    third = await run(3, "permanent")

    assert await kept(queue, first, second, third) == [False, True, True]
    assert await app.get(first) is not None
    assert {letter.job_id for letter in await app.dead_letters.list()} == {first, second, third}


async def test_of_failed_jobs_five_thousand_are_kept(
    app: Taurine, queue: Queue, redis_socket_url: str, prefix: str
) -> None:
    """SEED-251, CON-03: by the default."""

    async def fail(_: Job) -> None:
        raise RuntimeError

    await queue.add_many([("other", {}, {"job_id": f"old{number}", "keep_logs": 0}) for number in range(5000)])
    async with Worker("orders", fail, redis_socket_url, prefix=prefix, concurrency=500):
        await eventually(lambda: _has(queue, "failed", 5000), 20, "not all have failed")

    job_id = await runner(declare_orders(app), app)(1, "permanent")

    assert (await queue.counts())["failed"] == 5000
    assert await kept(queue, job_id) == [True]


async def test_failed_jobs_may_be_kept_for_ever(app_factory: Callable[..., Taurine], queue: Queue) -> None:
    """SEED-092, SEED-251: by who says so."""
    clock = TestClock()
    app = app_factory(clock=clock)
    run = runner(declare_orders(app, keep_failed=True), app)
    first = await run(1, "permanent")
    clock.advance(1000 * DAY)

    second = await run(2, "permanent")

    assert await kept(queue, first, second) == [True, True]


async def test_who_keeps_failed_jobs_is_told_when_they_are_many(app_factory: Callable[..., Taurine]) -> None:
    """SEED-251: each is a dead letter until somebody deals with it, and a worker alerts above a number of them."""
    heard: list[Alert] = []
    clock = TestClock()
    app = app_factory(clock=clock, on_alert=heard.append, alerts=[DeadLettersOpen(limit=2)])
    orders = declare_orders(app, keep_failed=True)
    async with app.worker():
        for handle in await orders.enqueue_many([Order(number=number, fail="permanent") for number in range(3)]):
            await ended(handle.record, "failed")
    assert "dead_letters_depth" not in {alert.kind for alert in heard}

    def told() -> bool:
        clock.advance(15)
        return "dead_letters_depth" in {alert.kind for alert in heard}

    async with app.worker():
        await eventually(told, 5, "no alert was raised", every=0.05)


async def test_what_a_job_is_stored_with_by_default(app: Taurine, queue: Queue) -> None:
    """SEED-090, SEED-091, SEED-055, CON-01: read from the queue, as every other consumer does."""
    handle = await app.declare("order", Order, queue="orders").enqueue(Order(number=1))

    job = await queue.get_job(handle.id)

    assert job is not None
    options = job.options
    assert (options.attempts, options.backoff) == (3, Exponential(1.0, factor=2, cap=3600.0, jitter=0.2))
    assert (options.remove_on_complete, options.remove_on_fail) == (
        Keep(count=1000, age=DAY),
        Keep(count=5000, age=7 * DAY),
    )
    assert app.catalog.get("order").options.retry == Retry()


async def _has(queue: Queue, state: JobState, number: int) -> bool:
    counts = await queue.counts()
    assert counts[state] == number, f"{counts[state]} are {state}"
    return True


async def _is_gone(queue: Queue, job_id: str) -> bool:
    return await queue.get_job(job_id) is None
