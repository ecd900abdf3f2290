"""Tokens that may be used once: which of them were."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from taurine.ledger.rows import insert_ignore
from taurine.ledger.schema import used_token

__all__ = ["use_token"]


def use_token(connection: Connection, token_id: str, at: int, expires_at: int) -> bool:
    """Note that a token is used; False where it was used before. Of two at once one is the first.

    What has expired is forgotten. at, expires_at: ms since the epoch.
    """
    connection.execute(delete(used_token).where(used_token.c.expires_at < at))
    row = {"id": token_id, "used_at": at, "expires_at": expires_at}
    return connection.execute(insert_ignore(connection, used_token).values(row)).rowcount > 0
