"""Bringing the ledger's tables to the version that this code works with, and refusing to work with others.

Each version is one transaction, on both databases: a migration that is killed leaves the tables of before or of after.
Migrators that meet take turns. Nothing here goes back to an older version.

Alembic's `env.py`, `op` and `context` are not used: they stand for one migration of the process at a time, and a
program may migrate two databases at once. A file in migrations/versions is given its `Operations` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Column, Connection, MetaData, Table, Text, func, inspect, select, text

from taurine.errors import LedgerUnavailable, SchemaMismatch
from taurine.ledger.database import Database, Work, open_database
from taurine.ledger.rows import is_postgresql
from taurine.ledger.schema import VERSION, metadata

__all__ = ["MigrationReport", "check_schema", "migrate", "schema_version"]

ResultT = TypeVar("ResultT")

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "taurine_version"
"""Alembic's own table, under a name that does not meet the one of an application that uses Alembic too."""

_version = Table(_VERSION_TABLE, MetaData(), Column("version_num", Text))

_TURN = int.from_bytes(b"taurine", "big")
"""PostgreSQL's advisory lock of migrators."""

_LOCK_SECONDS = 5
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What `migrate` did: the versions of before and after, and those that it made, in order."""

    before: str | None
    """None for a database without our tables."""
    after: str
    applied: tuple[str, ...]


async def migrate(database: Database, *, wait: float = 60.0) -> MigrationReport:
    """Run what migrations are pending; with none it costs one read, so that it may stand at every start.

    wait: seconds to go on trying while another process migrates, holds a lock on our tables, or the database is just
    starting.
    Safe to repeat, and in several processes at once: each version is made once. Killed or failed, it leaves the tables
    of a whole version.
    Raises SchemaMismatch for tables that are newer than this code, LedgerUnavailable after `wait`, LedgerRefused.
    """
    deadline = asyncio.get_running_loop().time() + wait
    before = await _until(deadline, database.read, schema_version)
    _refuse_newer(before, database)
    if before == VERSION:
        return MigrationReport(before, VERSION, ())
    applied: list[str] = []
    # Changing a large table may take longer than any other call may.
    migrating = open_database(database.url, pool_size=1, answer_seconds=None)
    try:
        while (step := await _until(deadline, migrating.write, _make_next_version)) is not None:
            applied.append(step)
    finally:
        await migrating.close()
    await check_schema(database)
    return MigrationReport(before, VERSION, tuple(applied))


async def check_schema(database: Database) -> None:
    """Return when the tables are those that this code works with. Raises SchemaMismatch, which says what to do."""
    found = await database.read(schema_version)
    _refuse_newer(found, database)
    if found == VERSION:
        return
    there = "are not there" if found is None else f"are of version {found}"
    raise SchemaMismatch(
        f"the ledger's tables at {_name_of(database)} {there}, and this version of Taurine works with {VERSION};"
        " run `taurine migrate`, or Taurine(...).migrate()"
    )


def schema_version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.scalar(select(_version.c.version_num))


async def _until(deadline: float, run: Callable[[Work[ResultT]], Awaitable[ResultT]], work: Work[ResultT]) -> ResultT:
    """Run `work`, again and again while the database is not available, until `deadline` of the event loop's clock."""
    while True:
        try:
            return await run(work)
        except LedgerUnavailable:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


def _make_next_version(connection: Connection) -> str | None:
    """Make one version in the transaction at hand and return its number; None when there is none to make."""
    _take_turn(connection)
    found = schema_version(connection)
    if found is not None and found >= VERSION:
        return None
    return _apply_after(connection, found)


def _take_turn(connection: Connection) -> None:
    if not is_postgresql(connection):
        return  # the transaction holds SQLite's one write lock
    # A change that waits for a lock makes everybody behind it wait too: it gives up soon, and is tried again.
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
    connection.execute(select(func.pg_advisory_xact_lock(_TURN)))


def _apply_after(connection: Connection, found: str | None) -> str:
    # Slow to import, and at most starts there is nothing to do.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_MIGRATIONS))
    following = next(script for script in scripts.walk_revisions() if script.down_revision == found)
    step = MigrationStep.upgrade_from_script(scripts.revision_map, following)

    def steps(_heads: object, _context: object) -> list[MigrationStep]:
        return [step]

    context = MigrationContext.configure(
        connection, opts={"version_table": _VERSION_TABLE, "target_metadata": metadata, "fn": steps}
    )
    context.run_migrations(op=Operations(context))
    return following.revision


def _refuse_newer(found: str | None, database: Database) -> None:
    if found is not None and found > VERSION:
        raise SchemaMismatch(
            f"the ledger's tables at {_name_of(database)} are of version {found}, newer than {VERSION}, which this version"
            " of Taurine works with; install the newer Taurine, since there is no way back"
        )


def _name_of(database: Database) -> str:
    return database.url.render_as_string(hide_password=True)
