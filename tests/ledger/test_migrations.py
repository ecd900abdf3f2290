"""Migrations make exactly the tables of the code, one whole version at a time, whoever else migrates and whoever is
killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

from taurine.errors import LedgerUnavailable, SchemaMismatch
from taurine.ledger import migrate as module
from taurine.ledger.database import Database, open_database
from taurine.ledger.migrate import MigrationReport, check_schema, migrate, schema_version
from taurine.ledger.schema import VERSION, metadata

VERSIONS = tuple(f"{number:04}" for number in range(1, int(VERSION) + 1))

LATER = f"""
from alembic.operations import Operations
from sqlalchemy import Column, Integer, Text

revision = "0999"
down_revision = "{VERSION}"


def upgrade(op: Operations) -> None:
    op.add_column("taurine_job", Column("colour", Text))
    op.execute("UPDATE taurine_job SET colour = 'red'")
    op.create_table("taurine_second", Column("number", Integer, primary_key=True))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of this test alone, of the kind that the test's id shows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'taurine.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def empty(ledger_url: str) -> Any:
    database = open_database(ledger_url)
    yield database
    await database.close()


@pytest.fixture
def second_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A later Taurine: the folder of its migrations, and its version. This one stays as it is."""
    scripts = tmp_path / "migrations"
    shutil.copytree(module._MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0999_later.py").write_text(LATER)
    return str(scripts), "0999"


@pytest.fixture
def migrators() -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a migrator in a process of its own, which dies after the statement of a number."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("migrators.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(**request: Any) -> dict[str, Any]:
        stdin.write(json.dumps(request) + "\n")
        return json.loads(stdout.readline())

    yield run
    stdin.close()
    stdout.close()
    process.wait(10)


async def test_a_new_database_gets_its_tables_and_a_second_run_changes_nothing(empty: Database) -> None:
    assert await migrate(empty) == MigrationReport(None, VERSION, VERSIONS)
    assert await migrate(empty) == MigrationReport(VERSION, VERSION, ())
    await check_schema(empty)


async def test_tables_that_are_not_there_are_a_typed_error_that_says_what_to_do(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match=r"are not there.*run `taurine migrate`, or Taurine\(...\).migrate\(\)"):
        await check_schema(empty)
    with pytest.raises(SchemaMismatch, match="run `taurine migrate`"):
        await empty.read(lambda connection: connection.execute(text("SELECT id FROM taurine_job")).all())


async def test_older_tables_with_newer_code_name_both_versions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION", "0999")
    with pytest.raises(SchemaMismatch, match=f"are of version {VERSION}, and this version of Taurine works with 0999"):
        await check_schema(database)


async def test_newer_tables_are_never_taken_back(database: Database) -> None:
    await database.write(lambda connection: connection.execute(text("UPDATE taurine_version SET version_num = '9999'")))
    for attempt in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match=f"version 9999, newer than {VERSION}"):
            await attempt(database)
    assert await database.read(schema_version) == "9999"


async def test_a_second_version_is_made_with_rows_there(
    database: Database, second_version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MIGRATIONS", Path(second_version[0]))
    monkeypatch.setattr(module, "VERSION", second_version[1])
    await database.write(_insert_one)
    assert await migrate(database) == MigrationReport(VERSION, "0999", ("0999",))
    assert await database.read(lambda connection: connection.scalar(text("SELECT colour FROM taurine_job"))) == "red"


async def test_migrations_say_nothing_on_their_own_and_configure_no_logging(
    empty: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    await migrate(empty)
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")


# The tables are those of the code ------------------------------------------------------------------------------------------


async def test_the_migrated_tables_are_those_of_the_code(database: Database, ledger_url: str, tmp_path: Path) -> None:
    """Columns, types, defaults, keys and indexes by Alembic's comparison; checks and predicates, which it leaves out,
    by their text.
    """

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "version_table": "taurine_version"}
        )
        return compare_metadata(context, metadata)

    assert await database.read(differences) == []
    migrated = await database.read(_details)
    assert migrated.keys() == {table.name for table in metadata.tables.values()}

    def remade(connection: Connection) -> dict[str, Any]:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return _details(connection)

    assert await database.write(remade) == migrated


def test_the_comparison_sees_a_predicate_and_a_check() -> None:
    """The test above can fail: without one predicate or one check the details differ."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        whole = _details(connection)
        connection.execute(text("DROP INDEX taurine_job_by_tenant"))
        connection.execute(text("CREATE INDEX taurine_job_by_tenant ON taurine_job (tenant, created_at, id)"))
        connection.execute(text("DROP TABLE taurine_quota"))
        connection.execute(text("CREATE TABLE taurine_quota (tenant TEXT, type TEXT, max_open INTEGER)"))
        seen = _details(connection)
    engine.dispose()
    assert {name for name in whole if whole[name] != seen[name]} == {"taurine_job", "taurine_quota"}


def _details(connection: Connection) -> dict[str, Any]:
    """Of each of our tables: the checks, foreign keys, primary key and the text of each index, as the database shows
    them.
    """
    looker = inspect(connection)
    return {
        name: {
            "checks": {(check["name"], _plain(check["sqltext"])) for check in looker.get_check_constraints(name)},
            "foreign": sorted(map(repr, looker.get_foreign_keys(name))),
            "primary": repr(looker.get_pk_constraint(name)),
            "indexes": _index_texts(connection, name),
            "columns": sorted(
                (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
                for column in looker.get_columns(name)
            ),
        }
        for name in looker.get_table_names()
        if name.startswith("taurine_") and name != "taurine_version"
    }


def _index_texts(connection: Connection, table: str) -> set[str]:
    if connection.dialect.name == "postgresql":
        rows = connection.execute(text("SELECT indexdef FROM pg_indexes WHERE tablename = :table"), {"table": table})
    else:
        rows = connection.execute(
            text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :table AND sql IS NOT NULL"),
            {"table": table},
        )
    return {_plain(row[0]) for row in rows}


def _plain(words: str) -> str:
    return re.sub(r"\s+", " ", words)


def test_names_of_indexes_are_given_by_hand_and_unique() -> None:
    """Both databases keep index names per schema, not per table."""
    names = [index.name for table in metadata.tables.values() for index in table.indexes]
    assert len(names) == len(set(names))
    assert all(str(name).startswith("taurine_") for name in names)


# Others migrate too, and migrators die ----------------------------------------------------------------------------------------


async def test_of_many_migrators_at_once_one_makes_each_version(ledger_url: str) -> None:
    """F39: the second waits, and finds the work done."""
    databases = [open_database(ledger_url) for _ in range(6)]
    try:
        reports = await asyncio.gather(*(migrate(database) for database in databases))
        for database in databases:
            await check_schema(database)
    finally:
        for database in databases:
            await database.close()
    assert sorted(version for report in reports for version in report.applied) == list(VERSIONS)


async def test_two_databases_are_migrated_at_once_by_one_program(tmp_path: Path, postgres_url: str) -> None:
    databases = [open_database(f"sqlite:///{tmp_path / 'one.db'}"), open_database(postgres_url)]
    databases.append(open_database(f"sqlite:///{tmp_path / 'two.db'}"))
    try:
        reports = await asyncio.gather(*(migrate(database) for database in databases))
    finally:
        for database in databases:
            await database.close()
    assert [report.applied for report in reports] == [VERSIONS] * 3


async def test_migrators_in_processes_of_their_own_take_turns(ledger_url: str) -> None:
    """F39, with nothing in common but the database."""
    program = str(Path(__file__).with_name("migrators.py"))
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    request = json.dumps({"url": ledger_url}).encode()
    answers = await asyncio.gather(*(process.communicate(request) for process in processes))
    counts = sorted(json.loads(out)["statements"] for out, _ in answers)
    assert counts[0] < counts[-1]  # one did the work
    database = open_database(ledger_url)
    try:
        await check_schema(database)
    finally:
        await database.close()


async def test_a_migrator_waits_for_the_other_in_bounded_time(
    empty: Database, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F39: the error is typed and retryable when the other one takes too long, and the tables are made once it is gone."""
    monkeypatch.setattr(module, "_LOCK_SECONDS", 1)
    monkeypatch.setattr("taurine.ledger.database._LOCK_SECONDS", 1.0)
    async with _turn_taken(ledger_url):
        with pytest.raises(LedgerUnavailable, match="lock"):
            await migrate(empty, wait=0.0)
        waiting = asyncio.create_task(migrate(empty))
    assert (await waiting).applied == VERSIONS


@contextlib.asynccontextmanager
async def _turn_taken(url: str) -> AsyncGenerator[None]:
    """Another program is in the middle of a migration."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode=WAL")
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", module._TURN)
            yield
    finally:
        await connection.close()


async def test_a_migrator_killed_after_any_statement_leaves_a_whole_version(
    ledger_url: str,
    second_version: tuple[str, str],
    migrators: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    """F39: one after the other dies one statement later; the tables are those of a whole version each time."""
    scripts, version = second_version
    request = {"url": ledger_url, "scripts": scripts, "version": version}
    whole: dict[str | None, int] = {None: 0, **await _tables_of_each(ledger_url, monkeypatch)}
    whole[version] = whole[VERSION] + 1
    assert whole[VERSION] == len(metadata.tables) + 1, "and the one with the version"
    seen: dict[str | None, int] = {}
    points = 0
    for point in range(1, 200):
        answer = await asyncio.to_thread(migrators, **request, die_at=point)
        if "killed" not in answer:
            assert "statements" in answer
            break
        points += 1
        found, tables = await _look(ledger_url)
        assert tables == whole[found], f"killed after statement {point}: version {found}, {tables} tables"
        seen[found] = seen.get(found, 0) + 1
        await _drop_everything(ledger_url)
    assert await _look(ledger_url) == (version, whole[version])
    assert seen[None] > 20, "deaths were to fall into the first version"
    for earlier in VERSIONS:
        assert seen[earlier] >= 3, f"deaths were to fall into the version after {earlier}"
    figure(f"F39 {'sqlite' if 'sqlite' in ledger_url else 'postgresql'}: {points}/{points} deaths left a whole version")


async def _tables_of_each(url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many tables each version leaves that nobody kills."""
    found: dict[str, int] = {}
    database = open_database(url)
    try:
        for version in VERSIONS:
            monkeypatch.setattr(module, "VERSION", version)
            await migrate(database)
            found[version] = (await _look(url))[1]
    finally:
        await database.close()
    await _drop_everything(url)
    return found


async def _look(url: str) -> tuple[str | None, int]:
    database = open_database(url)

    def look(connection: Connection) -> tuple[str | None, int]:
        names = [name for name in inspect(connection).get_table_names() if name.startswith("taurine_")]
        if "taurine_second" in names:
            connection.execute(text("SELECT colour FROM taurine_job"))
        return schema_version(connection), len(names)

    try:
        # After a kill, PostgreSQL notices the closed connection in its own time; it sees whole versions meanwhile.
        return await database.read(look)
    finally:
        await database.close()


async def _drop_everything(url: str) -> None:
    database = open_database(url)

    def drop(connection: Connection) -> None:
        cascade = " CASCADE" if connection.dialect.name == "postgresql" else ""
        for name in reversed([table.name for table in metadata.sorted_tables]):
            connection.execute(text(f"DROP TABLE IF EXISTS {name}{cascade}"))
        for name in ("taurine_version", "taurine_second"):
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))

    try:
        await database.write(drop)
    finally:
        await database.close()


def _insert_one(connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO taurine_job (id, type, queue, status, max_attempts, payload, created_at, updated_at)"
            " VALUES ('a', 't', 'q', 'queued', 3, '{}', 1, 1)"
        )
    )
