"""What every fault test has: a history to judge; and, where there are records, a ledger of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.history import History
from support.ledgers import Ledgers


@pytest.fixture
def history(tmp_path: Path) -> History:
    """The record of this test, in a directory of its own; worker processes write into it too."""
    return History(tmp_path)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database of this test alone."""
    return f"sqlite:///{tmp_path / 'taurine.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A database of this test alone, of the kind that the test's id shows; on PostgreSQL with the tables."""
    # Asked for by name, so that the tests with SQLite start no server.
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_ledger_url")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """`ledger_url` in a test that has it, else SQLite."""
    return request.getfixturevalue("ledger_url" if "ledger_url" in request.fixturenames else "sqlite_url")


@pytest.fixture
async def ledger(database_url: str, ledgers: Ledgers, tmp_path: Path) -> str:
    """`database_url`, with the tables."""
    if database_url.startswith("sqlite"):
        await ledgers.sqlite(tmp_path / "taurine.db")
    return database_url
