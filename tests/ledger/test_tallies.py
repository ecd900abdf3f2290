"""Counts by the minute and for all time, and the workers' rows, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from support.ledger import NOW, open_transaction, put_in, somebody_waits, start
from taurine.ledger.cancellations import expire_due, request_cancel
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.generations import Seen
from taurine.ledger.reconciliation import cancel_vanished
from taurine.ledger.tallies import (
    MINUTE,
    Kind,
    Outcome,
    TallyCount,
    add_outcomes,
    add_tallies,
    open_kinds,
    purge_tallies,
    tallies_since,
)
from taurine.ledger.workers import LoopTurn, WorkerRow, list_workers, purge_workers, write_worker


async def counted(database: Database, since: int | None = None) -> dict[tuple[str, str, str, int], int]:
    found = await database.read(lambda connection: tallies_since(connection, since))
    return {(one.queue, one.type, one.measure, one.bucket): one.number for one in found}


def one(count: int, measure: Any = "completed", bucket: int = 0) -> TallyCount:
    return TallyCount("mail", "mail.send", measure, bucket, count)


async def add(database: Database, at: int, *counts: TallyCount) -> None:
    await database.write(lambda connection: add_tallies(connection, counts, at))


async def test_counts_add_up_by_the_minute_and_for_all_time(database: Database) -> None:
    """SEED-154."""
    await add(database, NOW, one(2), one(5, "run", 250), one(0, "failed"))
    await add(database, NOW + 2 * MINUTE, one(3))
    assert await counted(database) == {("mail", "mail.send", "completed", 0): 5, ("mail", "mail.send", "run", 250): 5}
    assert await counted(database, NOW + 2 * MINUTE) == {("mail", "mail.send", "completed", 0): 3}
    assert await counted(database, NOW + 3 * MINUTE) == {}
    assert await counted(database, 0) == await counted(database), "a window never counts the row of all time"


async def test_processes_that_add_at_once_lose_no_count(database: Database, other_database: Database) -> None:
    both = [one(1), one(1, "failed"), one(1, "run", 5)]
    await asyncio.gather(
        *(add(chosen, NOW, *both[::order]) for chosen in (database, other_database) for order in (1, -1) * 5)
    )
    assert set((await counted(database)).values()) == {20}


async def test_minutes_go_by_hours_and_the_total_stays(database: Database) -> None:
    for minute in (0, 1, 59, 60, 200):
        await add(database, NOW + minute * MINUTE, one(1))
    steps = 0
    while (await database.write(lambda connection: purge_tallies(connection, NOW + 200 * MINUTE))).after is not None:
        steps += 1
    assert steps == 2, "an hour at a time, and nothing is looked for where there is nothing"
    assert await counted(database, 0) == {("mail", "mail.send", "completed", 0): 1}
    assert await counted(database) == {("mail", "mail.send", "completed", 0): 5}


# Ends without a worker of ours ----------------------------------------------------------------------------------------------------


async def cancelled_by_hand(database: Database) -> None:
    await database.write(lambda connection: request_cancel(connection, "a", NOW + 1, "enough"))


async def expired(database: Database) -> None:
    await database.write(lambda connection: expire_due(connection, NOW + 99, 10))


async def vanished(database: Database) -> None:
    await database.write(lambda connection: cancel_vanished(connection, [Seen("a", 0, 0)], NOW + 1, "gone"))


async def cancelled_as_it_was_to_be_retried(database: Database) -> None:
    await start(database, "a")
    assert not (await database.write(lambda connection: request_cancel(connection, "a", NOW + 2, "enough"))).at_once
    ending = Ending(id="a", fence=1, status="retrying", attempts=1, at=NOW + 3, started_at=NOW + 1, next_at=NOW + 9)
    assert await database.write(lambda connection: apply_endings(connection, [ending])) == ["cancelled"]
    assert await database.write(lambda connection: apply_endings(connection, [ending])) == ["cancelled"]


@pytest.mark.parametrize(
    ("bring_about", "outcome"),
    [
        (cancelled_by_hand, "cancelled"),
        (expired, "expired"),
        (vanished, "cancelled"),
        (cancelled_as_it_was_to_be_retried, "cancelled"),
    ],
)
async def test_an_end_without_a_worker_is_counted_where_it_is_written(
    database: Database, bring_about: Callable[[Database], Awaitable[None]], outcome: str
) -> None:
    await put_in(database, "a", expires_at=NOW + 50)
    await bring_about(database)
    assert await counted(database) == {("mail", "mail.send", outcome, 0): 1}


async def test_what_two_settle_is_counted_by_the_first(database: Database) -> None:
    await put_in(database, "a", "b")
    await database.write(lambda connection: request_cancel(connection, "b", NOW + 1, None))
    kinds = await database.write(lambda connection: open_kinds(connection, ["a", "b", "c"]))
    assert kinds == {"a": ("mail", "mail.send")}
    twice: list[tuple[Kind, Outcome]] = [(kinds["a"], "failed")] * 2
    await database.write(lambda connection: add_outcomes(connection, twice, NOW))
    assert (await counted(database))["mail", "mail.send", "failed", 0] == 2


# Workers --------------------------------------------------------------------------------------------------------------------------


def worker(**values: Any) -> WorkerRow:
    usual: dict[str, Any] = {
        "id": "w1",
        "name": "web-1",
        "host": "web",
        "pid": 7,
        "version": "0.1.0",
        "queues": ["mail", "péage"],
        "slots": 5,
        "busy": 2,
        "leases_lost": 0,
        "loops": {"outbox": LoopTurn(NOW, NOW + 10), "full look": LoopTurn(NOW, None)},
        "started_at": NOW,
        "seen_at": NOW,
    }
    return WorkerRow(**{**usual, **values})


async def test_a_worker_tells_of_itself_in_one_row(database: Database) -> None:
    for row in (worker(), worker(id="w2", seen_at=NOW + 5), worker(busy=0, seen_at=NOW + 9, started_at=NOW + 9)):
        await database.write(lambda connection, row=row: write_worker(connection, row))
    assert await database.read(list_workers) == [worker(busy=0, seen_at=NOW + 9), worker(id="w2", seen_at=NOW + 5)]


async def test_what_a_worker_told_already_is_not_written_again(database: Database) -> None:
    """Nor what it told before."""
    written = [
        await database.write(lambda connection, at=at: write_worker(connection, worker(seen_at=NOW + at, busy=at)))
        for at in (3, 3, 1, 4)
    ]
    assert written == [True, False, False, True]
    assert await database.read(list_workers) == [worker(seen_at=NOW + 4, busy=4)]


async def test_a_first_report_that_is_sent_twice_at_once_is_counted_once(
    postgres_ledger: Database, postgres_ledger_url: str
) -> None:
    """Cut off while it was being committed, and sent again: there is no row yet that could be locked."""

    def send(connection: Connection) -> bool:
        if not write_worker(connection, worker()):
            return False
        add_tallies(connection, [one(7)], NOW)
        return True

    async with open_transaction(postgres_ledger_url) as first:
        assert await first.run_sync(send)
        again = asyncio.create_task(postgres_ledger.write(send))
        await somebody_waits(postgres_ledger_url)
    assert not await again
    assert await counted(postgres_ledger) == {("mail", "mail.send", "completed", 0): 7}


async def test_workers_go_a_while_after_their_last_word(database: Database) -> None:
    for row in (worker(), worker(id="w2", seen_at=NOW + 99), worker(id="w3", seen_at=NOW + 99, stopped_at=NOW + 99)):
        await database.write(lambda connection, row=row: write_worker(connection, row))
    assert (await database.write(lambda connection: purge_workers(connection, NOW + 50))).removed == 1
    assert {row.id for row in await database.read(list_workers)} == {"w2", "w3"}
