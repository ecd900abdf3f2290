"""Waiting for records to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.eventually import eventually
from support.ledger import complete, put_in
from support.postgres import PostgresServer
from taurine.clock import SystemClock
from taurine.errors import LedgerRefused, LedgerUnavailable
from taurine.jobs.enqueue.watching import RecordWatch
from taurine.ledger.database import Database, ResultT, Work, open_database
from taurine.ledger.migrate import migrate


class Counting:
    """A database that counts its reads, and fails them as it is told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.url = database.url
        self.reads = 0
        self.failure: Exception | None = None

    async def read(self, work: Work[ResultT]) -> ResultT:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return await self._database.read(work)

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await self._database.write(work)

    async def write_at_once(self, work: Work[ResultT]) -> ResultT:
        return await self._database.write_at_once(work)

    def abandon(self) -> None:
        self._database.abandon()

    async def close(self) -> None:
        await self._database.close()


@asynccontextmanager
async def _watching(url: str) -> AsyncGenerator[tuple[RecordWatch, Counting]]:
    database = Counting(open_database(url))
    await migrate(database)
    watch = RecordWatch(database, SystemClock())
    try:
        yield watch, database
    finally:
        await watch.close()
        await database.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'taurine.db'}"


async def test_waits_of_one_process_share_their_queries(url: str) -> None:
    ids = [f"job-{number}" for number in range(200)]
    async with _watching(url) as (watch, database):
        await put_in(database, *ids)
        waits = [asyncio.create_task(watch.wait(job_id, 20)) for job_id in ids]
        await eventually(lambda: database.reads > len(ids) + 3, 10)
        before = database.reads
        await asyncio.sleep(0.6)  # the time that is measured, not a wait
        assert database.reads - before <= 60, "each wait asks for itself"
        for job_id in ids:
            await complete(database, job_id)

        records = await asyncio.gather(*waits)

    assert {record.status for record in records if record} == {"completed"}


async def test_a_wait_ends_at_its_time(url: str) -> None:
    async with _watching(url) as (watch, database):
        await put_in(database, "job")

        record = await watch.wait("job", 0.05)

        assert record is not None
        assert record.status == "queued"
        assert await watch.wait("none", 0.05) is None


async def test_waits_end_when_the_watch_is_closed(url: str) -> None:
    async with _watching(url) as (watch, database):
        await put_in(database, "job")
        wait = asyncio.create_task(watch.wait("job", None))
        await eventually(lambda: database.reads > 3)

        await watch.close()

        with pytest.raises(LedgerUnavailable, match="closed"):
            await asyncio.wait_for(wait, 5)


async def test_an_outage_is_waited_out(url: str) -> None:
    async with _watching(url) as (watch, database):
        await put_in(database, "job")
        wait = asyncio.create_task(watch.wait("job", 20))
        await eventually(lambda: database.reads > 3)
        database.failure = LedgerUnavailable("away")
        seen = database.reads
        await eventually(lambda: database.reads > seen + 1)
        database.failure = None
        await complete(database, "job")

        record = await asyncio.wait_for(wait, 10)

    assert record is not None
    assert record.status == "completed"


async def test_an_outage_longer_than_the_wait_is_told(url: str) -> None:
    async with _watching(url) as (watch, database):
        database.failure = LedgerUnavailable("away")
        with pytest.raises(LedgerUnavailable, match="away"):
            await watch.wait("job", 0.3)


async def test_whoever_waits_hears_of_an_error_that_does_not_pass(url: str) -> None:
    async with _watching(url) as (watch, database):
        await put_in(database, "job")
        wait = asyncio.create_task(watch.wait("job", None))
        await eventually(lambda: database.reads > 3)

        database.failure = LedgerRefused("no permission")

        with pytest.raises(LedgerRefused, match="no permission"):
            await asyncio.wait_for(wait, 5)


async def test_a_restart_of_postgresql_does_not_hang_a_wait(postgres_factory: Callable[..., PostgresServer]) -> None:
    server = postgres_factory()
    name = await server.create_database()
    async with _watching(server.url_of(name)) as (watch, database):
        await put_in(database, "job")
        wait = asyncio.create_task(watch.wait("job", None))
        await eventually(lambda: database.reads > 3)

        server.restart()

        async def completed() -> bool:
            try:
                return await complete(database, "job") is None
            except LedgerUnavailable:
                return False

        await eventually(completed, 20, every=0.2)
        record = await asyncio.wait_for(wait, 15)
    assert record is not None
    assert record.status == "completed"
