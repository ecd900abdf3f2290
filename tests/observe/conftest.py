"""Fixtures of the instruments' tests: applications over the test's prefix, as the tests of jobs have them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from taurine.app import Taurine


@pytest.fixture
async def app_factory(prefix: str, redis_socket_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Taurine]]:
    """Make applications on SQLite: `app_factory(clock=clock)`; each is closed after the test. Takes the arguments of Taurine."""
    async with contextlib.AsyncExitStack() as stack:

        def make(name: str = "test", **options: object) -> Taurine:
            usual: dict[str, object] = {
                "redis_url": redis_socket_url,
                "database_url": f"sqlite:///{tmp_path / 'taurine.db'}",
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
