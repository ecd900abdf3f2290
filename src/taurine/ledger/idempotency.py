"""Clients' own keys for their requests: whoever comes first takes a key, and repeats of the request find the job that
it became.

A key has a life of its own: it protects after the job's record is gone, and ends while the record may still be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql

from taurine.ledger.rows import is_postgresql
from taurine.ledger.schema import idempotency

__all__ = ["IdempotencyKey", "KeyClaim", "KeyHolder", "release_keys", "take_keys"]

_KEYS_AT_ONCE = 200
"""Keys in one query, of two variables each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A client's key.

    scope: the tenant, or '' for none. request_hash: the same for the same request. expires_at: ms since the epoch.
    """

    scope: str
    key: str
    request_hash: str
    expires_at: int

    @property
    def name(self) -> tuple[str, str]:
        """What it is found by."""
        return self.scope, self.key


class KeyClaim(NamedTuple):
    """A request that wants its key for the job that it is to become. at: now, ms since the epoch."""

    key: IdempotencyKey
    job_id: str
    at: int


class KeyHolder(NamedTuple):
    """Who holds a key. taken: True when the claim at hand has just taken it."""

    job_id: str
    request_hash: str
    taken: bool


def take_keys(connection: Connection, claims: Sequence[KeyClaim]) -> dict[tuple[str, str], KeyHolder]:
    """Take keys that are free or expired; returns who holds each of the keys now. At most one claim of each key.

    Of two transactions that want a key the second waits for the first, so exactly one takes it.
    """
    # Everybody takes keys in one order: two transactions cannot wait for each other.
    claims = sorted(claims, key=lambda claim: claim.key.name)
    taken = (_take_or_wait if is_postgresql(connection) else _take_under_lock)(connection, claims)
    held = _holders(connection, [claim.key.name for claim in claims if claim.key.name not in taken])
    return {
        claim.key.name: KeyHolder(claim.job_id, claim.key.request_hash, taken=True)
        for claim in claims
        if claim.key.name in taken
    } | {name: KeyHolder(row.job_id, row.request_hash, taken=False) for name, row in held.items()}


def _take_or_wait(connection: Connection, claims: Sequence[KeyClaim]) -> set[tuple[str, str]]:
    wanted = postgresql.insert(idempotency).values([_row(claim) for claim in claims])
    statement = wanted.on_conflict_do_update(
        index_elements=[idempotency.c.scope, idempotency.c.key],
        set_={name: wanted.excluded[name] for name in ("job_id", "request_hash", "created_at", "expires_at")},
        where=idempotency.c.expires_at <= wanted.excluded.created_at,
    ).returning(idempotency.c.scope, idempotency.c.key)
    return {(row.scope, row.key) for row in connection.execute(statement)}


def _take_under_lock(connection: Connection, claims: Sequence[KeyClaim]) -> set[tuple[str, str]]:
    """This transaction holds SQLite's one write lock: what is read here stays so."""
    held = _holders(connection, [claim.key.name for claim in claims])
    free = [claim for claim in claims if claim.key.name not in held]
    expired = [claim for claim in claims if claim.key.name in held and held[claim.key.name].expires_at <= claim.at]
    if free:
        connection.execute(insert(idempotency), [_row(claim) for claim in free])
    for claim in expired:
        connection.execute(update(idempotency).where(_is(claim.key)).values(_row(claim)))
    return {claim.key.name for claim in (*free, *expired)}


def _is(key: IdempotencyKey) -> Any:
    return (idempotency.c.scope == key.scope) & (idempotency.c.key == key.key)


def _holders(connection: Connection, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for first in range(0, len(names), _KEYS_AT_ONCE):
        wanted = tuple_(idempotency.c.scope, idempotency.c.key).in_(names[first : first + _KEYS_AT_ONCE])
        found |= {(row.scope, row.key): row for row in connection.execute(select(idempotency).where(wanted))}
    return found


def _row(claim: KeyClaim) -> dict[str, Any]:
    return {
        "scope": claim.key.scope,
        "key": claim.key.key,
        "job_id": claim.job_id,
        "request_hash": claim.key.request_hash,
        "created_at": claim.at,
        "expires_at": claim.key.expires_at,
    }


def release_keys(connection: Connection, claims: Sequence[KeyClaim]) -> None:
    """Give keys back that were taken in this transaction, since nothing came of their requests."""
    for claim in claims:
        connection.execute(delete(idempotency).where(_is(claim.key), idempotency.c.job_id == claim.job_id))
