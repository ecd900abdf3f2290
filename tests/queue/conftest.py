"""What the tests of the engine share: a queue of the test's own, on a clock that moves by hand or on the machine's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.site import Site
from taurine.queue import Queue, Worker
from taurine.queue.connection import Connection
from taurine.testing import TestClock


@pytest.fixture
async def site(prefix: str, redis_socket_url: str, raw: Redis) -> AsyncIterator[Site]:
    """A queue on the machine's clock."""
    site = Site("q", prefix, redis_socket_url, raw)
    yield site
    await site.close()


@pytest.fixture
def hand_clock() -> TestClock:
    """A clock that stands at 2027-01-15 08:00:00 UTC until it is advanced."""
    return TestClock(1_800_000_000.0)


@pytest.fixture
async def timed_site(prefix: str, redis_socket_url: str, raw: Redis, hand_clock: TestClock) -> AsyncIterator[Site]:
    """A queue whose time is `hand_clock`."""
    site = Site("q", prefix, redis_socket_url, raw, clock=hand_clock)
    yield site
    await site.close()


@pytest.fixture
async def connection(redis_socket_url: str) -> AsyncIterator[Connection]:
    connection = Connection(redis_socket_url)
    yield connection
    await connection.close()


@pytest.fixture
def clock() -> TestClock:
    """A clock that stands still at the machine's time until it is advanced."""
    return TestClock()


@pytest.fixture
def queue(connection: Connection, prefix: str, clock: TestClock) -> Queue:
    """The queue `q`, on `clock`."""
    return Queue("q", connection, prefix=prefix, clock=clock)


@pytest.fixture
def hand(connection: Connection, prefix: str, clock: TestClock) -> Worker:
    """A worker of `queue` without a handler: the test fetches and settles."""
    return Worker("q", None, connection, prefix=prefix, clock=clock)
