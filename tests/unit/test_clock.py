"""Time as an object: what both clocks have in common, and that of the machine."""

from __future__ import annotations

import asyncio
import time

import pytest

from taurine.clock import Clock, SystemClock
from taurine.testing import TestClock


def test_both_clocks_are_clocks() -> None:
    clocks: list[Clock] = [SystemClock(), TestClock()]

    assert [clock.monotonic() <= clock.monotonic() for clock in clocks] == [True, True]


def test_the_system_clock_reads_the_machine() -> None:
    before = time.time(), time.monotonic()
    seen = SystemClock().now(), SystemClock().monotonic()
    after = time.time(), time.monotonic()

    assert before[0] <= seen[0] <= after[0]
    assert before[1] <= seen[1] <= after[1]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
@pytest.mark.parametrize("clock", [SystemClock(), TestClock()], ids=["system", "test"])
async def test_a_sleep_of_nothing_lets_the_others_go_first(clock: Clock, seconds: float) -> None:
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    others_turn = asyncio.create_task(other())
    await clock.sleep(seconds)
    order.append("sleeper")

    assert order == ["other", "sleeper"]
    await others_turn
