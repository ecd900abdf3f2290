"""The business database: tickets, where they went, exports, reports.

It knows nothing of Taurine, and so can bear witness.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from taurine.demo.texts import Text

__all__ = ["Routed", "Tickets"]

_TABLES = """
CREATE TABLE ticket (number INTEGER PRIMARY KEY, subject TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE routing (
    place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL UNIQUE REFERENCES ticket,
    category TEXT NOT NULL, team TEXT NOT NULL, urgent INTEGER NOT NULL
);
CREATE TABLE export (job_id TEXT PRIMARY KEY, path TEXT NOT NULL, tickets INTEGER NOT NULL);
CREATE TABLE report (tick TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE watch (job_id TEXT PRIMARY KEY, looks INTEGER NOT NULL);
"""


class Routed(NamedTuple):
    """A ticket as it was routed. place: its place in the order of routing, which grows and never changes."""

    place: int
    number: int
    subject: str
    category: str
    team: str
    urgent: bool


class Tickets:
    """The database at `path`. Each write is one transaction. May be used from any thread; close it at the end."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        # As patient as a web server would be with a database that several processes write to.
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        self._connection.close()

    # What the desk does -----------------------------------------------------------------------------------------------------------

    def open_desk(self, texts: Iterable[Text]) -> None:
        """Make the tables, and a ticket of each text; they are numbered from 1."""
        with self._lock, closing(self._connection.cursor()) as cursor:
            cursor.executescript(_TABLES)
            cursor.execute("BEGIN")
            cursor.executemany(
                "INSERT INTO ticket (subject, body) VALUES (?, ?)",
                ((text.subject, text.body.encode()) for text in texts),
            )
            cursor.execute("COMMIT")

    def read(self, number: int) -> Text:
        """Raises LookupError for a ticket that is not there, and UnicodeDecodeError for a body that is no UTF-8."""
        for subject, body in self._rows("SELECT subject, body FROM ticket WHERE number = ?", number):
            return Text(subject, body.decode())
        raise LookupError(f"there is no ticket {number}")

    def route(self, number: int, *, category: str, team: str, urgent: bool) -> None:
        """Give a ticket to a team. Safe to repeat."""
        self._rows(
            "INSERT INTO routing (number, category, team, urgent) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (number) DO UPDATE SET category = excluded.category, team = excluded.team, urgent = excluded.urgent",
            *(number, category, team, urgent),
        )

    def routed_after(self, place: int, limit: int) -> list[Routed]:
        """The next tickets in the order in which they were routed."""
        rows = self._rows(
            "SELECT place, number, subject, category, team, urgent FROM routing JOIN ticket USING (number)"
            " WHERE place > ? ORDER BY place LIMIT ?",
            *(place, limit),
        )
        return [Routed(*row) for row in rows]

    def add_export(self, job_id: str, path: Path, tickets: int) -> None:
        """Note what an export has written; a repeat takes the place of the first."""
        self._rows("INSERT OR REPLACE INTO export VALUES (?, ?, ?)", job_id, str(path), tickets)

    def add_report(self, tick: str, body: str) -> None:
        """Keep the report of one tick; a repeat takes the place of the first."""
        self._rows("INSERT OR REPLACE INTO report VALUES (?, ?)", tick, body)

    def look(self, job_id: str) -> int:
        """Note one more look of a watch; returns how many it has had."""
        ((looks,),) = self._rows(
            "INSERT INTO watch VALUES (?, 1) ON CONFLICT (job_id) DO UPDATE SET looks = looks + 1 RETURNING looks",
            job_id,
        )
        return looks

    # The poison -------------------------------------------------------------------------------------------------------------------

    def garble(self, number: int) -> None:
        """What an old mail gateway does: the body is no longer UTF-8."""
        self._rows("UPDATE ticket SET body = ? WHERE number = ?", "déjà vu: the mail gateway".encode("cp1252"), number)

    def mend(self, number: int) -> None:
        """Read the body as what it is, and store it as it should be."""
        ((body,),) = self._rows("SELECT body FROM ticket WHERE number = ?", number)
        self._rows("UPDATE ticket SET body = ? WHERE number = ?", body.decode("cp1252").encode(), number)

    # Counting ---------------------------------------------------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        return [number for (number,) in self._rows("SELECT number FROM ticket ORDER BY number")]

    def count(self) -> int:
        ((count,),) = self._rows("SELECT count(*) FROM ticket")
        return count

    def teams(self) -> dict[int, str]:
        """The team of each ticket that was routed."""
        return dict(self._rows("SELECT number, team FROM routing"))

    def exports(self) -> dict[str, int]:
        """How many tickets each export has, by the job that wrote it."""
        return dict(self._rows("SELECT job_id, tickets FROM export"))

    def reports(self) -> list[str]:
        """The ticks that have a report."""
        return [tick for (tick,) in self._rows("SELECT tick FROM report ORDER BY tick")]

    def looks(self, job_id: str) -> int:
        return sum(looks for (looks,) in self._rows("SELECT looks FROM watch WHERE job_id = ?", job_id))

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()
