"""When a loop is late: what health is told from."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from support.eventually import eventually
from taurine.heartbeat import LEAST_PATIENCE, PATIENCE, Heartbeat
from taurine.observe.health import late_loops
from taurine.queue import Worker
from taurine.service import Service
from taurine.testing import TestClock


def test_a_loop_is_late_once_its_time_has_passed() -> None:
    clock = TestClock()
    beat = Heartbeat("one", clock)
    clock.advance(1000)
    assert beat.late == 0, "a loop that never ran is not late"
    beat.turn(30)
    clock.advance(30)
    assert (beat.late, beat.age) == (0, 30)
    clock.advance(5)
    assert late_loops([beat, Heartbeat("two", clock)]) == {"one": 5}
    beat.rest()
    clock.advance(1000)
    assert beat.late == 0, "who waits for something to do may do so for ever"


def test_no_loop_is_late_within_ten_seconds() -> None:
    clock = TestClock()
    beat = Heartbeat("quick", clock)
    beat.turn(0.5)
    clock.advance(LEAST_PATIENCE)
    assert beat.late == 0
    clock.advance(0.1)
    assert beat.late > 0


class Looking(Service[None]):
    def __init__(self, clock: TestClock, interval: float) -> None:
        super().__init__(name="looking", interval=interval, clock=clock, random=Random(0), jitter=0)
        self.hangs = False
        self.passes = 0

    async def run_once(self) -> None:
        self.passes += 1
        if self.hangs:
            await asyncio.Event().wait()


async def test_a_service_that_hangs_in_a_pass_is_late_and_one_that_rests_is_not() -> None:
    clock = TestClock()
    service = Looking(clock, interval=100)
    service.start()
    try:
        await eventually(lambda: clock.sleepers == 1)
        clock.advance(99)
        assert service.heartbeat.late == 0
        service.hangs = True
        clock.advance(1)
        await eventually(lambda: service.passes == 2)
        clock.advance(PATIENCE)
        assert service.heartbeat.late == 0, "a server may take its time to answer"
        clock.advance(1)
        assert service.heartbeat.late == 1
    finally:
        await service.stop()
    assert service.heartbeat.late == 0, "what was stopped is not stuck"


async def test_a_worker_whose_turn_never_ends_is_late_within_twice_its_block_time(
    redis_socket_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F60, at the failpoint where a turn's reply is awaited."""
    clock = TestClock()

    async def handle(_: object) -> None: ...

    async with Worker("wedged", handle, redis_socket_url, prefix=prefix, clock=clock, drain_delay=7.0) as worker:
        (own,) = [beat for beat in worker.heartbeats if beat.name == "turns of wedged"]
        await eventually(lambda: worker._reachable and own.due == float("inf"), message="the worker was to rest")
        entered, release = asyncio.Event(), asyncio.Event()
        receive = worker._turns.receive

        async def wedged() -> Any:
            entered.set()
            await release.wait()
            return await receive()

        monkeypatch.setattr(worker._turns, "receive", wedged)
        worker._look_again()
        try:
            await asyncio.wait_for(entered.wait(), 5)
            clock.advance(14.0)
            assert own.late == 0
            clock.advance(0.1)
            assert "turns of wedged" in late_loops(worker.heartbeats)
        finally:
            release.set()
        await eventually(lambda: own.late == 0, message="it turns again")
    assert late_loops(worker.heartbeats) == {}
