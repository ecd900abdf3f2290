"""Time as an object: the manual clock moves only when told to."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.eventually import eventually
from taurine.clock import Clock, ManualClock, SystemClock


def test_both_clocks_are_clocks() -> None:
    clocks: list[Clock] = [SystemClock(), ManualClock()]

    assert [clock.monotonic() <= clock.monotonic() for clock in clocks] == [True, True]


def test_the_system_clock_reads_the_machine() -> None:
    before = time.time(), time.monotonic()
    seen = SystemClock().now(), SystemClock().monotonic()
    after = time.time(), time.monotonic()

    assert before[0] <= seen[0] <= after[0]
    assert before[1] <= seen[1] <= after[1]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
async def test_a_sleep_of_nothing_lets_the_others_go_first(clock: Clock, seconds: float) -> None:
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    others_turn = asyncio.create_task(other())
    await clock.sleep(seconds)
    order.append("sleeper")

    assert order == ["other", "sleeper"]
    await others_turn


def test_a_manual_clock_stands_still_and_moves_both_times() -> None:
    clock = ManualClock(start=1_000.0)

    assert (clock.now(), clock.monotonic()) == (1_000.0, 0.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (1_002.5, 2.5)


async def test_sleepers_wake_in_order_of_their_time() -> None:
    clock = ManualClock()
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
    clock = ManualClock()
    gone = asyncio.create_task(clock.sleep(1.0))
    stays = asyncio.create_task(clock.sleep(2.0))
    await eventually(lambda: clock.sleepers == 2)

    gone.cancel()
    await eventually(gone.done)
    assert clock.sleepers == 1

    clock.advance(2.0)
    await stays
