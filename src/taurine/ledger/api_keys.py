"""API keys: what is kept of each is a hash, so that who reads the database can call nobody."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, insert, or_, select, tuple_, update

from taurine.ledger.listing import cursor_of, read_cursor
from taurine.ledger.numbered import require_limit
from taurine.ledger.schema import admin, api_key

__all__ = [
    "ApiKeyRow",
    "any_credential",
    "find_api_key",
    "insert_api_key",
    "list_api_keys",
    "note_use_of_api_key",
    "revoke_api_key",
]


class ApiKeyRow(NamedTuple):
    """One key.

    secret_hash: SHA-256, hexadecimal. scopes: words with a space between them. tenant: None for all. Times: ms since
    the epoch.

    last_used_at: to about a minute; None for never. revoked_at: None for a key that was not revoked.
    """

    id: str
    secret_hash: str
    name: str
    scopes: str
    tenant: str | None
    created_at: int
    created_by: str | None
    expires_at: int | None
    last_used_at: int | None = None
    revoked_at: int | None = None


def insert_api_key(connection: Connection, row: ApiKeyRow) -> None:
    """Put in a key. Raises IntegrityError for an id that is taken."""
    connection.execute(insert(api_key).values(row._asdict()))


def find_api_key(connection: Connection, key_id: str) -> ApiKeyRow | None:
    """The key of this id, revoked or not, or None."""
    row = connection.execute(select(api_key).where(api_key.c.id == key_id)).one_or_none()
    return None if row is None else ApiKeyRow(*row)


def list_api_keys(
    connection: Connection, tenant: str | None, *, cursor: str | None, limit: int
) -> tuple[list[ApiKeyRow], str | None]:
    """A page of the keys, the newest first, and the cursor of the page after it.

    tenant: those of this tenant; None for all. limit: 1 to 500.

    Raises InvalidOption, also for a cursor that no page gave.
    """
    wanted = select(api_key).order_by(api_key.c.created_at.desc(), api_key.c.id.desc()).limit(require_limit(limit) + 1)
    if tenant is not None:
        wanted = wanted.where(api_key.c.tenant == tenant)
    if cursor is not None:
        wanted = wanted.where(tuple_(api_key.c.created_at, api_key.c.id) < read_cursor(cursor))
    rows = connection.execute(wanted).all()
    return [ApiKeyRow(*row) for row in rows[:limit]], cursor_of(rows[limit - 1]) if len(rows) > limit else None


def revoke_api_key(connection: Connection, key_id: str, at: int) -> bool:
    """Revoke a key; True where it was not revoked before. at: ms since the epoch."""
    statement = update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=at)
    return connection.execute(statement).rowcount > 0


def note_use_of_api_key(connection: Connection, key_id: str, at: int, before: int) -> None:
    """Note that a key was used, unless a use since `before` is noted. at, before: ms since the epoch."""
    stale = or_(api_key.c.last_used_at.is_(None), api_key.c.last_used_at < before)
    connection.execute(update(api_key).where(api_key.c.id == key_id, stale).values(last_used_at=at))


def any_credential(connection: Connection) -> bool:
    """Whether there is a key, valid or not, or an admin: whether anybody has decided who may call."""
    keys = connection.execute(select(func.count()).select_from(select(api_key.c.id).limit(1).subquery())).scalar_one()
    if keys:
        return True
    admins = select(func.count()).select_from(select(admin.c.name).limit(1).subquery())
    return connection.execute(admins).scalar_one() > 0
