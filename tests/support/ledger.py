"""A ledger for a test: records as short as they can be, and the statements called one at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from support.eventually import eventually
from taurine.ledger.completions import Completion, apply_completions
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import Granted
from taurine.ledger.records import JobRecord, NewRecord, get_record, insert_records
from taurine.ledger.starts import Start, apply_starts

__all__ = [
    "NOW",
    "complete",
    "fail",
    "new_record",
    "open_transaction",
    "put_in",
    "record_at",
    "somebody_waits",
    "start",
]

NOW = 1_800_000_000_000
"""A time, ms since the epoch."""


def new_record(job_id: str, **values: Any) -> NewRecord:
    """A record to put in; `values` are what the test is about."""
    usual: dict[str, Any] = {
        "type": "mail.send",
        "queue": "mail",
        "payload": '{"to":"a"}',
        "created_at": NOW,
        "max_attempts": 3,
    }
    return NewRecord(id=job_id, **{**usual, **values})


async def put_in(database: Database, *job_ids: str, **values: Any) -> None:
    """Put records in, as an enqueue does."""
    await database.write(
        lambda connection: insert_records(connection, [new_record(job_id, **values) for job_id in job_ids])
    )


async def record_at(database: Database, job_id: str) -> JobRecord:
    """The record of this id, which is there."""
    record = await database.read(lambda connection: get_record(connection, job_id))
    assert record is not None, f"no record of {job_id!r}"
    return record


async def start(database: Database, job_id: str, fence: int = 1) -> Granted:
    item = Start(id=job_id, fence=fence, attempts=fence & 0xFFFFFFFF, worker="w", started_at=NOW + 1, at=NOW + 1)
    return (await database.write(lambda connection: apply_starts(connection, [item])))[0]


async def complete(database: Database, job_id: str, fence: int = 1, at: int = NOW + 5) -> Granted:
    item = Completion(id=job_id, fence=fence, attempts=1, output='"done"', worker="w", started_at=NOW + 1, at=at)
    return (await database.write(lambda connection: apply_completions(connection, [item])))[0]


async def fail(database: Database, job_id: str, fence: int = 1, **values: Any) -> Granted:
    """The last attempt of a job fails: its record says so, and there is a dead letter."""
    usual: dict[str, Any] = {
        "status": "failed",
        "attempts": 3,
        "at": NOW + 5,
        "worker": "w",
        "started_at": NOW + 1,
        "error": '{"type":"ValueError","message":"no"}',
        "error_fingerprint": "f1",
        "dead_letter": "exhausted",
    }
    item = Ending(id=job_id, fence=fence, **{**usual, **values})
    return (await database.write(lambda connection: apply_endings(connection, [item])))[0]


@asynccontextmanager
async def open_transaction(postgres_url: str) -> AsyncGenerator[AsyncConnection]:
    """A transaction of somebody else, which holds what it has written until the block ends, and is committed then."""
    engine = create_async_engine(make_url(postgres_url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def somebody_waits(postgres_url: str) -> None:
    """Return when the server says that a connection to this database waits for a lock of another."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def waits() -> bool:
        # A transaction sees the activity as it was when it first asked.
        async with open_transaction(postgres_url) as connection:
            return bool((await connection.execute(waiting)).scalar_one())

    await eventually(waits, 10, "nobody waits for a lock")
