"""The loop of every background service: start and stop as often as one likes, and no pass that fails ends it."""

from __future__ import annotations

import asyncio
import logging
from random import Random

import pytest

from support.eventually import eventually
from taurine.clock import Clock, SystemClock
from taurine.errors import StoreUnavailable
from taurine.service import Service
from taurine.testing import TestClock


class Counting(Service[int]):
    """Counts its passes, and how many are under way at once."""

    def __init__(
        self, clock: Clock, *, random: Random | None = None, jitter: float = 0.0, error: Exception | None = None
    ) -> None:
        super().__init__(name="counting", interval=10.0, clock=clock, random=random or Random(1), jitter=jitter)
        self.passes = 0
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._error = error

    async def run_once(self) -> int:
        self.passes += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.under_way -= 1
        return self.passes


async def test_the_first_pass_is_at_once_and_the_next_after_the_interval() -> None:
    clock = TestClock()
    service = Counting(clock)
    service.start()
    await eventually(lambda: clock.sleepers)
    assert service.passes == 1
    clock.advance(9.9)
    await asyncio.sleep(0)
    assert service.passes == 1
    clock.advance(0.1)
    await eventually(lambda: service.passes == 2)
    await service.stop()


async def test_starting_twice_and_stopping_twice_are_harmless() -> None:
    service = Counting(TestClock())
    await service.stop()
    assert not service.running
    service.start()
    service.start()
    await eventually(lambda: service.passes)
    assert service.running
    await service.stop()
    await service.stop()
    assert not service.running
    assert (service.passes, service.most) == (1, 1)


async def test_it_can_be_started_again() -> None:
    service = Counting(TestClock())
    for number in range(1, 4):
        service.start()
        await eventually(lambda number=number: service.passes == number)
        await service.stop()


async def test_it_stops_in_the_middle_of_a_pass() -> None:
    service = Counting(TestClock())
    service.gate.clear()
    service.start()
    await eventually(lambda: service.under_way)
    await service.stop()
    assert service.under_way == 0


async def test_hammered_with_starts_and_stops_it_never_runs_twice(seed: int) -> None:
    random = Random(seed)
    service = Counting(SystemClock(), random=random)
    service.interval = 0.0

    async def hammer() -> None:
        for _ in range(200):
            if random.random() < 0.5:
                service.start()
            else:
                await service.stop()
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)

    await asyncio.gather(*(hammer() for _ in range(5)))
    await service.stop()
    assert not service.running
    assert service.passes > 10
    assert service.under_way == 0
    before = service.passes
    for _ in range(10):
        await asyncio.sleep(0)
    assert service.passes == before


async def test_a_pass_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = TestClock()
    service = Counting(clock, error=RuntimeError("as asked"))
    service.start()
    for number in range(1, 4):
        await eventually(lambda number=number: service.passes == number and clock.sleepers)
        clock.advance(10)
    await eventually(lambda: service.passes == 4)
    await service.stop()
    assert "counting failed; it goes on" in caplog.text


async def test_an_outage_is_no_error_of_the_service(caplog: pytest.LogCaptureFixture) -> None:
    clock = TestClock()
    service = Counting(clock, error=StoreUnavailable("gone"))
    with caplog.at_level(logging.INFO):
        service.start()
        await eventually(lambda: clock.sleepers)
        await service.stop()
    assert caplog.records == []


async def test_cancelling_the_one_who_stops_it_is_not_swallowed() -> None:
    """A pass that takes long to end holds up the stop; whoever waits there may be cancelled."""

    class Slow(Counting):
        async def run_once(self) -> int:
            try:
                return await super().run_once()
            except asyncio.CancelledError:
                await self.may_end.wait()
                raise

        may_end = asyncio.Event()

    service = Slow(TestClock())
    service.gate.clear()
    service.start()
    await eventually(lambda: service.under_way)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stopping.cancel()
    service.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_intervals_are_spread_by_the_jitter(seed: int) -> None:
    clock = TestClock()
    service = Counting(clock, random=Random(seed), jitter=0.5)
    service.start()
    for number in range(1, 20):
        await eventually(lambda number=number: service.passes == number and clock.sleepers)
        clock.advance(4.999)
        await asyncio.sleep(0)
        assert service.passes == number, "never before half of the interval"
        clock.advance(10.002)
    await service.stop()
