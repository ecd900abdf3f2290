"""The outbox's statements: which records need a dispatch, in which order, and what a stamp says (P2, F31)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from sqlalchemy import Connection, event, func, text

from support.ledger import NOW, complete, fail, new_record, open_transaction, put_in, record_at, start
from taurine.ledger.database import Database
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.outbox import (
    Dispatched,
    OutboxLag,
    _undispatched_of,
    outbox_lag,
    stamp_dispatched,
    take_undispatched,
)
from taurine.ledger.records import insert_records
from taurine.ledger.rows import is_postgresql


async def _undispatched(database: Database, *queues: str, limit: int = 100, until: int = NOW + 1000) -> list[str]:
    records = await database.read(lambda connection: take_undispatched(connection, queues, limit, until))
    return [record.id for record in records]


async def _stamp(database: Database, *items: Dispatched) -> None:
    await database.write(lambda connection: stamp_dispatched(connection, items))


async def test_open_records_without_a_stamp_are_taken_oldest_first(database: Database) -> None:
    await put_in(database, "late", created_at=NOW + 9)
    await put_in(database, "b", "a", created_at=NOW + 5)
    await put_in(database, "first", created_at=NOW)
    await put_in(database, "elsewhere", queue="sms")

    assert await _undispatched(database, "mail") == ["first", "a", "b", "late"]
    assert await _undispatched(database, "mail", until=NOW + 5) == ["first", "a", "b"]
    assert await _undispatched(database, "mail", limit=2) == ["first", "a"]
    assert await _undispatched(database) == []


async def test_a_long_backlog_of_one_queue_does_not_keep_another_waiting(database: Database) -> None:
    await put_in(database, *(f"m{number}" for number in range(10)))
    await put_in(database, "s1", queue="sms", created_at=NOW + 100)
    await put_in(database, "s0", queue="sms", created_at=NOW - 1)

    assert await _undispatched(database, "mail", "sms", limit=3) == ["s0", "m0", "m1", "m2", "s1"]


async def test_a_look_takes_so_many_bytes_and_one_record_at_least(database: Database) -> None:
    """Payloads may have a megabyte each: 500 of them are not to be in memory at once."""
    large = '{"text":"' + "x" * 989 + '"}'  # 1,000 characters
    await put_in(database, *(f"m{number}" for number in range(9)), payload=large)
    await put_in(database, "s0", "s1", queue="sms", payload=large, created_at=NOW + 1)

    async def taken(most_bytes: int) -> list[str]:
        records = await database.read(
            lambda c: take_undispatched(c, ["mail", "sms"], 5, NOW + 9, most_bytes=most_bytes)
        )
        return [record.id for record in records]

    assert await taken(100_000) == ["m0", "m1", "m2", "m3", "m4", "s0", "s1"]
    assert await taken(4500) == ["m0", "m1", "s0", "s1"]
    assert await taken(2000) == ["m0", "s0"]
    assert await taken(10) == ["m0", "s0"], "one that is larger than all that is allowed must not wait for ever"


async def test_a_saved_state_counts_as_well(database: Database) -> None:
    await put_in(database, "a", "b", "c")
    await database.write(lambda c: c.execute(text("UPDATE taurine_job SET state = :state"), {"state": "x" * 1000}))

    records = await database.read(lambda c: take_undispatched(c, ["mail"], 5, NOW + 9, most_bytes=2500))

    assert [record.id for record in records] == ["a", "b"]


async def test_a_look_is_one_statement(database: Database) -> None:
    await put_in(database, "a", "b")
    statements: list[str] = []

    def look(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement))
        take_undispatched(connection, ["mail", "sms"], 5, NOW + 9)

    await database.read(look)

    assert len(statements) == 1


async def test_jobs_that_the_caller_cannot_hand_over_are_not_in_the_way(database: Database) -> None:
    await put_in(database, *(f"theirs{number}" for number in range(5)), type="sms.send")
    await put_in(database, "mine", created_at=NOW + 100)

    records = await database.read(lambda c: take_undispatched(c, ["mail"], 3, NOW + 100, types=["mail.send"]))
    assert [record.id for record in records] == ["mine"]


async def test_stamped_and_finished_records_are_not_taken(database: Database) -> None:
    await put_in(database, "stamped", "failed", "completed", "running", "open")
    await _stamp(database, Dispatched("stamped", 0, NOW + 1))
    await fail(database, "failed")
    await complete(database, "completed")
    await start(database, "running")

    assert await _undispatched(database, "mail") == ["open", "running"]


async def test_only_the_stamp_of_the_same_generation_counts(database: Database) -> None:
    """A relay that was slow stamps a job that runs again meanwhile: the new generation still needs its dispatch."""
    await put_in(database, "j")
    await fail(database, "j")
    await database.write(
        lambda connection: start_generation(connection, [NewGeneration(id="j", at=NOW, action="retry")])
    )

    await _stamp(database, Dispatched("j", 0, NOW + 9), Dispatched("unknown", 0, NOW))
    assert await _undispatched(database, "mail") == ["j"]

    await _stamp(database, Dispatched("j", 1, NOW + 10), Dispatched("j", 1, NOW + 11))
    assert await _undispatched(database, "mail") == []
    record = await record_at(database, "j")
    assert record.dispatched_at is not None
    first_stamp = record.dispatched_at

    await _stamp(database, Dispatched("j", 1, NOW + 99))
    assert (await record_at(database, "j")).dispatched_at == first_stamp


async def test_two_relays_keep_the_order_of_each_queue_and_create_nothing_twice(
    database: Database, other_database: Database, seed: int
) -> None:
    """F31: both take without locks, add idempotently, and stamp; what was added first, by whomever, is in order."""
    chance = random.Random(seed)
    jobs = [new_record(f"j{n:03}", queue=f"q{n % 3}", created_at=NOW + n) for n in range(120)]
    await database.write(lambda connection: insert_records(connection, jobs))
    added: dict[str, list[str]] = {"q0": [], "q1": [], "q2": []}
    seen = set[str]()

    async def relay(view: Database) -> None:
        while records := await view.read(lambda c: take_undispatched(c, list(added), 7, NOW + 1000)):
            for record in records:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                if record.id not in seen:  # adding is idempotent by id
                    seen.add(record.id)
                    added[record.queue].append(record.id)
            chance.shuffle(records)
            await _stamp(view, *(Dispatched(record.id, record.generation, NOW + 2000) for record in records))

    async with asyncio.timeout(30), asyncio.TaskGroup() as relays:
        relays.create_task(relay(database))
        relays.create_task(relay(other_database))

    assert {queue: [job.id for job in jobs if job.queue == queue] for queue in added} == added


async def test_a_stamp_waits_for_nobody(postgres_ledger: Database, postgres_ledger_url: str) -> None:
    """A worker may be writing the outcome of the very job that is stamped; on PostgreSQL the stamp passes it over.

    SQLite has one writer at a time, so nothing to pass over.
    """
    await put_in(postgres_ledger, "held", "free")
    async with open_transaction(postgres_ledger_url) as worker:
        await worker.execute(text("UPDATE taurine_job SET worker = 'w' WHERE id = 'held'"))

        async with asyncio.timeout(5):
            await _stamp(postgres_ledger, Dispatched("held", 0, NOW), Dispatched("free", 0, NOW))

    assert await _undispatched(postgres_ledger, "mail") == ["held"]


async def test_lag_tells_how_many_wait_and_since_when(database: Database) -> None:
    async def lag(*queues: str) -> OutboxLag:
        return await database.read(lambda connection: outbox_lag(connection, queues, NOW + 500))

    assert await lag("mail") == OutboxLag(0, None, 0)
    await put_in(database, "a", created_at=NOW + 100)
    await put_in(database, "b", created_at=NOW + 200)
    await put_in(database, "c", queue="sms", created_at=NOW + 900)

    assert await lag("mail") == OutboxLag(2, NOW + 100, 400)
    assert await lag("mail", "sms") == OutboxLag(3, NOW + 100, 400)
    assert await lag("sms") == OutboxLag(1, NOW + 900, 0)
    assert await lag() == OutboxLag(0, None, 0)


async def test_the_outbox_reads_its_own_index(database: Database) -> None:
    """With many finished records the outbox must not read them."""

    def plan(connection: Connection) -> str:
        explain = "EXPLAIN" if is_postgresql(connection) else "EXPLAIN QUERY PLAN"
        if is_postgresql(connection):
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        some = _undispatched_of("mail", NOW, 10, ["mail.send"], measure=func.length, most_bytes=1000)
        query: Any = some.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        return "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {query}"))

    assert "taurine_job_undispatched" in await database.read(plan)
