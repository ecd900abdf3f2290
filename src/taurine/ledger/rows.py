"""Many rows in one statement.

SQLite runs a statement once for each row inside one call of its driver. PostgreSQL gets one statement over arrays, one for each column: a statement for
each row would cost it a round of parsing and planning each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Insert, Select, Table, bindparam, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

__all__ = ["insert_ignore", "is_postgresql", "later", "upsert", "values_of", "values_table"]


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


def later(one: Any, other: Any) -> Any:
    """The greater of two times, as SQL: the clock of this machine may be behind the one that wrote before."""
    # SQLite and PostgreSQL have no name for this in common.
    return case((one > other, one), else_=other)


def values_table(table: Table, columns: Sequence[str]) -> Select[Any]:
    """A select over arrays bound as `<column>_values`: row after row, typed as the table's columns."""
    arrays = [bindparam(f"{name}_values", type_=ARRAY(table.c[name].type)) for name in columns]
    source = (
        func.unnest(*arrays).table_valued(*(Column(name, table.c[name].type) for name in columns)).render_derived("v")
    )
    return select(*(source.c[name] for name in columns))


def values_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    """The arrays of `values_table`, from rows."""
    return {f"{name}_values": [row[name] for row in rows] for name in columns}
