"""What the tests of jobs share: applications over a prefix of the test's own, on the shared server and on SQLite, or on
either database.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support.ledgers import Ledgers
from support.programs import Program
from taurine.app import Taurine


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database of this test alone."""
    return f"sqlite:///{tmp_path / 'taurine.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A database of this test alone, of the kind that the test's id shows; on PostgreSQL, where somebody plans them,
    with the tables.
    """
    # Asked for by name, so that the tests with SQLite start no server.
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_ledger_url")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """`ledger_url` in a test that has it, else SQLite."""
    return request.getfixturevalue("ledger_url" if "ledger_url" in request.fixturenames else "sqlite_url")


@pytest.fixture
async def app_factory(
    *, database_url: str, ledgers: Ledgers, prefix: str, redis_socket_url: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Taurine]]:
    """Make applications over the test's prefix: `app_factory(clock=clock)`; each is closed after the test.

    Takes the arguments of Taurine. Default: the shared server by its unix socket; `ledger_url` in a test that has it,
    else SQLite.
    """
    if database_url.startswith("sqlite"):
        await ledgers.sqlite(tmp_path / "taurine.db")
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


@pytest.fixture
async def worker_program(
    request: pytest.FixtureRequest, prefix: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Callable[[str], Program]]:
    """Start worker processes of the test's application: `worker_program("slow")`; the modes are in
    `support/executed_worker.py`.
    """
    database_url = request.getfixturevalue("ledger_url" if "ledger_url" in request.fixturenames else "sqlite_url")
    settings = {"redis_url": redis_url, "database_url": database_url, "prefix": prefix, "home": str(tmp_path)}
    programs: list[Program] = []

    def start(mode: str) -> Program:
        programs.append(Program(settings, mode))
        return programs[-1]

    yield start
    for program in programs:
        await program.end()
