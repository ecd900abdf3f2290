"""A worker that is told to stop while a server is away: it ends in bounded time, and what it could not settle runs
again. Signals are in tests/faults.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from support.eventually import eventually
from support.postgres import PostgresServer
from support.process_handlers import spin
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.jobs.catalog.job_type import JobType

BOUND = 40.0
"""Seconds in which a stop has to be over: many times what it takes on an idle machine."""


class Visit(BaseModel):
    number: int


class Visits:
    """One job type whose handler runs until the test lets it end."""

    def __init__(self, app: Taurine) -> None:
        self.app = app
        self.started = 0
        self.go_on = asyncio.Event()
        self.visit: JobType[Visit, int] = app.declare("visit.pay", Visit, int, queue="visits").handler(self.handle)

    async def handle(self, visit: Visit) -> int:
        self.started += 1
        await self.go_on.wait()
        return visit.number

    async def until_started(self, count: int) -> None:
        await eventually(lambda: self.started >= count or None, 30)


async def stop(worker: Any, run: asyncio.Task[None], grace: float = 0.2) -> float:
    began = time.monotonic()
    await asyncio.wait_for(worker.stop(grace=grace), BOUND)
    await asyncio.wait_for(run, 5)
    return time.monotonic() - began


async def test_stopping_without_a_server_of_queues(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer], figure: Callable[[str], None]
) -> None:
    """P7, F08: the job cannot be handed back now; it runs elsewhere when its lease is over."""
    server = server_factory(appendonly="yes")
    visits = Visits(app_factory(redis_url=server.url))
    handle = await visits.visit.enqueue(Visit(number=1))
    worker = visits.app.worker(lease=0.5, stalled_interval=0.3)
    run = asyncio.create_task(worker.run())
    await visits.until_started(1)
    server.stop()
    figure(f"stop with the server of queues down: {await stop(worker, run):.1f} s")

    server.start()
    visits.go_on.set()
    async with visits.app.worker(lease=0.5, stalled_interval=0.3):
        assert await handle.result(timeout=30) == 1
    assert visits.started == 2


async def test_stopping_before_the_server_of_queues_is_there(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer]
) -> None:
    server = server_factory()
    server.stop()
    worker = Visits(app_factory(redis_url=server.url)).app.worker()
    run = asyncio.create_task(worker.run())
    await asyncio.wait_for(worker._begun.wait(), 30)  # it has tried, and heard that no server answers
    await stop(worker, run)
    assert not worker.is_ready


async def test_stopping_without_the_ledger(
    app_factory: Callable[..., Taurine], postgres_factory: Callable[..., PostgresServer], figure: Callable[[str], None]
) -> None:
    """F33: a job that is done and cannot be recorded is handed back, never forgotten."""
    server = postgres_factory()
    database = server.url_of(await server.create_database())
    visits = Visits(app_factory(database_url=database))
    await visits.app.migrate()
    handle = await visits.visit.enqueue(Visit(number=1))
    worker = visits.app.worker()
    run = asyncio.create_task(worker.run())
    await visits.until_started(1)
    server.stop()
    visits.go_on.set()
    figure(f"stop with the ledger down: {await stop(worker, run):.1f} s")
    assert worker.running == 0

    server.start()
    async with visits.app.worker():
        assert await handle.result(timeout=30) == 1
    record = await visits.app.get(handle.id)
    assert record is not None
    assert record.attempts == 1
    assert visits.started == 2


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_handlers_that_do_not_end_do_not_hold_it_up(kind: Any, app: Taurine) -> None:
    """SEED-271: the deadline holds for threads and processes as for the loop."""
    spinning = app.job("wheel.spin", runs_in=kind, queue="visits")(spin)
    handle = await spinning.enqueue("on")
    worker = app.worker()
    run = asyncio.create_task(worker.run())

    async def runs() -> bool:
        record = await app.get(handle.id)
        return record is not None and record.status == "running"

    await eventually(runs, 30)
    await stop(worker, run)
    record = await app.get(handle.id)
    assert record is not None
    assert (record.status, record.attempts) == ("queued", 0)


async def test_the_record_of_a_handler_that_is_slow_to_end_is_put_back(app: Taurine) -> None:
    """P7: its job is handed back without waiting for it; the record follows before the worker has ended."""
    started = asyncio.Event()

    @app.job("visit.linger", queue="visits")
    async def linger(visit: Visit) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await eventually(lambda: worker.running == 0, 30)  # longer than a cancelled handler is given

    handle = await linger.enqueue(Visit(number=1))
    worker = app.worker()
    run = asyncio.create_task(worker.run())
    await asyncio.wait_for(started.wait(), 30)
    await stop(worker, run, grace=0)
    record = await app.get(handle.id)
    assert record is not None
    assert (record.status, record.attempts) == ("queued", 0)


async def test_a_ledger_that_is_down_at_the_start_is_waited_for(
    postgres_factory: Callable[..., PostgresServer], redis_url: str, prefix: str
) -> None:
    """A worker may be started before its database, as containers are."""
    server = postgres_factory()
    url = server.url_of(await server.create_database())
    app = Taurine("errands", redis_url=redis_url, database_url=url, prefix=prefix)

    @app.job("ticket.triage", queue="tasks")
    async def task(number: int) -> int:
        return number + 1

    await app.migrate()
    await app.close()
    server.kill()
    worker = app.worker()
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    server.start()
    try:
        assert await (await task.enqueue(1)).result(timeout=60) == 2
    finally:
        await worker.stop()
        await running
        await app.close()
