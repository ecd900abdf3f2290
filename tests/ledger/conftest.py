"""Fixtures of the ledger's tests: one suite, over each database that the ledger can live in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.ledgers import Ledgers
from taurine.ledger.database import Database, open_database
from taurine.ledger.migrate import migrate


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A database of this test alone with the tables, of the kind that the test's id shows."""
    # Asked for by name, so that the tests with SQLite start no server.
    return request.getfixturevalue("sqlite_ledger_url" if request.param == "sqlite" else "postgres_ledger_url")


@pytest.fixture
async def sqlite_ledger_url(ledgers: Ledgers, tmp_path: Path) -> str:
    return await ledgers.sqlite(tmp_path / "taurine.db")


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[Database]:
    """The ledger of this test alone, with its tables."""
    opened = open_database(ledger_url)
    await migrate(opened)  # for the tests of migrations, whose `ledger_url` is empty
    yield opened
    await opened.close()


@pytest.fixture
async def other_database(ledger_url: str, database: Database) -> AsyncIterator[Database]:
    """The same ledger, as another process sees it."""
    opened = open_database(ledger_url)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_ledger(postgres_ledger_url: str) -> AsyncIterator[Database]:
    """The ledger of a test about locks that SQLite, with its one writer, does not have."""
    opened = open_database(postgres_ledger_url)
    yield opened
    await opened.close()
