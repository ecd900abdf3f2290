"""Databases that have the ledger's tables already: they are made once for all tests of the process, and copied for
each.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from support.postgres import PostgresServer
from taurine.ledger.database import open_database
from taurine.ledger.migrate import migrate

__all__ = ["Ledgers"]


class Ledgers:
    """A copy takes SQLite 1 ms, where the migrations take 45; PostgreSQL 50 ms with its removal, where they take 230.

    directory: for a file of its own.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ledger.db"
        self._templates: dict[PostgresServer, str] = {}

    async def sqlite(self, path: Path) -> str:
        """Put a ledger in this file, which is not there yet, and return its URL."""
        if not self._file.exists():
            await _migrate(f"sqlite:///{self._file}")
        shutil.copyfile(self._file, path)
        return f"sqlite:///{path}"

    async def postgresql(self, server: PostgresServer) -> str:
        """Make a database with a ledger in this server, and return its name."""
        if server not in self._templates:
            template = await server.create_database()
            await _migrate(server.url_of(template))
            self._templates[server] = template
        return await server.copy_database(self._templates[server])


async def _migrate(url: str) -> None:
    database = open_database(url)
    await migrate(database)
    await database.close()
