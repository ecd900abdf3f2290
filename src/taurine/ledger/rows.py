"""Many rows in one statement.

A statement for each row would cost PostgreSQL a round of parsing and planning each. It would cost a program with SQLite
more: the driver gives up Python's lock at each of them and has to get it back from a busy event loop; in one statement
the writer works beside the loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    CursorResult,
    Executable,
    Insert,
    Select,
    Subquery,
    Table,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

__all__ = ["OverRows", "bound", "insert_ignore", "is_postgresql", "later", "upsert"]


_MOST_CHARACTERS = 16 * 1024 * 1024
"""Of the JSON in one statement; each is at most four bytes."""

_ROWS_ENCODED_AT_ONCE = 100
"""Enough that the encoder is called rarely, few enough that long rows are not all encoded at once."""


def is_postgresql(connection: Connection) -> bool:
    """True for PostgreSQL, False for SQLite; there is no third."""
    return connection.dialect.name == "postgresql"


def insert_ignore(connection: Connection, table: Table) -> Insert:
    """An insert that leaves a row alone which a unique constraint finds there already."""
    kind = postgresql if is_postgresql(connection) else sqlite
    return kind.insert(table).on_conflict_do_nothing()


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert to which the caller adds what is to become of a row that is there already."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def bound(column: Column[Any]) -> Any:
    """A value for this column, given as `<its name>_value`: a parameter of the column's own name is SQLAlchemy's."""
    return bindparam(f"{column.name}_value", type_=column.type)


def later(one: Any, other: Any) -> Any:
    """The greater of two times, as SQL: the clock of this machine may be behind the one that wrote before."""
    # SQLite and PostgreSQL have no name for this in common.
    return case((one > other, one), else_=other)


class OverRows:
    """A statement over many rows, which reach the database as one value: as arrays, one for each column, or as JSON.

    build: makes the statement from a subquery with one row for each row, and columns as in `table`. It is called once
    for each kind of database.
    """

    def __init__(self, table: Table, columns: Sequence[str], build: Callable[[Subquery], Executable]) -> None:
        self._names = [f"{name}_values" for name in columns]
        self._over_arrays = build(_from_arrays(table, columns).subquery("given"))
        self._over_json = build(_from_json(table, columns).subquery("given"))

    def execute(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
        """Run it; returns how many rows of the table it concerned.

        rows: at least one, each in the order of the columns.
        """
        if is_postgresql(connection):
            return self._execute_arrays(connection, rows).rowcount
        return sum(connection.execute(self._over_json, {"rows": text}).rowcount for text in _as_json(rows))

    def returned(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """Run a statement for PostgreSQL that returns one column; returns its values."""
        return self._execute_arrays(connection, rows).scalars().all()

    def _execute_arrays(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> CursorResult[Any]:
        arrays = (list(column) for column in zip(*rows, strict=True))
        return connection.execute(self._over_arrays, dict(zip(self._names, arrays, strict=True)))


def _as_json(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The rows as JSON arrays that SQLite takes, whose values end at 10^9 bytes: of some megabytes each, unless a row
    alone has more.
    """
    whole: list[str] = []
    length = 0
    for first in range(0, len(rows), _ROWS_ENCODED_AT_ONCE):
        for text in _encoded(rows[first : first + _ROWS_ENCODED_AT_ONCE]):
            if whole and length + len(text) > _MOST_CHARACTERS:
                yield f"[{','.join(whole)}]"
                whole, length = [], 0
            whole.append(text[1:-1])
            length += len(text)
    yield f"[{','.join(whole)}]"


def _encoded(rows: Sequence[Sequence[Any]]) -> list[str]:
    text = json.dumps(rows, ensure_ascii=False)
    if len(text) <= _MOST_CHARACTERS or len(rows) == 1:
        return [text]
    middle = len(rows) // 2
    return _encoded(rows[:middle]) + _encoded(rows[middle:])


def _from_arrays(table: Table, columns: Sequence[str]) -> Select[Any]:
    arrays = [bindparam(f"{name}_values", type_=ARRAY(table.c[name].type)) for name in columns]
    source = func.unnest(*arrays).table_valued(*(Column(name, table.c[name].type) for name in columns))
    given = source.render_derived("v")
    return select(*(given.c[name] for name in columns))


def _from_json(table: Table, columns: Sequence[str]) -> Select[Any]:
    row = func.json_each(bindparam("rows", type_=Text())).table_valued("value", name="v")
    members = (
        func.json_extract(row.c.value, literal_column(f"'$[{place}]'"), type_=table.c[name].type).label(name)
        for place, name in enumerate(columns)
    )
    return select(*members)
