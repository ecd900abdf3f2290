"""One SQL database: its connections, its transactions, and what a failure is called.

Work is a plain function of a SQLAlchemy connection, so that each statement is written once: for SQLite, whose driver blocks, in threads; for
PostgreSQL on the event loop; and inside a transaction of the caller's own.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taurine.errors import InvalidOption, LedgerError, LedgerRefused, LedgerUnavailable, SchemaMismatch

__all__ = ["Database", "Work", "open_database", "translated"]

ResultT = TypeVar("ResultT")
Work = Callable[[Connection], ResultT]

_LOCK_SECONDS = 5.0
"""Seconds to wait for a lock, a free connection, or an answer, before a call fails as unavailable."""

_READERS = 3
"""Threads that read a SQLite database beside the one that writes."""


class Database(Protocol):
    """Runs work in transactions of its own; each call is one transaction.

    Raises LedgerUnavailable in bounded time, LedgerRefused, SchemaMismatch, and IntegrityError for what a constraint refused.
    """

    url: URL

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` in a transaction and commit it. A caller that is cancelled leaves it to end by itself."""
        ...

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work`, which writes nothing, on a consistent view."""
        ...

    async def close(self) -> None: ...


def open_database(url: str | URL, *, pool_size: int = 5, answer_seconds: float | None = _LOCK_SECONDS * 6) -> Database:
    """The database at a SQLAlchemy URL; nothing is connected before the first call.

    pool_size: connections to PostgreSQL. answer_seconds: how long PostgreSQL may take for one statement, None for as long as it wants.
    Drivers are chosen here: `sqlite:///file` and `postgresql://…`. Raises InvalidOption for another kind of database.
    """
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return SQLiteDatabase(parsed)
    if kind == "postgresql":
        return PostgreSQLDatabase(parsed, pool_size=pool_size, answer_seconds=answer_seconds)
    raise InvalidOption(f"expected a database URL of sqlite or postgresql, got one of {kind!r}")


class SQLiteDatabase:
    """SQLite in WAL mode: one thread writes, a few read. Other processes may use the file at the same time."""

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise InvalidOption(
                "expected the URL of a SQLite file: each connection would see a memory database of its own"
            )
        self.url = url.set(drivername="sqlite")
        self._writing = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE", connections=1)
        self._reading = _sqlite_engine(self.url, begin="BEGIN", connections=_READERS)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="taurine ledger writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="taurine ledger reader")

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await self._in_thread(self._writer, self._writing, work)

    async def read(self, work: Work[ResultT]) -> ResultT:
        return await self._in_thread(self._readers, self._reading, work)

    async def _in_thread(self, threads: ThreadPoolExecutor, engine: Engine, work: Work[ResultT]) -> ResultT:
        latest = time.monotonic() + _LOCK_SECONDS

        def transact() -> ResultT:
            # Each call before this one may have waited for the lock in vain: they must not add up.
            if time.monotonic() > latest:
                raise LedgerUnavailable(
                    f"the database at {engine.url} had no thread free within {_LOCK_SECONDS:g} s; others wait for it too"
                )
            return _transact(engine, work)

        return await asyncio.get_running_loop().run_in_executor(threads, transact)

    async def close(self) -> None:
        for threads, engine in ((self._writer, self._writing), (self._readers, self._reading)):
            await asyncio.to_thread(threads.shutdown)
            engine.dispose()


def _sqlite_engine(url: URL, *, begin: str, connections: int) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,  # they are users' data, and errors end up in logs
        pool_size=connections,
        max_overflow=0,
        # A connection is used by one thread at a time, but not always by the same.
        connect_args={"check_same_thread": False, "timeout": _LOCK_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # the driver begins nothing by itself; see below
        for pragma in (
            "journal_mode=WAL",
            # A commit is on the disk before anybody is told of it.
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        # A writer takes the lock at once: one that read first would be refused when another wrote meanwhile.
        connection.exec_driver_sql(begin)

    return engine


def _transact(engine: Engine, work: Work[ResultT]) -> ResultT:
    try:
        with engine.begin() as connection:
            return work(connection)
    except Exception as error:
        if (known := translated(error, engine.url)) is error:
            raise
        raise known from error


class PostgreSQLDatabase:
    """PostgreSQL through asyncpg, on the event loop that first used it."""

    def __init__(self, url: URL, *, pool_size: int, answer_seconds: float | None) -> None:
        self.url = url.set(drivername="postgresql+asyncpg")
        self._engine: AsyncEngine = create_async_engine(
            self.url,
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_LOCK_SECONDS,
            # A server that was restarted must not fail the first call after it.
            pool_pre_ping=True,
            connect_args={"timeout": _LOCK_SECONDS, "command_timeout": answer_seconds},
        )

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await asyncio.shield(self._transact(work))

    async def read(self, work: Work[ResultT]) -> ResultT:
        return await self._transact(work)

    async def _transact(self, work: Work[ResultT]) -> ResultT:
        try:
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)
        except Exception as error:
            if (known := translated(error, self.url)) is error:
                raise
            raise known from error

    async def close(self) -> None:
        await self._engine.dispose()


def translated(error: Exception, url: URL) -> Exception:
    """What a failure of the database is called; errors that are none of it stay as they are.

    No text of an error holds a value of a row, for they are users' data, and errors end up in logs.
    """
    if isinstance(error, LedgerError):
        return error
    where = url.render_as_string(hide_password=True)
    if isinstance(error, PoolTimeout):
        return LedgerUnavailable(f"no connection to {where} was free within {_LOCK_SECONDS:g} s")
    if isinstance(error, DBAPIError):
        _remove_values(error)
        return error if isinstance(error, IntegrityError) else _translated_driver_error(error, where)
    if isinstance(error, OSError | TimeoutError):  # of the connection itself, from asyncpg
        return LedgerUnavailable(f"the database at {where} cannot be reached: {error or type(error).__name__}")
    return error


def _remove_values(error: DBAPIError) -> None:
    """Cut the errors of the driver to their first line, without what they quote: PostgreSQL shows the row that a constraint refused."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "detail", None) is not None and not isinstance(cause, DBAPIError):
            cause.detail = None  # pyright: ignore[reportAttributeAccessIssue] - asyncpg's, which it adds to its text
        if cause.args and isinstance(cause.args[0], str):
            cause.args = (_QUOTED_VALUE.sub(r"\1", _first_line(cause.args[0])), *cause.args[1:])
        cause = cause.__cause__


_QUOTED_VALUE = re.compile(r"(?<=invalid input for query argument )(\$\d+).*", re.DOTALL)


def _first_line(words: str) -> str:
    return words.partition("\n")[0]


_NO_TABLE = ("does not exist", "no such table", "no such column", "has no column")

_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL)

_POSTGRESQL_REFUSES = ("53100", "25006", "42501")
"""Out of disk, read only, no permission."""

_POSTGRESQL_BUSY = ("08", "57", "40", "55", "53")
"""Classes: connection; shutdown, cancelled; deadlock, serialization; lock; too many connections, out of memory."""


def _translated_driver_error(error: DBAPIError, where: str) -> Exception:
    cause: Any = error.orig
    words = _first_line(str(cause)) or type(cause).__name__
    if any(part in words for part in _NO_TABLE):
        return SchemaMismatch(
            f"the ledger's tables at {where} are missing or old ({words}); run `taurine migrate`, or Taurine(...).migrate()"
        )
    if _is_unavailable(error, cause):
        return LedgerUnavailable(f"the database at {where} is not available: {words}")
    return LedgerRefused(f"the database at {where} refused: {words}")


def _is_unavailable(error: DBAPIError, cause: Any) -> bool:
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
    state = str(getattr(cause, "sqlstate", None) or "")
    if state in _POSTGRESQL_REFUSES:
        return False
    return error.connection_invalidated or state[:2] in _POSTGRESQL_BUSY or isinstance(error, InterfaceError)
