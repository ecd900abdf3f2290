"""`/health/live` of the API: its process has loops of its own, and one that is stuck is told of; an outage of a server
is not (SEED-185, F60).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.api import Client
from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.http import Access
from taurine.observe.alerts import DeadLettersOpen
from taurine.testing import TestClock

ClientOf = Callable[..., Client]
CLOSED = Access(open_on_loopback=False)
STUCK = (503, {"status": "stuck", "healthy": False})
OK = (200, {"status": "ok", "healthy": True})


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def make(app_factory: Callable[..., Taurine], clock: TestClock) -> Callable[..., Taurine]:
    """Make an application of which the test moves the time, with alerts, and nothing else to do."""
    return lambda **options: app_factory(clock=clock, alerts=[DeadLettersOpen()], **options)


async def live(client: Client) -> tuple[int, Any]:
    answer = await client.get("/health/live")
    return answer.status_code, answer.json()


class Hanging:
    """Passes of a service that never end, until they may."""

    def __init__(self, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.ends = asyncio.Event(), asyncio.Event()
        self._pass = service.run_once
        monkeypatch.setattr(service, "run_once", self._run_once)

    async def _run_once(self) -> Any:
        self.entered.set()
        await self.ends.wait()
        return await self._pass()


async def test_a_source_of_changes_that_hangs_is_told_of(
    make: Callable[..., Taurine],
    client_of: ClientOf,
    clock: TestClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No name without a credential (SEED-274): the log has it."""
    app = make()
    client = client_of(app, access=CLOSED)
    assert await live(client) == OK, "nothing is open yet"
    await app.open()
    hanging = Hanging(app._backend().changes, monkeypatch)
    async with app.changes(tenant="acme"):
        await asyncio.wait_for(hanging.entered.wait(), 5)
        await _move(clock, 59)
        assert await live(client) == OK, "a server may take its time to answer"
        await _move(clock, 2)
        await eventually(lambda: _is(live, client, STUCK))
        assert "the API of test is stuck: these loops do not turn: changes" in caplog.text
        hanging.ends.set()
        await eventually(lambda: _is(live, client, OK), message="it turns again")
    await _move(clock, 60)
    await eventually(lambda: _is(live, client, OK), message="it rests, since nobody listens")


async def test_the_loops_that_are_served_beside_the_api_are_told_of(
    make: Callable[..., Taurine], client_of: ClientOf, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `taurine serve`: the watch of alerts, and the worker of bulk operations."""
    app = make()
    client = client_of(app)
    async with app, app.operations_worker() as worker:
        (watch,) = [service for service in worker._services if service.name == "alerts"]
        assert {"alerts", "event loop", "outbox", "changes"} <= {beat.name for beat in app.heartbeats}
        hanging = Hanging(watch, monkeypatch)
        async with asyncio.timeout(20):
            while not hanging.entered.is_set():
                await _move(clock, 1)
        await _move(clock, 61)
        await eventually(lambda: _is(live, client, STUCK))
        hanging.ends.set()
        await eventually(lambda: _is(live, client, OK))
        names = {beat.name for beat in app.heartbeats}
    assert "alerts" in names
    assert app.heartbeats == [], "what is closed does not turn, and is not stuck"


async def test_an_outage_of_both_servers_is_no_stuck_loop(
    make: Callable[..., Taurine], client_of: ClientOf, clock: TestClock
) -> None:
    """Whoever is killed for it would come back to the same outage."""
    app = make(redis_url="redis://127.0.0.1:1")
    client = client_of(app)
    async with app, app.changes(tenant="acme"), _in_background(app, clock):
        app._backend().database.read = away  # type: ignore[method-assign]
        app._backend().database.write = away  # type: ignore[method-assign]
        for _ in range(4):
            await _move(clock, 30)
            await eventually(lambda: _is(live, client, OK))


async def away(_: Any) -> Any:
    raise LedgerUnavailable("away")


@asynccontextmanager
async def _in_background(app: Taurine, clock: TestClock) -> AsyncGenerator[None]:
    """A worker that may wait for its servers for ever."""
    worker = app.operations_worker()
    task = asyncio.create_task(worker.run())
    try:
        await eventually(lambda: len(worker.heartbeats) > 5)
        yield
    finally:
        stopping = asyncio.create_task(worker.stop(grace=0))
        async with asyncio.timeout(20):
            while not stopping.done():  # it has waits of its own
                await _move(clock, 1)
        await task


async def _move(clock: TestClock, seconds: int) -> None:
    """Second by second, so that the loops that do turn are not late."""
    for _ in range(seconds):
        clock.advance(1)
        await asyncio.sleep(0.002)


async def _is(look: Callable[[Client], Any], client: Client, expected: tuple[int, Any]) -> bool:
    return await look(client) == expected
