"""The mail server's own account of what it took and what it refused: a file that it alone writes, and that others ask."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Letter", "Mailbox"]

_TABLES = """
CREATE TABLE IF NOT EXISTS letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL, recipient TEXT NOT NULL, subject TEXT NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS letter_by_message_id ON letter (message_id);
CREATE TABLE IF NOT EXISTS refusal (message_id TEXT NOT NULL);
"""


class Letter(NamedTuple):
    """One letter that was taken, as often as it was taken. answered: whether its sender was told so."""

    number: int
    message_id: str
    recipient: str
    answered: bool = True


class Mailbox:
    """The mailbox at `path`. May be used from any thread; close it at the end."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        self._connection.close()

    def keep(self, message_id: str, recipient: str, subject: str) -> int:
        """Take a letter; returns its number.

        One that was taken before is taken again: a mail server delivers what it is given.
        """
        ((number,),) = self._rows(
            "INSERT INTO letter (message_id, recipient, subject) VALUES (?, ?, ?) RETURNING number",
            *(message_id, recipient, subject),
        )
        return number

    def note_answered(self, number: int) -> None:
        self._rows("UPDATE letter SET answered = 1 WHERE number = ?", number)

    def refuse(self, message_id: str) -> None:
        self._rows("INSERT INTO refusal VALUES (?)", message_id)

    def find(self, message_id: str) -> int | None:
        """The number of the first letter with this id, or None."""
        for (number,) in self._rows("SELECT min(number) FROM letter WHERE message_id = ?", message_id):
            return number
        return None

    def letters(self) -> list[Letter]:
        """All letters in the order in which they came."""
        rows = self._rows("SELECT number, message_id, recipient, answered FROM letter ORDER BY number")
        return [
            Letter(number, message_id, recipient, bool(answered)) for number, message_id, recipient, answered in rows
        ]

    def unanswered(self) -> set[str]:
        """The ids of letters that were taken, and whose senders do not know it."""
        return {message_id for (message_id,) in self._rows("SELECT message_id FROM letter WHERE NOT answered")}

    def refused(self) -> list[str]:
        """The ids of letters that were sent away, each time."""
        return [message_id for (message_id,) in self._rows("SELECT message_id FROM refusal")]

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()
