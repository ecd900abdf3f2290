"""Time as an object: what both clocks have in common, and that of the machine."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from taurine.clock import Clock, SystemClock, ms_of, now_ms
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


def test_a_moment_has_one_number_of_milliseconds_and_that_is_the_nearest() -> None:
    class Standing(SystemClock):
        def __init__(self, micros: int) -> None:
            self._micros = micros

        def now(self) -> float:
            return 1_800_000_000 + self._micros / 1_000_000

    for micros, nearest in ((0, 0), (400, 0), (600, 1), (999, 1), (1000, 1), (1400, 1), (7600, 8)):
        clock = Standing(micros)
        assert now_ms(clock) == 1_800_000_000_000 + nearest
        assert ms_of(datetime.fromtimestamp(clock.now(), UTC)) == 1_800_000_000_000 + nearest
    assert ms_of(None) is None


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
