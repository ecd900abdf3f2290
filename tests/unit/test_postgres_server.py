"""The tests' PostgreSQL: a database for each test, for this machine alone, gone when the tests are."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from support.eventually import eventually
from support.postgres import PostgresServer, postgres_programs

MakeServer = Callable[..., PostgresServer]
SEGMENTS = Path("/proc/sysvipc/shm")


def plain(url: str) -> str:
    """The URL as asyncpg itself takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(plain(url))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_answers_by_both_ways(postgres: PostgresServer, postgres_url: str) -> None:
    database = make_url(postgres_url).database
    assert database is not None
    for url in (postgres_url, postgres.url_of(database, by_socket=True)):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()

    assert "ready to accept connections" in postgres.log


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_each_test_has_an_empty_database_that_it_may_change(postgres_url: str, turn: str) -> None:
    assert await value(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await value(postgres_url, "CREATE TABLE job (id text PRIMARY KEY)")
    assert await value(postgres_url, "SELECT count(*) FROM job") == 0


async def test_it_is_as_a_production_server_would_be(postgres_url: str) -> None:
    assert await value(postgres_url, "SELECT current_setting('server_version_num')::int / 10000") == 18
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert await value(postgres_url, f"SHOW {setting}") == "on"
    assert await value(postgres_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


async def test_a_connection_left_open_is_found(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.postgres._GRACE_SECONDS", 0.05)
    name = await postgres.create_database()
    forgotten = await asyncpg.connect(plain(postgres.url_of(name)), server_settings={"application_name": "forgotten"})

    (leak,) = await postgres.drop_database(name)

    assert leak.startswith("connection to PostgreSQL left open")
    assert "'application_name': 'forgotten'" in leak
    forgotten.terminate()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await value(postgres.url_of(name), "SELECT 1")


async def test_only_this_machine_reaches_it_and_only_with_the_password(postgres: PostgresServer) -> None:
    """Other addresses of this machine stand for other machines: nothing listens there."""
    addresses = [a for found in psutil.net_if_addrs().values() for a in found if a.family == socket.AF_INET]
    for address in {"127.0.0.2"} | {a.address for a in addresses} - {"127.0.0.1"}:
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((address, postgres.port)) != 0

    assert postgres.directory.stat().st_mode & 0o777 == 0o700
    for login in ("postgres", "postgres:wrong", "taurine", "taurine:wrong"):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InternalClientError)):
            await value(f"postgresql://{login}@127.0.0.1:{postgres.port}/postgres", "SELECT 1")


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_what_was_committed_survives(postgres_factory: MakeServer, end: Callable[[PostgresServer], None]) -> None:
    server = postgres_factory()
    port, url = server.port, server.url_of(await server.create_database())
    await value(url, "CREATE TABLE job (id text)")
    connected = await asyncpg.connect(plain(url))
    await connected.execute("INSERT INTO job VALUES ('a')")
    before = psutil.Process(server.pid).children(recursive=True)
    end(server)
    assert not server.running
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in before)
    connected.terminate()

    server.start()
    assert server.port == port
    assert await value(url, "SELECT id FROM job") == "a"


async def test_settings_reach_the_server(postgres_factory: MakeServer) -> None:
    server = postgres_factory(max_connections=7)
    assert await value(server.url, "SHOW max_connections") == "7"


def test_a_server_that_cannot_start_shows_its_log(postgres_factory: MakeServer) -> None:
    server = postgres_factory(start=False, max_connections="many")
    with pytest.raises(AssertionError, match=r"did not start(.|\n)*many"):
        server.start()


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
def test_closed_it_leaves_nothing(postgres_factory: MakeServer, end: Callable[[PostgresServer], None]) -> None:
    server = postgres_factory()
    directory, pid = server.directory, server.pid
    assert has_shared_memory(pid) == SEGMENTS.exists()
    end(server)
    server.close()
    server.close()

    assert not directory.exists()
    assert not psutil.pid_exists(pid)
    assert not has_shared_memory(pid)


async def test_it_ends_with_the_tests_even_when_they_are_killed() -> None:
    script = (
        "import sys; from support.postgres import PostgresServer; server = PostgresServer(); server.start();"
        "print(server.pid, server.directory, flush=True); sys.stdin.read()"
    )
    tests = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert tests.stdout is not None
    pid, directory = (await tests.stdout.readline()).decode().split()
    server = psutil.Process(int(pid))
    assert server.is_running()
    tests.kill()
    await tests.communicate()

    await eventually(lambda: not Path(directory).exists(), 20, "the server's directory is removed")
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_programs_that_the_servers_user_cannot_read_are_copied(
    postgres_factory: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresServer, "_can_run", lambda _: False)
    server = postgres_factory()

    assert Path(psutil.Process(server.pid).exe()).is_relative_to(server.directory)
    assert not Path(psutil.Process(server.pid).exe()).is_relative_to(postgres_programs())


def has_shared_memory(pid: int) -> bool:
    """Whether there is a segment of System V that this process has made; false where the system does not list them."""
    return SEGMENTS.exists() and any(line.split()[4] == str(pid) for line in SEGMENTS.read_text().splitlines()[1:])
