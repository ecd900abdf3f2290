from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.eventually import eventually
from taurine.queue import Queue
from taurine.testing import TestClock, drain, run_twice

TEN = datetime(2026, 3, 10, 10, tzinfo=UTC)


@pytest.fixture
def clock() -> TestClock:
    return TestClock(TEN)


@pytest.fixture
def example(imported: Callable[..., Any], clock: TestClock) -> Any:
    return imported("usage_rollover", clock=clock)


def use(example: Any, at: datetime, units: int = 1) -> None:
    with closing(example.open_books()) as books, books:
        books.execute("insert into usage values (?, ?)", (at.timestamp(), units))


def hours(example: Any) -> dict[str, int]:
    with closing(example.open_books()) as books:
        rows = books.execute("select hour, units from usage_hour order by hour").fetchall()
    return {f"{datetime.fromtimestamp(hour, UTC):%d %H}": units for hour, units in rows}


async def install(example: Any) -> None:
    async with example.app.worker():
        await eventually(lambda: next_run(example), message="the schedule is not there")


async def next_run(example: Any) -> datetime | None:
    return (await example.app.schedules.get("usage-roll-over")).next_run


def test_the_program_rolls_over_and_then_has_nothing_to_do(started: Callable[..., str]) -> None:
    """SEED-053. It may be run as the hour turns."""
    said = started("usage_rollover")

    assert re.fullmatch(
        r"next at minute 05\nrolled over [34] hours\nrolled over [01] hours\nunits: \[93, 57, 21(, 0)?\]\n", said
    )


async def test_a_late_tick_books_into_its_own_hour(example: Any, clock: TestClock) -> None:
    """SEED-054, SEED-244: it was due at 10:05 and runs at 11:30; the usage since is not its business.

    Both times are in the record.
    """
    await install(example)
    use(example, TEN - timedelta(minutes=30), 5)
    use(example, TEN + timedelta(minutes=30), 7)
    clock.advance(timedelta(hours=1, minutes=30))
    (record,) = (await drain(example.app)).completed

    assert record.payload == {}
    assert record.scheduled_for == TEN + timedelta(minutes=5)
    assert record.started_at == TEN + timedelta(hours=1, minutes=30)
    assert record.output == {"hours": ["2026-03-10 09:00"]}
    assert hours(example) == {"10 09": 5}


async def test_hours_that_no_worker_saw_are_done_in_order(example: Any, clock: TestClock) -> None:
    """SEED-245: three of them, by two ticks: the one that waited, and the first one after it."""
    await install(example)
    for hour in range(-1, 3):
        use(example, TEN + timedelta(hours=hour, minutes=30), hour + 10)
    clock.advance(timedelta(hours=2, minutes=50))
    await drain(example.app)
    clock.advance(timedelta(minutes=20))
    await drain(example.app)
    ran = [record async for record in example.app.list(type="usage-roll-over") if record.status == "completed"]

    assert [record.output["hours"] for record in reversed(ran)] == [
        ["2026-03-10 09:00"],
        ["2026-03-10 10:00", "2026-03-10 11:00", "2026-03-10 12:00"],
    ]
    assert hours(example) == {"10 09": 9, "10 10": 10, "10 11": 11, "10 12": 12}


async def test_ten_workers_that_start_at_once_install_one_schedule(
    example: Any, redis_socket_url: str, prefix: str
) -> None:
    """SEED-053, SEED-246."""
    async with AsyncExitStack() as workers, Queue("usage", redis_socket_url, prefix=prefix) as queue:
        started = (workers.enter_async_context(example.app.worker()) for _ in range(10))
        await asyncio.gather(*started)
        await eventually(queue.count_schedulers, message="no schedule was installed")
        next_one = await eventually(lambda: next_run(example), message="there is no next tick")
    async with Queue("usage", redis_socket_url, prefix=prefix) as queue:
        assert await queue.count_schedulers() == 1
        assert len(await queue.get_jobs(["delayed"])) == 1

    assert next_one == TEN + timedelta(minutes=5)


async def test_an_hour_may_be_rolled_over_twice(example: Any) -> None:
    use(example, TEN - timedelta(minutes=30), 5)

    await run_twice(example.roll_over, {}, outside=lambda: hours(example), scheduled_for=TEN)

    assert hours(example) == {"10 09": 5}
