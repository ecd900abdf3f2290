"""API keys: making, listing and revoking them, and telling whose one is.

A key reads `taurine_<id>_<secret>`: a fixed beginning that scanners for secrets find, 16 hexadecimal digits that name
it in lists and logs, and 64 of a 256-bit secret, of which SHA-256 is kept. The secret is chance, so that a slow hash,
as for passwords, would add nothing to it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import InvalidOption, LedgerError, Unauthenticated, UnknownName
from taurine.jobs.backend import Backend
from taurine.jobs.credentials.scopes import Scope, checked_scopes
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.ledger.api_keys import (
    ApiKeyRow,
    any_credential,
    find_api_key,
    insert_api_key,
    list_api_keys,
    note_use_of_api_key,
    revoke_api_key,
)
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.options import Seconds, to_milliseconds
from taurine.paging import Listing

__all__ = ["KEY_PATTERN", "ApiKey", "ApiKeys", "NewApiKey", "checked_name", "checked_tenant"]

KEY_PATTERN = re.compile(r"taurine_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
"""The form of a key: its id, its secret."""

_NOTE_AFTER_MS = 60_000
"""A use is noted when the last one that was is older, so that a busy key costs one write a minute."""

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key, without its secret.

    name: who has it, as the audit says. tenant: the only one whose jobs it reaches; None for all.

    created, expires, last_used, revoked: wall seconds since the epoch. last_used: to about a minute. None for never.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    tenant: str | None
    created: float
    created_by: str | None
    expires: float | None
    last_used: float | None
    revoked: float | None

    def valid(self, now: float) -> bool:
        """Whether it was neither revoked nor has expired. now: wall seconds."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key that was just made. text: the key itself, which nobody can show again."""

    text: str = field(repr=False)
    key: ApiKey


class ApiKeys:
    """The API keys of an application: `Taurine.api_keys`."""

    def __init__(self, backend: Callable[[], Backend], authorize: Authorize | None) -> None:
        self._backend_here = backend
        self._authorize = authorize

    async def create(
        self,
        name: str,
        *,
        scopes: Iterable[str],
        tenant: str | None = None,
        expires_in: Seconds | None = None,
        user: str | None = None,
    ) -> NewApiKey:
        """Make a key. Its text is in the answer and nowhere else.

        name: who will have it; the audit names its user so. scopes: of "enqueue", "read", "operate", "admin". tenant:
        the only one whose jobs it reaches.
        Default: all. expires_in: seconds until it ends. Default: never. user: who asks for it; the audit says so.
        Raises InvalidOption, NotAuthorized, LedgerUnavailable.
        """
        backend = self._backend_here()
        now = now_ms(backend.clock)
        key_id, secret = secrets.token_hex(8), secrets.token_hex(32)
        row = ApiKeyRow(
            id=key_id,
            secret_hash=_hash(secret),
            name=checked_name(name),
            scopes=" ".join(sorted(checked_scopes(scopes))),
            tenant=checked_tenant(tenant),
            created_at=now,
            created_by=user,
            expires_at=None if expires_in is None else now + to_milliseconds(expires_in, "expires_in", minimum=0.001),
        )
        await authorized(self._authorize, AccessRequest(action="create_key", job_type="", tenant=tenant, user=user))
        detail = json.dumps({"key": key_id, "name": name, "scopes": row.scopes.split(), "expires_at": row.expires_at})
        entry = AuditEntry(now, user, "create_key", None, tenant, detail)
        await backend.ready()
        await backend.database.write(
            lambda connection: (insert_api_key(connection, row), record_actions(connection, [entry]))
        )
        return NewApiKey(text=f"taurine_{key_id}_{secret}", key=_api_key(row))

    def list(self, *, tenant: str | None = None, cursor: str | None = None, limit: int = 500) -> Listing[ApiKey]:
        """Keys, the newest first, expired and revoked ones included: `await` gives one page, `async for` goes over all.

        tenant: those of this tenant. Default: all. cursor: `next_cursor` of the page before. limit: 1 to 500. Default:
        500. Raises InvalidOption, LedgerUnavailable.
        """

        async def fetch(position: str | None) -> tuple[Sequence[ApiKey], str | None]:
            backend = self._backend_here()
            await backend.ready()
            rows, after = await backend.database.read(
                lambda connection: list_api_keys(connection, tenant, cursor=position, limit=limit)
            )
            return [_api_key(row) for row in rows], after

        return Listing(fetch, cursor)

    async def revoke(self, key_id: str, *, tenant: str | None = None, user: str | None = None) -> ApiKey:
        """End a key for good; returns it.

        Processes that have just seen it let it pass for some seconds more, see `Access(heard_within=…)`.

        key_id: the 16 digits; the whole key is taken too. tenant: a key of another tenant is none then. user: who asks
        for it; the audit says so.
        Repeating it changes nothing. Raises UnknownName, NotAuthorized, LedgerUnavailable.
        """
        backend = self._backend_here()
        await backend.ready()
        if (whole := KEY_PATTERN.fullmatch(key_id)) is not None:
            key_id = whole[1]
        found = await backend.database.read(lambda connection: find_api_key(connection, key_id))
        if found is None or (tenant is not None and found.tenant != tenant):
            raise UnknownName(f"there is no API key {key_id!r:.40}; `taurine keys list` shows them")
        await authorized(
            self._authorize, AccessRequest(action="revoke_key", job_type="", tenant=found.tenant, user=user)
        )
        now = now_ms(backend.clock)
        detail = json.dumps({"key": key_id, "name": found.name})

        def revoke(connection: Connection) -> ApiKeyRow | None:
            if revoke_api_key(connection, key_id, now):
                record_actions(connection, [AuditEntry(now, user, "revoke_key", None, found.tenant, detail)])
            return find_api_key(connection, key_id)

        return _api_key(await backend.database.write(revoke) or found)

    async def verify(self, text: str) -> ApiKey:
        """The key that this text is, whose use is noted. One read, of one row.

        Raises Unauthenticated for one that is unknown, expired or revoked, LedgerUnavailable.
        """
        match = KEY_PATTERN.fullmatch(text)
        if match is None:
            raise Unauthenticated("this is no API key; one reads taurine_<id>_<secret>")
        backend = self._backend_here()
        await backend.ready()
        row = await backend.database.read(lambda connection: find_api_key(connection, match[1]))
        # Compared before it is looked at whether there is one: what takes how long says nothing about ids.
        known = hmac.compare_digest(_hash(match[2]), row.secret_hash if row is not None else "")
        now = backend.clock.now()
        if row is None or not known or not (key := _api_key(row)).valid(now):
            raise Unauthenticated("the API key is unknown, has expired or was revoked")
        await self._note_use(backend, row, round(now * 1000))
        return key

    async def any_credential(self) -> bool:
        """Whether there is a key, valid or not, or an admin. Raises LedgerUnavailable."""
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.read(any_credential)

    async def _note_use(self, backend: Backend, row: ApiKeyRow, now: int) -> None:
        before = now - _NOTE_AFTER_MS
        if row.last_used_at is not None and row.last_used_at >= before:
            return
        with suppress(LedgerError):  # a list that is out of date is no reason to refuse a caller
            await backend.database.write(lambda connection: note_use_of_api_key(connection, row.id, now, before))


def checked_name(name: str) -> str:
    """`name`, if the audit can show it. Raises InvalidOption."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected a name of 1 to {_LONGEST_NAME} printable characters, got {name!r:.80}")
    return name


def checked_tenant(tenant: str | None) -> str | None:
    """`tenant`, if it can be one. Raises InvalidOption."""
    if tenant is not None and (not isinstance(tenant, str) or not tenant or not tenant.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected tenant to be printable text, got {tenant!r:.80}")
    return tenant


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _api_key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=checked_scopes(row.scopes.split()),
        tenant=row.tenant,
        created=row.created_at / 1000,
        created_by=row.created_by,
        expires=_seconds(row.expires_at),
        last_used=_seconds(row.last_used_at),
        revoked=_seconds(row.revoked_at),
    )


def _seconds(at: int | None) -> float | None:
    return None if at is None else at / 1000
