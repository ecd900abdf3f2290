"""Time that a test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from support.eventually import eventually
from taurine.errors import InvalidOption
from taurine.testing import TestClock


async def test_it_stands_still_until_it_is_moved() -> None:
    clock = TestClock(datetime(2026, 3, 2, tzinfo=UTC))
    sleeping = asyncio.create_task(clock.sleep(60))
    await asyncio.sleep(0)
    assert (clock.sleepers, clock.datetime) == (1, datetime(2026, 3, 2, tzinfo=UTC))

    clock.advance(59)
    await asyncio.sleep(0)
    assert not sleeping.done()
    clock.advance(timedelta(seconds=1))
    await asyncio.wait_for(sleeping, 5)

    assert clock.datetime == datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
    assert clock.monotonic() == 60


async def test_sleepers_wake_in_order_of_their_time() -> None:
    clock = TestClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 3.0))
        group.create_task(sleeper("early", 1.0))
        group.create_task(sleeper("also early", 1.0))
        await eventually(lambda: clock.sleepers == 3)

        clock.advance(0.999)
        await asyncio.sleep(0)
        assert woken == []

        clock.advance(0.001)
        await eventually(lambda: len(woken) == 2)
        assert (woken, clock.sleepers) == (["early", "also early"], 1)

        clock.advance(10.0)
    assert woken == ["early", "also early", "late"]


async def test_a_cancelled_sleeper_is_not_counted_and_does_not_stop_the_clock() -> None:
    clock = TestClock()
    gone = asyncio.create_task(clock.sleep(1.0))
    stays = asyncio.create_task(clock.sleep(2.0))
    await eventually(lambda: clock.sleepers == 2)

    gone.cancel()
    await eventually(gone.done)
    assert clock.sleepers == 1

    clock.advance(2.0)
    await stays


async def test_a_wait_counts_from_its_call() -> None:
    """And not from when the loop gets round to it: time that is moved before that would not count."""
    clock, event = TestClock(), asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, 5))
    await asyncio.sleep(0)

    clock.advance(5)

    assert await asyncio.wait_for(waiting, 5) is False
    assert await clock.wait(event, 0) is False


async def test_another_thread_may_move_it() -> None:
    """A sleeper is woken on its own loop."""
    asyncio.get_running_loop().set_debug(True)  # which looks at the thread that touches it
    clock = TestClock()
    event = asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, 3600))
    await eventually(lambda: clock.sleepers == 1, 5, "it does not sleep")

    await asyncio.to_thread(clock.advance, 3600)

    assert await asyncio.wait_for(waiting, 5) is False


def test_it_goes_forward_only_and_knows_its_zone() -> None:
    clock = TestClock()
    with pytest.raises(InvalidOption):
        clock.advance(-1)
    with pytest.raises(InvalidOption):
        clock.advance_to(clock.datetime - timedelta(seconds=1))
    with pytest.raises(InvalidOption, match="aware"):
        TestClock(datetime(2026, 3, 2))  # noqa: DTZ001 - that it is refused is the point
    clock.advance_to(clock.datetime + timedelta(days=1))


@pytest.mark.parametrize("start", [1795330050.7436, 1795330050.7434999, 0.0005])
def test_what_is_due_in_an_hour_is_due_when_an_hour_has_passed(start: float) -> None:
    """Records have whole milliseconds; a clock between two of them would be too early for what was rounded up."""
    clock = TestClock(start)
    due_ms = round(clock.now() * 1000) + 3_600_000
    for _ in range(3600):
        clock.advance(1)

    assert due_ms / 1000 <= clock.now()


def test_pytest_does_not_take_it_for_a_test() -> None:
    """Its name begins with Test, and pytest warns of a class of that name that it cannot collect."""
    assert TestClock.__test__ is False
