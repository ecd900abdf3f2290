"""One SQL database: its connections, its transactions, and what a failure is called.

Work is a plain function of a SQLAlchemy connection, so that each statement is written once: for SQLite, whose driver
blocks, in threads; for PostgreSQL on the event loop; and inside a transaction of the caller's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taurine.errors import InvalidOption, LedgerError, LedgerRefused, LedgerUnavailable, SchemaMismatch

__all__ = ["Database", "Work", "concerns_all", "open_database", "translated"]

ResultT = TypeVar("ResultT")
Work = Callable[[Connection], ResultT]

_LOCK_SECONDS = 5.0
"""Seconds to wait for a lock, a free connection, or an answer, before a call fails as unavailable."""

_READERS = 3
"""Threads that read a SQLite database beside the one that writes."""


class Database(Protocol):
    """Runs work in transactions of its own; each call is one transaction.

    Raises LedgerUnavailable in bounded time, LedgerRefused, SchemaMismatch, and IntegrityError for what a constraint
    refused.
    """

    url: URL

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` in a transaction and commit it. A caller that is cancelled leaves it to end by itself.

        `work` may be called a second time, when PostgreSQL has certainly nothing of the first: it gave way to another
        transaction, or its connection was broken already, as all are after a restart of the server.
        """
        ...

    async def write_at_once(self, work: Work[ResultT]) -> ResultT:
        """As `write`, for work whose first statement is all that it writes, and which may be done twice: the statement
        commits by itself.

        That is one message to PostgreSQL and back instead of three, each of which waits for its turn on a busy event
        loop. SQLite gains nothing, and makes no difference.
        """
        ...

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work`, which writes nothing, on a consistent view: all its statements see the database as it was at the
        first.
        """
        ...

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of threads and files in place of `close`, from anywhere, when the event loop is closed already."""
        ...


def open_database(url: str | URL, *, pool_size: int = 5, answer_seconds: float | None = _LOCK_SECONDS * 6) -> Database:
    """The database at a SQLAlchemy URL; nothing is connected before the first call.

    pool_size: connections to PostgreSQL. answer_seconds: how long PostgreSQL may take for one statement, None for as
    long as it wants.
    Drivers are chosen here: `sqlite:///file` and `postgresql://…`. Raises InvalidOption for another kind of database.
    """
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return SQLiteDatabase(parsed)
    if kind == "postgresql":
        if find_spec("asyncpg") is None:
            raise InvalidOption('a database of PostgreSQL needs the extra postgres: pip install "taurine[postgres]"')
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
        self._unfinished: set[Future[Any]] = set()

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await self._in_thread(self._writer, self._writing, work)

    async def write_at_once(self, work: Work[ResultT]) -> ResultT:
        return await self.write(work)

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

        try:
            future = threads.submit(transact)
        except RuntimeError:
            if threading.main_thread().is_alive():
                raise
            # The interpreter ends, and `atexit` closes the application: no thread is to be had, and nobody waits.
            return transact()
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        waiting = asyncio.wrap_future(future)
        # Shielded: cancelling the wait would take back a write that waits for its thread.
        return await (asyncio.shield(waiting) if threads is self._writer else waiting)

    def abandon(self) -> None:
        for threads, engine in ((self._writer, self._writing), (self._readers, self._reading)):
            threads.shutdown(wait=False)
            engine.dispose()

    async def close(self) -> None:
        for threads in (self._writer, self._readers):
            threads.shutdown(wait=False)
        # Waited for here and not in a thread: none can be had when the interpreter ends.
        left = map(asyncio.wrap_future, tuple(self._unfinished))
        await asyncio.shield(asyncio.gather(*left, return_exceptions=True))
        for threads, engine in ((self._writer, self._writing), (self._readers, self._reading)):
            threads.shutdown()
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

    @event.listens_for(engine, "do_connect")
    def _make(_dialect: object, _record: object, _arguments: object, _options: object) -> None:  # pyright: ignore[reportUnusedFunction]
        # Before SQLite makes it for everybody to read: payloads and who may log in are in it. Its other files get the rights of this one.
        if url.database and not Path(url.database).exists():
            with contextlib.suppress(OSError):  # the connection says what is wrong
                _make_private(Path(url.database))

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


def _make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, unless there is one."""
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        # Closed by now: closing a database's file drops the locks of this process on it, those of SQLite too.
        os.link(draft, path)
    finally:
        draft.unlink()


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
            connect_args={"timeout": _LOCK_SECONDS, "command_timeout": answer_seconds},
        )
        # Each statement of a transaction would have a view of its own otherwise. It is said with the BEGIN, so costs nothing.
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._at_once = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writes: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await self._to_its_end(self._transact(self._engine, work))

    async def write_at_once(self, work: Work[ResultT]) -> ResultT:
        return await self._to_its_end(self._transact(self._at_once, work))

    async def read(self, work: Work[ResultT]) -> ResultT:
        return await self._transact(self._reading, work)

    async def _to_its_end(self, writing: Coroutine[Any, Any, ResultT]) -> ResultT:
        task = asyncio.create_task(writing, name="taurine ledger write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _transact(self, engine: AsyncEngine, work: Work[ResultT]) -> ResultT:
        try:
            return await self._attempt(engine, work)
        except _Undone:
            # Once more: a restart of the server broke all pooled connections at once, and the pool has thrown them away by now.
            return await self._attempt(engine, work, again=True)

    async def _attempt(self, engine: AsyncEngine, work: Work[ResultT], *, again: bool = False) -> ResultT:
        commits = False
        try:
            async with engine.begin() as connection:
                result = await connection.run_sync(work)
                commits = True
            return result
        except Exception as error:
            if not again and _is_undone(error, commits=commits):
                raise _Undone from error
            if (known := translated(error, self.url)) is error:
                raise
            raise known from error

    def abandon(self) -> None:
        self._engine.sync_engine.dispose(close=False)  # closing would need the loop; the sockets go with their objects

    async def close(self) -> None:
        if self._writes:  # of callers that were cancelled: their connections are not the pool's yet
            await asyncio.wait(self._writes)
        await self._engine.dispose()


class _Undone(Exception):
    """A transaction of which the server has certainly nothing."""


def _is_undone(error: Exception, *, commits: bool) -> bool:
    """Whether a transaction is gone: it gave way to another, or its connection broke before the server was told to
    commit.
    """
    if not isinstance(error, DBAPIError):
        return False
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return state in _POSTGRESQL_ROLLED_BACK or (error.connection_invalidated and not commits)


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


def concerns_all(error: Exception) -> bool:
    """True for an error of `Database.write` that another work would have met as well, just now: it says nothing of the
    rows that were to be written.
    """
    if isinstance(error, LedgerUnavailable | SchemaMismatch):
        return True
    cause = getattr(error.__cause__, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BROKEN
    state = _state_of(error)
    return state in _POSTGRESQL_REFUSES or state[:2] in _POSTGRESQL_BROKEN


def _state_of(error: Exception) -> str:
    """PostgreSQL's code for the failure that was translated into this error, or an empty string."""
    return str(getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) or "")


def _remove_values(error: DBAPIError) -> None:
    """Cut the errors of the driver to their first line, without what they quote: PostgreSQL shows the row that a
    constraint refused.
    """
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

_SQLITE_BROKEN = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT),
    *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM),
)

_POSTGRESQL_REFUSES = ("53100", "25006", "42501")
"""Out of disk, read only, no permission."""

_POSTGRESQL_BUSY = ("08", "57", "40", "55", "53")
"""Classes: connection; shutdown, cancelled; deadlock, serialization; lock; too many connections, out of memory."""

_POSTGRESQL_BROKEN = ("53", "58", "XX", "28", "3D")
"""Classes: disk, memory; a failure of its system; of itself; no login; no such database."""

_POSTGRESQL_ROLLED_BACK = ("40P01", "40001")
"""Deadlock, serialization: the transaction is certainly gone, and another one was let pass."""


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
