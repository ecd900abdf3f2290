"""Fixtures of every test: a real server, a key prefix of one's own, and a check that nothing was left behind."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import tempfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from support.leaks import ServerWatch, no_tasks_remain
from support.ledgers import Ledgers
from support.postgres import PostgresServer
from support.server import ValkeyServer

# A property test's deadline per example would make a busy machine a failure. The blob reproduces a failure in one line.
settings.register_profile("taurine", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "taurine"))

# The programs that tests start would compile all of the source each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that runs the tests in the background lets its children ignore SIGINT, and theirs inherit that: nobody would hear a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_watch_key = pytest.StashKey[ServerWatch]()


@pytest.fixture(scope="session")
def valkey(pytestconfig: pytest.Config) -> Iterator[ValkeyServer]:
    """The server that the tests of this process share."""
    # pytest's own temporary folders are too long for the path of a unix socket.
    directory = Path(tempfile.mkdtemp(prefix="taurine-test-"))
    server = ValkeyServer(directory)
    server.start()
    watch = pytestconfig.stash[_watch_key] = ServerWatch(server)
    yield server
    del pytestconfig.stash[_watch_key]
    watch.close()
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """The shared server by TCP; Node can use it as well."""
    return valkey.url


@pytest.fixture
def redis_socket_url(valkey: ValkeyServer) -> str:
    """The shared server by its unix socket."""
    return valkey.socket_url


@pytest.fixture
def prefix() -> str:
    """The key prefix of this test alone; what is under it is removed afterwards."""
    return f"t:{secrets.token_hex(4)}"


@pytest.fixture(autouse=True)
async def nothing_left_behind(prefix: str, pytestconfig: pytest.Config) -> AsyncIterator[None]:
    """Fail the test that leaves a task, a connection, or a key outside its prefix.

    Being set up first, it looks when every other fixture of the test has ended.
    """
    watch = pytestconfig.stash.get(_watch_key, None)
    if watch is not None:
        watch.before()
    yield
    watch = pytestconfig.stash.get(_watch_key, None)
    leaks = watch.after(prefix) if watch is not None else []
    await no_tasks_remain()
    if leaks:
        pytest.fail("the test left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture
async def raw(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """A plain client of the shared server, which returns str."""
    async with Redis.from_url(valkey.socket_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def server_factory() -> Iterator[Callable[..., ValkeyServer]]:
    """Start private servers for a test that stops, kills or fills them: `server_factory(appendonly="yes")`.

    Takes the options of ValkeyServer; `start=False` leaves the first start to the test.
    """
    servers: list[ValkeyServer] = []

    def make(*, start: bool = True, **options: str | int) -> ValkeyServer:
        server = ValkeyServer(Path(tempfile.mkdtemp(prefix="taurine-test-")), **options)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in servers:
        server.kill()
        shutil.rmtree(server.directory)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL that the tests of this process share."""
    with contextlib.closing(PostgresServer()) as server:
        server.start()
        yield server


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """An empty database of this test alone, for SQLAlchemy; a connection left open in it fails the test."""
    name = await postgres.create_database()
    yield postgres.url_of(name)
    leaks = await postgres.drop_database(name)
    if leaks:
        pytest.fail("the test left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture(scope="session")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Ledgers:
    """Ledgers to copy, since the migrations take longer than most tests."""
    return Ledgers(tmp_path_factory.mktemp("ledgers"))


@pytest.fixture
async def postgres_ledger_url(postgres: PostgresServer, ledgers: Ledgers) -> AsyncIterator[str]:
    """The same as `postgres_url`, with the ledger's tables."""
    name = await ledgers.postgresql(postgres)
    yield postgres.url_of(name)
    leaks = await postgres.drop_database(name)
    if leaks:
        pytest.fail("the test left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture
def postgres_factory() -> Iterator[Callable[..., PostgresServer]]:
    """Start private servers for a test that stops, kills or fills them: `postgres_factory(max_connections=20)`.

    Takes the settings of PostgresServer; `start=False` leaves the first start to the test.
    """
    servers: list[PostgresServer] = []

    def make(*, start: bool = True, **settings: str | int) -> PostgresServer:
        server = PostgresServer(**settings)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number for this test's random choices, which follows from the run's seed and is shown when the test fails."""
    of_run = request.config.getoption("randomly_seed", None)
    if not isinstance(of_run, int):
        of_run = random.SystemRandom().getrandbits(32)
    value = zlib.crc32(f"{of_run}:{request.node.nodeid}".encode())
    print(f"seed {value}, of this run's seed {of_run}: repeat it with --randomly-seed={of_run}")
    return value


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Put one line of what a test measured into the run's summary."""

    def put(line: str) -> None:
        print(line)
        request.node.user_properties.append(("figure", line))

    return put


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what the tests measured; and what could not run, and why."""
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in getattr(report, "user_properties", [])
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for line in sorted(figures):
            terminalreporter.line(line)
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        where, line, why = report.longrepr
        reasons[f"{Path(where).name}:{line}: {why.removeprefix('Skipped: ')}"] += 1
    if not reasons:
        return
    terminalreporter.section("could not run")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} × {reason}")
