"""The guard that knows which server of queues answers: what it does where that cannot be known."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from support.eventually import eventually
from support.server import ValkeyServer
from support.store import open_store
from taurine.clock import SystemClock
from taurine.jobs.handover.rollback import RollbackGuard
from taurine.queue.connection import Connection
from taurine.queue.server_changes import ServerChanges


async def refuse_info(server: ValkeyServer) -> None:
    async with open_store(server) as store:
        await store.execute_command("ACL", "SETUSER", "default", "-info")


@pytest.fixture
def server(server_factory: Callable[..., ValkeyServer]) -> ValkeyServer:
    return server_factory()


@pytest.fixture
async def guard(server: ValkeyServer, prefix: str) -> AsyncIterator[RollbackGuard]:
    connection = Connection.to(server.url)
    guard = RollbackGuard(changes=ServerChanges(connection, prefix), clock=SystemClock(), random=Random(1))
    yield guard
    await guard.stop()
    await connection.close()


async def test_where_the_server_cannot_be_asked_it_is_said_once_and_tried_ever_more_rarely(
    guard: RollbackGuard, server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    await refuse_info(server)
    caplog.set_level(logging.DEBUG, "taurine")
    rests: list[float] = []

    class Rested(SystemClock):
        async def sleep(self, seconds: float) -> None:
            rests.append(seconds)
            await asyncio.sleep(0)

    guard._clock = Rested()  # pyright: ignore[reportPrivateUsage] - its sleeps are what is measured
    guard.start()

    async def tried() -> bool:
        return len(rests) >= 8

    await eventually(tried, 10, "it does not try again")
    await guard.stop()

    assert guard.until == math.inf, "every job asks the ledger meanwhile"
    assert rests[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(rests) <= 1.1
    assert len([line for line in caplog.records if line.levelno >= logging.WARNING]) == 1


async def test_a_right_that_is_taken_away_later_makes_every_job_ask_again(
    guard: RollbackGuard, server: ValkeyServer
) -> None:
    """What was known of the server before tells nothing of what it has become since."""
    assert await guard.run_once() < math.inf
    await refuse_info(server)

    assert await guard.run_once() == guard.until == math.inf
