"""Joining the caller's transaction: a job is there exactly if the caller's own rows are (F29, section 4 of the life of
a job).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from support.desk import declare_triage, recorded, ticket
from support.eventually import eventually
from taurine import Taurine
from taurine.errors import DuplicateJob, InvalidOption, LedgerUnavailable
from taurine.queue import Queue

order = Table("shop_order", MetaData(), Column("id", Integer, primary_key=True))


@pytest.fixture
async def waiting(redis_socket_url: str, prefix: str) -> AsyncIterator[Callable[[], Any]]:
    """How many tickets wait in the queue."""
    async with Queue("ticket-triage", redis_socket_url, prefix=prefix) as queue:

        async def count() -> int:
            return (await queue.counts())["waiting"]

        yield count


@pytest.fixture
async def sessions(app: Taurine, database_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions of the caller's own on the ledger's database, with a table of orders."""
    await app.get("none")  # the tables are there
    engine = create_async_engine(database_url.replace("sqlite://", "sqlite+aiosqlite://"))
    async with engine.begin() as connection:
        await connection.run_sync(order.metadata.create_all)
    yield async_sessionmaker(engine)
    await engine.dispose()


@pytest.fixture
async def plain_sessions(app: Taurine, sqlite_url: str) -> AsyncIterator[sessionmaker[Session]]:
    await app.get("none")  # the tables are there
    engine = create_engine(sqlite_url)
    order.metadata.create_all(engine)
    yield sessionmaker(engine)
    engine.dispose()


async def _delivered(waiting: Callable[[], Any], expected: int) -> None:
    async def there() -> bool:
        found = await waiting()
        assert found == expected, f"{found} wait"
        return True

    await eventually(there, 5, f"expected {expected} jobs in the queue")


# AsyncSession, on both databases --------------------------------------------------------------------------------------------


async def test_a_commit_brings_both(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str
) -> None:
    """The job is not there before the commit, and in the queue right after it."""
    triage = declare_triage(app)
    async with sessions() as session:
        await session.execute(insert(order).values(id=1))
        handle = await triage.enqueue(ticket(1), session=session)
        many = await triage.enqueue_many([ticket(2), ticket(3)], session=session)
        assert [one.status for one in (handle, *many)] == ["queued"] * 3
        assert await app.get(handle.id) is None
        assert await waiting() == 0
        await session.commit()
        committed = time.monotonic()
    await _delivered(waiting, 3)
    assert (
        time.monotonic() - committed < 4
    )  # what the outbox finds by itself is a second old at least; a slow machine is forgiven the rest
    assert (await handle.record()).status == "queued"


async def test_a_rollback_leaves_nothing(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str
) -> None:
    """F29."""
    triage = declare_triage(app)
    async with sessions() as session:
        await triage.enqueue(ticket(1), session=session, tags=["a"], user="ann", idempotency_key="k")
        await session.rollback()
    assert await recorded(app) == []
    again = await triage.enqueue(ticket(1), idempotency_key="k")
    assert not again.duplicate
    assert await waiting() == 1


async def test_a_list_that_is_the_first_of_its_transaction(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], ledger_url: str
) -> None:
    """SQLite's driver begins at the first write: a savepoint before that would be a transaction of its own, and its end
    a commit.
    """
    triage = declare_triage(app)
    async with sessions() as session:
        await triage.enqueue_many([ticket(1), ticket(2)], session=session)
        await session.rollback()
    assert await recorded(app) == []


async def test_phantoms_and_missing_jobs(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str, seed: int
) -> None:
    """F29: 60 transactions, of which a third is rolled back in one way or another: phantom 0, missing 0."""
    triage, chance = declare_triage(app), random.Random(seed)
    for number in range(60):
        fate = chance.choice(["commit", "commit", "rollback", "error", "savepoint"])
        try:
            async with sessions() as session, session.begin():
                await session.execute(insert(order).values(id=number))
                await triage.enqueue(ticket(number), session=session)
                if fate == "rollback":
                    await session.rollback()
                elif fate == "error":
                    raise RuntimeError(fate)
        except RuntimeError:
            pass
        if fate == "savepoint":
            async with sessions() as session, session.begin():
                savepoint = await session.begin_nested()
                await triage.enqueue(ticket(1000 + number), session=session)
                await savepoint.rollback()
    async with sessions() as session:
        orders = {str(one) for one in await session.scalars(select(order.c.id))}
    assert {record.payload["ticket_id"] for record in await recorded(app)} == orders
    await _delivered(waiting, len(orders))


async def test_a_savepoint_decides_for_what_is_in_it(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str
) -> None:
    triage = declare_triage(app)
    async with sessions() as session, session.begin():
        await triage.enqueue(ticket(1), session=session)
        async with session.begin_nested():
            await triage.enqueue(ticket(2), session=session)
            inner = await session.begin_nested()
            await triage.enqueue(ticket(3), session=session)
            await inner.rollback()
    assert sorted(record.payload["ticket_id"] for record in await recorded(app)) == ["1", "2"]
    await _delivered(waiting, 2)


async def test_a_released_savepoint_tells_nobody(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction around it may still be rolled back; and its commit must be told of."""
    triage, told = declare_triage(app), list[str]()
    monkeypatch.setattr(app._backend().enqueuer, "_undelivered", lambda: told.append("told"))
    async with sessions() as session:
        async with session.begin_nested():
            await triage.enqueue(ticket(1), session=session)
        await asyncio.sleep(0)
        assert told == []
        await session.commit()
        await asyncio.sleep(0)
        assert told == ["told"]
        await session.execute(select(order))
        await session.commit()
        await asyncio.sleep(0)
    assert told == ["told"]


async def test_a_session_that_is_used_again_is_hooked_once(
    app: Taurine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """Hooks of a hundred transactions would slow the session down and keep their jobs in memory."""
    triage = declare_triage(app)
    counts: list[int] = []
    async with sessions() as session:
        for number in range(5):
            await triage.enqueue(ticket(number), session=session)
            await (session.commit() if number % 2 else session.rollback())
            dispatch = session.sync_session.dispatch
            counts.append(len(dispatch.after_commit) + len(dispatch.after_transaction_end))
        (hook,) = session.sync_session.info.values()
        assert hook._told == {}
    assert counts == [counts[0]] * 5


async def test_many_that_fail_leave_the_callers_own_rows(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str
) -> None:
    """The caller may catch the error and commit: none of the list is there then."""
    triage = declare_triage(app)
    await triage.enqueue(ticket(2))
    async with sessions() as session, session.begin():
        await session.execute(insert(order).values(id=1))
        with pytest.raises(DuplicateJob):
            await triage.enqueue_many([ticket(1), ticket(2)], session=session, on_duplicate="error")
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(order)) == 1
    assert [record.payload["ticket_id"] for record in await recorded(app)] == ["2"]
    assert await waiting() == 1


async def test_a_duplicate_and_a_scoped_session(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any, ledger_url: str
) -> None:
    triage = declare_triage(app)
    await triage.enqueue(ticket(1))
    scoped = async_scoped_session(sessions, asyncio.current_task)
    assert (await triage.enqueue(ticket(1), session=scoped)).duplicate
    assert not (await triage.enqueue(ticket(2), session=scoped)).duplicate
    await scoped.commit()
    await scoped.remove()
    await _delivered(waiting, 2)


async def test_a_loop_that_is_closed_by_then_does_not_fail_the_commit(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    triage = declare_triage(app)
    monkeypatch.setattr(app._backend().enqueuer, "_loop", closed)
    async with sessions() as session, session.begin():
        await triage.enqueue(ticket(1), session=session)
    assert len(await recorded(app)) == 1


# Session, in a thread -------------------------------------------------------------------------------------------------------


async def test_a_session_in_a_thread(app: Taurine, plain_sessions: sessionmaker[Session], waiting: Any) -> None:
    triage = declare_triage(app)

    def request(number: int, *, commit: bool) -> None:
        with plain_sessions() as session:
            session.execute(insert(order).values(id=number))
            triage.enqueue_sync(ticket(number), session=session)
            triage.enqueue_many_sync([ticket(number + 100), ticket(number + 200)], session=session)
            if commit:
                session.commit()

    await asyncio.to_thread(request, 1, commit=True)
    await asyncio.to_thread(request, 2, commit=False)
    assert sorted(record.payload["ticket_id"] for record in await recorded(app)) == ["1", "101", "201"]
    await _delivered(waiting, 3)


async def test_a_session_on_the_loop(app: Taurine, plain_sessions: sessionmaker[Session], waiting: Any) -> None:
    triage = declare_triage(app)
    with plain_sessions() as session:
        await triage.enqueue(ticket(1), session=session)
        session.commit()
    await _delivered(waiting, 1)


async def test_a_scoped_session_in_a_thread(app: Taurine, plain_sessions: sessionmaker[Session], waiting: Any) -> None:
    """What Flask-SQLAlchemy calls `db.session`."""
    triage, db = declare_triage(app), scoped_session(plain_sessions)

    def request() -> None:
        triage.enqueue_sync(ticket(1), session=db)
        db.commit()
        db.remove()

    await asyncio.to_thread(request)
    await _delivered(waiting, 1)


async def test_an_async_session_is_refused_without_its_loop(
    app: Taurine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    triage = declare_triage(app)
    async with sessions() as session:
        with pytest.raises(InvalidOption, match="its event loop"):
            await asyncio.to_thread(triage.enqueue_sync, ticket(), session=session)


# SQLite's one write lock ----------------------------------------------------------------------------------------------------


async def test_the_callers_lock_is_no_deadlock(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], waiting: Any
) -> None:
    """The caller's transaction holds the write lock; the record goes through it, and everybody else waits for its end
    and no longer.
    """
    triage = declare_triage(app)
    async with sessions() as session:
        await session.execute(insert(order).values(id=1))
        handle = await asyncio.wait_for(triage.enqueue(ticket(1), session=session), 2)
        other = asyncio.create_task(triage.enqueue(ticket(2)))
        done, _ = await asyncio.wait({other}, timeout=0.1)
        assert not done
        await session.commit()
    assert not (await other).duplicate
    assert (await handle.record()).status == "queued"
    await _delivered(waiting, 2)


async def test_two_transactions_cannot_look_at_the_same_time(
    app: Taurine, sessions: async_sessionmaker[AsyncSession], plain_sessions: sessionmaker[Session]
) -> None:
    """A transaction of SQLite's that has only read takes no lock: the lock is taken before the look for a duplicate."""
    triage = declare_triage(app)
    async with sessions() as session:
        await triage.enqueue_many([ticket(1)], session=session)
        with plain_sessions() as other:
            other.connection().exec_driver_sql("PRAGMA busy_timeout = 0")
            with pytest.raises(LedgerUnavailable):
                await triage.enqueue(ticket(1), session=other)
            other.rollback()
        await session.commit()
    assert len(await recorded(app)) == 1


async def test_a_transaction_that_read_what_has_changed_since_is_told_to_repeat(
    app: Taurine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    triage = declare_triage(app)
    async with sessions() as session:
        await session.execute(text("BEGIN"))
        await session.execute(select(func.count()).select_from(text("taurine_job")))
        await triage.enqueue(ticket(1))
        with pytest.raises(LedgerUnavailable) as refusal:
            await triage.enqueue(ticket(2), session=session)
        assert refusal.value.retryable
        await session.rollback()
    assert len(await recorded(app)) == 1
