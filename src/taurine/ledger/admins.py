"""People who log in with a password, and the sessions that they have."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from taurine.ledger.schema import admin, session

__all__ = [
    "AdminRow",
    "SessionRow",
    "end_session",
    "end_sessions_of",
    "find_admin",
    "find_session",
    "insert_admin",
    "insert_session",
    "list_admins",
    "note_session_seen",
    "remove_admin",
    "set_password_hash",
]


class AdminRow(NamedTuple):
    """One person. Times: ms since the epoch; password_at: when the password was set."""

    name: str
    password_hash: str
    role: str
    tenant: str | None
    created_at: int
    password_at: int


class SessionRow(NamedTuple):
    """One session.

    token_hash: SHA-256 of what the cookie holds, hexadecimal. source: "password" or "oidc". scopes: words with a space
    between them. Times: ms since the epoch.
    """

    token_hash: str
    name: str
    source: str
    scopes: str
    tenant: str | None
    created_at: int
    seen_at: int
    expires_at: int


def insert_admin(connection: Connection, row: AdminRow) -> None:
    """Put in a person. Raises IntegrityError for a name that is taken."""
    connection.execute(insert(admin).values(row._asdict()))


def find_admin(connection: Connection, name: str) -> AdminRow | None:
    """The person of this name, or None."""
    row = connection.execute(select(admin).where(admin.c.name == name)).one_or_none()
    return None if row is None else AdminRow(*row)


def list_admins(connection: Connection) -> list[AdminRow]:
    """All of them, by name."""
    return [AdminRow(*row) for row in connection.execute(select(admin).order_by(admin.c.name))]


def remove_admin(connection: Connection, name: str) -> bool:
    """Remove a person with all sessions; True where there was one."""
    end_sessions_of(connection, name)
    return connection.execute(delete(admin).where(admin.c.name == name)).rowcount > 0


def set_password_hash(connection: Connection, name: str, password_hash: str, at: int | None) -> bool:
    """Set the hash of a password; True where there is such a person.

    at: when the password was set, ms since the epoch; None where it is the same as before.
    """
    values: dict[str, Any] = {"password_hash": password_hash}
    if at is not None:
        values["password_at"] = at
    return connection.execute(update(admin).where(admin.c.name == name).values(values)).rowcount > 0


def insert_session(connection: Connection, row: SessionRow) -> None:
    """Put in a session; those that have expired go."""
    connection.execute(delete(session).where(session.c.expires_at <= row.created_at))
    connection.execute(insert(session).values(row._asdict()))


def find_session(connection: Connection, token_hash: str) -> SessionRow | None:
    """The session of this hash, expired or not, or None."""
    row = connection.execute(select(session).where(session.c.token_hash == token_hash)).one_or_none()
    return None if row is None else SessionRow(*row)


def note_session_seen(connection: Connection, token_hash: str, at: int) -> None:
    """Note that a session was used. at: ms since the epoch."""
    connection.execute(update(session).where(session.c.token_hash == token_hash).values(seen_at=at))


def end_session(connection: Connection, token_hash: str) -> bool:
    """End a session; True where there was one."""
    return connection.execute(delete(session).where(session.c.token_hash == token_hash)).rowcount > 0


def end_sessions_of(connection: Connection, name: str) -> int:
    """End the sessions that began with this person's password; returns how many."""
    mine = delete(session).where(session.c.name == name, session.c.source == "password")
    return connection.execute(mine).rowcount
