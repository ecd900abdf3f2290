"""Fixtures for pytest.

It is a plugin that is named, so that nobody pays for it who does not use it. Put this line into the top `conftest.py`:

    pytest_plugins = ["taurine.testing.fixtures"]

They need no other plugin, and work in plain tests and in async ones, whichever plugin runs those.

| fixture | gives |
|---|---|
| `taurine_server_url` | a private Valkey for the whole run; overridden, a server of your own |
| `taurine_app_factory` | applications on it, each with a key prefix and a database of its own, closed after the test: `taurine_app_factory(clock=clock)` |
| `taurine_app` | one of them; override it with the application that you test |
| `taurine_recorder` | a `Recorder` of `taurine_app`, from here to the test's end |
| `taurine_clock` | a `TestClock` |
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from taurine.app import Taurine
from taurine.embedded import EmbeddedServer
from taurine.testing.app_factory import AppFactory
from taurine.testing.clock import TestClock
from taurine.testing.recorder import Recorder

__all__ = [
    "taurine_app",
    "taurine_app_factory",
    "taurine_clock",
    "taurine_loop_of_anyio",
    "taurine_recorder",
    "taurine_server_url",
]


@pytest.fixture(scope="session")
def taurine_server_url() -> Iterator[str]:
    """The server of queues that the tests of this process share."""
    # pytest's own temporary folders are too deep for the path of a unix socket.
    directory = Path(tempfile.mkdtemp(prefix="taurine-"))
    try:
        with EmbeddedServer(directory) as server:
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def taurine_app_factory(
    request: pytest.FixtureRequest, taurine_server_url: str, tmp_path: Path
) -> Iterator[AppFactory]:
    """Make applications that see nothing of other tests; each is closed after the test."""
    _keep_loop(request)
    apps: list[Taurine] = []

    def make(name: str = "test", **options: Any) -> Taurine:
        home = tmp_path / f"taurine-{len(apps)}"
        home.mkdir()
        usual: dict[str, Any] = {
            "redis_url": taurine_server_url,
            "database_url": f"sqlite:///{home / 'taurine.db'}",
            "home": home,
            "prefix": f"test:{secrets.token_hex(6)}",
        }
        apps.append(Taurine(name, **(usual | options)))
        return apps[-1]

    yield make
    for app in apps:
        _close(app)


@pytest.fixture
def taurine_app(taurine_app_factory: AppFactory) -> Taurine:
    """An application of this test alone."""
    return taurine_app_factory()


@pytest.fixture
def taurine_recorder(taurine_app: Taurine) -> Iterator[Recorder]:
    """What the test enqueues, recorded; no server is touched."""
    with Recorder(taurine_app) as recorder:
        yield recorder


@pytest.fixture
def taurine_clock() -> TestClock:
    """Time that the test moves: `taurine_app_factory(clock=taurine_clock)`."""
    return TestClock()


@pytest.fixture
async def taurine_loop_of_anyio() -> AsyncIterator[None]:
    """See `_keep_loop`."""
    yield  # noqa: PT022 - what returns would end the loop's lease at once


if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def taurine_loop_of_asyncio() -> AsyncIterator[None]:
        """See `_keep_loop`."""
        yield


def _keep_loop(request: pytest.FixtureRequest) -> None:
    """Have the loop of an async test end after the fixture that asks: what stands open on a loop can be closed there
    alone.

    Each plugin ends its loop when the last async fixture has ended, so one of those is asked for.
    """
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("taurine_loop_of_anyio")
    elif request.config.pluginmanager.hasplugin("asyncio") and inspect.iscoroutinefunction(
        getattr(request.node, "obj", None)
    ):
        request.getfixturevalue("taurine_loop_of_asyncio")


def _close(app: Taurine) -> None:
    """Close an application after its test.

    The test's loop stands still by now, and is run once more if it is not closed yet.
    """
    for loop in app.loops:
        if not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(_close_here(app))
    app.close_sync()


async def _close_here(app: Taurine) -> None:
    async with asyncio.timeout(30):
        await app.close()
