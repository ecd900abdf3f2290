"""Sessions: what a cookie stands for after a login."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from taurine.clock import now_ms
from taurine.errors import LedgerError
from taurine.jobs.backend import Backend
from taurine.jobs.credentials.api_keys import checked_name, checked_tenant
from taurine.jobs.credentials.scopes import Scope, checked_scopes
from taurine.ledger.admins import SessionRow, end_session, find_session, insert_session, note_session_seen
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.options import Seconds, to_milliseconds

__all__ = ["LoginSource", "Session", "Sessions"]

LoginSource: TypeAlias = Literal["password", "oidc"]
"""How somebody logged in."""

_NOTE_AFTER_MS = 60_000
"""A use is noted when the last one that was is older, or a tenth of the idle life, so that a busy session costs one
write a minute.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session. created, expires: wall seconds since the epoch; it may end before, by idleness or logout."""

    name: str
    source: LoginSource
    scopes: frozenset[Scope]
    tenant: str | None
    created: float
    expires: float


class Sessions:
    """The sessions of an application: `Taurine.sessions`."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend_here = backend

    async def open(
        self,
        name: str,
        *,
        source: LoginSource,
        scopes: Iterable[str],
        tenant: str | None = None,
        life: Seconds = 43_200.0,
        address: str | None = None,
    ) -> str:
        """Begin a session for somebody who has proved who they are; returns its token, of which a hash is kept.

        life: seconds that it lasts, however busy it is. Default: 12 hours. address: where the login came from, for the
        audit. Raises InvalidOption, LedgerUnavailable.
        """
        backend = self._backend_here()
        token = secrets.token_urlsafe(32)
        now = now_ms(backend.clock)
        row = SessionRow(
            token_hash=_hash(token),
            name=checked_name(name),
            source=source,
            scopes=" ".join(sorted(checked_scopes(scopes))),
            tenant=checked_tenant(tenant),
            created_at=now,
            seen_at=now,
            expires_at=now + to_milliseconds(life, "life", minimum=1.0),
        )
        entry = AuditEntry(now, name, "log_in", None, tenant, json.dumps({"source": source, "address": address}))
        await backend.ready()
        await backend.database.write(
            lambda connection: (insert_session(connection, row), record_actions(connection, [entry]))
        )
        return token

    async def find(self, token: str, *, idle: Seconds = 3600.0) -> Session | None:
        """The session of a token, whose use is noted; None for one that is unknown or over.

        idle: seconds without use after which it is. Raises LedgerUnavailable.
        """
        backend = self._backend_here()
        await backend.ready()
        hashed = _hash(token)
        row = await backend.database.read(lambda connection: find_session(connection, hashed))
        now, idle_ms = now_ms(backend.clock), to_milliseconds(idle, "idle")
        if row is None or now >= row.expires_at or now >= row.seen_at + idle_ms:
            return None
        if now - row.seen_at >= min(_NOTE_AFTER_MS, idle_ms // 10):
            with suppress(LedgerError):  # it ends a little earlier then
                await backend.database.write(lambda connection: note_session_seen(connection, hashed, now))
        return _session(row)

    async def close(self, token: str) -> bool:
        """End a session at once, in all processes; False where there is none. Raises LedgerUnavailable."""
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.write(lambda connection: end_session(connection, _hash(token)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _session(row: SessionRow) -> Session:
    return Session(
        name=row.name,
        source=cast("LoginSource", row.source),
        scopes=checked_scopes(row.scopes.split()),
        tenant=row.tenant,
        created=row.created_at / 1000,
        expires=row.expires_at / 1000,
    )
