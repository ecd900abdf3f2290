"""The SQL databases of a run: one PostgreSQL server, and for each figure of each peer an empty database, there or in
SQLite.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from sqlalchemy import Connection, make_url, text

from benchmarks.peers import ROOT, Database, Peer
from taurine.ledger.database import open_database

if TYPE_CHECKING:
    from collections.abc import Generator

ResultT = TypeVar("ResultT")

# As in production: commits wait for the disk, and checkpoints are not hurried by the small log that the tests make it with.
SETTINGS: dict[str, str | int] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "min_wal_size": "256MB",
    "max_wal_size": "1GB",
}

SYNCS = 100


@dataclass(frozen=True)
class PeerDatabase:
    """The database of one figure of one peer. kind is None, and url empty, for a peer that keeps nothing in SQL.

    server: the PostgreSQL server that it is on, None for SQLite. It is of the tests' class, whose folder the type
    checker does not see from here.
    """

    kind: Database | None = None
    url: str = ""
    server: Any = None

    def count(self, query: str) -> int:
        """The number that a query returns."""
        return asyncio.run(self._run(lambda connection: connection.execute(text(query)).scalar_one()))

    def write(self, statement: str, **values: object) -> None:
        """Run a statement in a transaction, for as long as it takes."""
        asyncio.run(self._run(lambda connection: connection.execute(text(statement), values)))

    def settle(self, table: str) -> None:
        """Do at once what the database would do some time after many rows were written, in the middle of a figure."""
        if self.kind == "postgresql":
            asyncio.run(self._settle_postgresql(table))
        else:
            # Not in a transaction, where it is refused.
            with closing(sqlite3.connect(str(make_url(self.url).database))) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def cpu_seconds(self) -> float:
        """CPU time so far of the database's server: all its processes, those that have ended included.

        0 where there is none.
        """
        if self.server is None:
            return 0.0
        main = psutil.Process(self.server.pid)
        seconds = 0.0
        for child in main.children():
            # One that ends meanwhile is among those that main has seen the end of, which come last for that reason.
            with suppress(psutil.NoSuchProcess):
                seconds += sum(child.cpu_times()[:2])
        return seconds + sum(main.cpu_times()[:4])

    async def _run(self, work: Callable[[Connection], ResultT]) -> ResultT:
        database = open_database(self.url, answer_seconds=None)
        try:
            return await database.write(work)
        finally:
            await database.close()

    async def _settle_postgresql(self, table: str) -> None:
        async with self.server.admin(make_url(self.url).database) as connection:
            await connection.execute(f"VACUUM (ANALYZE) {table}")
            await connection.execute("CHECKPOINT")


NO_DATABASE = PeerDatabase()


class Databases:
    """Makes them. The PostgreSQL server is started at its first use, and everything is removed with `close`."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._postgres: Any = None

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def empty(self, peer: Peer) -> Generator[PeerDatabase]:
        """An empty database for the peer, without its tables; it is removed with the block."""
        if peer.database is None:
            yield NO_DATABASE
        elif peer.database == "sqlite":
            with tempfile.TemporaryDirectory(prefix="taurine-bench-") as folder:
                yield PeerDatabase("sqlite", f"sqlite:///{folder}/taurine.db")
        else:
            server = self._server()
            name = asyncio.run(server.create_database())
            url = server.url_of(name).replace("+asyncpg", "")
            yield PeerDatabase("postgresql", url, server)
            asyncio.run(server.drop_database(name))

    def facts(self) -> dict[str, str]:
        """What the figures of SQL were measured on; empty when there were none."""
        if self._postgres is None:
            return {}
        settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
        version = asyncio.run(self._version())
        return {
            "PostgreSQL": f"{version}; {settings}",
            "Disk": f"write and fsync of 8 KiB in {_sync_ms():.2f} ms (p50)",
        }

    def _server(self) -> Any:
        if self._postgres is None:
            # The tests' server: it comes from a wheel, and it runs as another user where we are root, which PostgreSQL refuses to be.
            # Their folder is on the path of pytest only.
            sys.path.append(str(ROOT / "tests"))
            from support.postgres import PostgresServer

            self._postgres = self._stack.enter_context(closing(PostgresServer(**SETTINGS)))
            self._postgres.start()
        return self._postgres

    async def _version(self) -> str:
        async with self._postgres.admin() as connection:
            return await connection.fetchval("SHOW server_version")


def _sync_ms() -> float:
    """What a commit waits for at least, where both databases are."""
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="taurine-bench-") as folder, Path(folder, "file").open("wb") as file:
        for _ in range(SYNCS):
            start = time.perf_counter()
            file.write(bytes(8192))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000
