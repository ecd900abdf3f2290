"""What the tests of the API share: an application over the shared server and a database of the test's own, and clients
that call its API in this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support.api import Client, declare_invites
from taurine.app import Taurine
from taurine.http import create_app
from taurine.ledger.database import open_database
from taurine.ledger.migrate import migrate

NOT_HURRIED = 30.0
"""Seconds that an answer may take: a busy machine is no outage."""


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
    """Make applications over the test's prefix: `app_factory(clock=clock)`; each is closed after the test.

    Takes the arguments of Taurine. Default: the shared server by its unix socket; `ledger_url` in a test that has it,
    else SQLite.
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
    """An application with the job types `invite.send` and `thing.keep`."""
    app = app_factory()
    declare_invites(app)
    return app


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., Client]]:
    """Make clients of an application's API: `client_of(app, access=Access(…), max_body=100)`; takes the options of
    `create_app`.
    """
    async with contextlib.AsyncExitStack() as stack:

        def make(app: Taurine, **options: object) -> Client:
            api = create_app(app, **({"answer_within": NOT_HURRIED} | options))  # pyright: ignore[reportArgumentType] - its own
            client = Client(api)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def client(app: Taurine, client_of: Callable[..., Client]) -> Client:
    """A caller from this machine, of an API without credentials: it may do everything."""
    return client_of(app)
