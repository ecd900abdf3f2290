"""Cursors of event streams: kept for the next process, and never turned back."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from support.ledger import NOW, open_transaction, somebody_waits
from taurine.errors import InvalidOption
from taurine.ledger.cursors import advance_cursor, read_cursor
from taurine.ledger.database import Database


async def _advance(database: Database, queue: str, last_id: str) -> str:
    return await database.write(lambda connection: advance_cursor(connection, queue, last_id, NOW))


async def test_each_queue_has_its_own(database: Database) -> None:
    assert await database.read(lambda connection: read_cursor(connection, "mail")) is None

    assert await _advance(database, "mail", "1700000000000-0") == "1700000000000-0"
    assert await _advance(database, "sms", "1600000000000-5") == "1600000000000-5"

    assert await database.read(lambda connection: read_cursor(connection, "mail")) == "1700000000000-0"


async def test_a_cursor_never_goes_back(database: Database) -> None:
    """Ids are numbers: as text 9 comes after 10."""
    for last_id, standing in (
        ("5-9", "5-9"),
        ("5-10", "5-10"),
        ("5-9", "5-10"),
        ("10-0", "10-0"),
        ("9-99", "10-0"),
        ("10-0", "10-0"),
    ):
        assert await _advance(database, "mail", last_id) == standing


async def test_two_followers_at_once_leave_the_later_position(database: Database, other_database: Database) -> None:
    positions = [f"{number}-0" for number in range(1, 31)]

    await asyncio.gather(
        *(
            _advance((database, other_database)[number % 2], "mail", last_id)
            for number, last_id in enumerate(positions)
        ),
    )

    assert await database.read(lambda connection: read_cursor(connection, "mail")) == "30-0"


async def test_a_follower_waits_for_the_one_that_is_ahead(postgres_ledger: Database, postgres_ledger_url: str) -> None:
    """What it compares with is what the other commits, not what it read before."""
    await _advance(postgres_ledger, "mail", "1-0")
    async with open_transaction(postgres_ledger_url) as ahead:
        await ahead.execute(text("SELECT * FROM taurine_queue_cursor FOR UPDATE"))
        behind = asyncio.create_task(_advance(postgres_ledger, "mail", "20-0"))
        await somebody_waits(postgres_ledger_url)
        await ahead.execute(text("UPDATE taurine_queue_cursor SET last_id = '30-0'"))

    assert await behind == "30-0"
    assert await postgres_ledger.read(lambda connection: read_cursor(connection, "mail")) == "30-0"


@pytest.mark.parametrize("last_id", ["", "5", "5-", "-5", "a-b", "5-1-2", "$"])
async def test_what_is_no_event_id_is_refused(database: Database, last_id: str) -> None:
    with pytest.raises(InvalidOption, match="event"):
        await _advance(database, "mail", last_id)
