"""Fixtures of the instruments' tests: applications over the test's prefix, as the tests of jobs have them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from taurine.app import Taurine
from taurine.ledger.database import open_database
from taurine.ledger.migrate import migrate


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database of this test alone."""
    return f"sqlite:///{tmp_path / 'taurine.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """An empty database of this test alone, of the kind that the test's id shows."""
    # Asked for by name, so that the tests with SQLite start no server.
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """`ledger_url` in a test that has it, else SQLite."""
    return request.getfixturevalue("ledger_url" if "ledger_url" in request.fixturenames else "sqlite_url")


@pytest.fixture
async def app_factory(
    database_url: str, prefix: str, redis_socket_url: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Taurine]]:
    """Make applications: `app_factory(clock=clock)`; each is closed after the test. Takes the arguments of Taurine.

    Default: `ledger_url` in a test that has it, else SQLite.
    """
    if database_url.startswith("postgresql"):  # whose tables somebody plans; SQLite gets them at the first call
        database = open_database(database_url)
        await migrate(database)
        await database.close()
    async with contextlib.AsyncExitStack() as stack:

        def make(name: str = "test", **options: object) -> Taurine:
            usual: dict[str, object] = {
                "redis_url": redis_socket_url,
                "database_url": database_url,
                "home": tmp_path,
                "prefix": prefix,
            }
            app = Taurine(name, **(usual | options))  # pyright: ignore[reportArgumentType] - they are Taurine's own
            stack.push_async_callback(app.close)
            return app

        yield make


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    """An application over the shared server and SQLite."""
    return app_factory()
