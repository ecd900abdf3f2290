"""Admins: people who log in with a password.

Adding and removing them, and finding out whether it is really one of them.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import cast

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from taurine.clock import now_ms
from taurine.errors import InvalidOption, LedgerError, TooManyTries, Unauthenticated, UnknownName
from taurine.jobs.backend import Backend
from taurine.jobs.credentials.api_keys import checked_name, checked_tenant
from taurine.jobs.credentials.passwords import Passwords, checked_password
from taurine.jobs.credentials.scopes import Role, Scope, scopes_of
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.ledger.admins import (
    AdminRow,
    end_sessions_of,
    find_admin,
    insert_admin,
    list_admins,
    remove_admin,
    set_password_hash,
)
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.buckets import Bucket
from taurine.ledger.login_tries import forget_tries, note_try

__all__ = ["Admin", "Admins"]

log = logging.getLogger("taurine.access")

_OF_NAME = Bucket(10, 300_000)
"""Tries for one name: ten at once, and one each half minute after that."""

_OF_ADDRESS = Bucket(50, 300_000)
"""Tries from one address, behind which there may be an office: fifty at once, ten a minute after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """One person.

    tenant: the only one whose jobs they see; None for all. created, password_set: wall seconds since the epoch.
    """

    name: str
    role: Role
    tenant: str | None
    created: float
    password_set: float

    @property
    def scopes(self) -> frozenset[Scope]:
        """What the role stands for."""
        return scopes_of(self.role)


class Admins:
    """The people who log in with a password: `Taurine.admins`."""

    def __init__(
        self, backend: Callable[[], Backend], authorize: Authorize | None, passwords: Passwords | None = None
    ) -> None:
        self._backend_here = backend
        self._authorize = authorize
        self._passwords = passwords

    async def add(
        self, name: str, password: str, *, role: str = "admin", tenant: str | None = None, user: str | None = None
    ) -> Admin:
        """Add a person.

        name: what they log in with, and what the audit says. password: 12 characters or more; a hash of it is kept.

        role: "viewer" reads; "operator" also enqueues, and runs the affairs of jobs and queues; "admin" may do
        everything. Default: "admin". tenant: the only one whose jobs they see. Default: all. user: who asks for it; the
        audit says so. Raises InvalidOption, also for a name that is taken, NotAuthorized, LedgerUnavailable.
        """
        checked_name(name)
        checked_tenant(tenant)
        scopes_of(role)
        backend = await self._ready("add_admin", tenant, user)
        hashed = await self._hasher().hash(checked_password(password))
        now = now_ms(backend.clock)
        row = AdminRow(name=name, password_hash=hashed, role=role, tenant=tenant, created_at=now, password_at=now)
        entry = AuditEntry(now, user, "add_admin", None, tenant, json.dumps({"admin": name, "role": role}))
        try:
            await backend.database.write(
                lambda connection: (insert_admin(connection, row), record_actions(connection, [entry]))
            )
        except IntegrityError:
            raise InvalidOption(
                f"there is an admin {name!r} already; `taurine admins password` changes the password"
            ) from None
        return _admin(row)

    async def list(self) -> builtins.list[Admin]:
        """All of them, by name. Raises LedgerUnavailable."""
        backend = self._backend_here()
        await backend.ready()
        return [_admin(row) for row in await backend.database.read(list_admins)]

    async def remove(self, name: str, *, user: str | None = None) -> None:
        """Remove a person; their sessions end at once.

        Raises UnknownName, NotAuthorized, LedgerUnavailable.
        """
        backend = await self._ready("remove_admin", None, user)
        entry = AuditEntry(now_ms(backend.clock), user, "remove_admin", None, None, json.dumps({"admin": name}))

        def write(connection: Connection) -> bool:
            removed = remove_admin(connection, name)
            if removed:
                record_actions(connection, [entry])
            return removed

        if not await backend.database.write(write):
            raise _unknown(name)

    async def set_password(self, name: str, password: str, *, user: str | None = None) -> None:
        """Give a person another password; their sessions end at once.

        Raises UnknownName, NotAuthorized, LedgerUnavailable.
        """
        backend = await self._ready("set_password", None, user)
        hashed = await self._hasher().hash(checked_password(password))
        now = now_ms(backend.clock)
        entry = AuditEntry(now, user, "set_password", None, None, json.dumps({"admin": name}))

        def write(connection: Connection) -> bool:
            there = set_password_hash(connection, name, hashed, now)
            if there:
                end_sessions_of(connection, name)
                record_actions(connection, [entry])
            return there

        if not await backend.database.write(write):
            raise _unknown(name)

    async def check(self, name: str, password: str, *, address: str | None = None) -> Admin:
        """The person, if this is their password.

        address: where the caller is; tries are limited for each name and each address, over all processes, and a try
        counts from before its password is looked at. A name that there is not costs the same work, and gets the same
        answer, as a wrong password. A login that fails is logged.
        Raises Unauthenticated for a wrong one, TooManyTries, LedgerUnavailable.
        """
        backend = self._backend_here()
        await backend.ready()
        await self._note_try(backend, name, address)
        row = await backend.database.read(lambda connection: find_admin(connection, name[:1000]))
        passwords = self._hasher()
        if not await passwords.verify(row and row.password_hash, password[:10_000]) or row is None:
            log.warning("a login as %r from %s failed", backend.redact.text(name[:100]), address or "nowhere known")
            raise Unauthenticated("the name or the password is wrong", challenge='Session realm="taurine"')
        await backend.database.write(lambda connection: forget_tries(connection, _subject("name", name)))
        await self._renew_hash(backend, passwords, row, password)
        return _admin(row)

    async def _note_try(self, backend: Backend, name: str, address: str | None) -> None:
        buckets = {_subject("name", name): _OF_NAME}
        if address is not None:
            buckets[_subject("address", _network(address))] = _OF_ADDRESS
        now = now_ms(backend.clock)
        wait = await backend.database.write(lambda connection: note_try(connection, buckets, now))
        if wait:
            log.warning("too many logins as %r from %s", backend.redact.text(name[:100]), address or "nowhere known")
            raise TooManyTries(
                f"too many logins of late; try again in {-(-wait // 1000)} s",
                retry_after=wait / 1000,
            )

    async def _renew_hash(self, backend: Backend, passwords: Passwords, row: AdminRow, password: str) -> None:
        if not passwords.is_dated(row.password_hash):
            return
        hashed = await passwords.hash(password)
        with suppress(LedgerError):  # the old one holds too
            await backend.database.write(lambda connection: set_password_hash(connection, row.name, hashed, None))

    def _hasher(self) -> Passwords:
        if self._passwords is None:
            self._passwords = Passwords()
        return self._passwords

    async def _ready(self, action: str, tenant: str | None, user: str | None) -> Backend:
        await authorized(self._authorize, AccessRequest(action=action, job_type="", tenant=tenant, user=user))
        backend = self._backend_here()
        await backend.ready()
        return backend


def _subject(kind: str, value: str) -> str:
    """As it stands in the table: of one length, whatever is tried, and nothing that could be read back."""
    return hashlib.blake2b(f"{kind}:{value}".encode(errors="replace"), digest_size=16).hexdigest()


def _network(address: str) -> str:
    """Who has one address of version 6 has a whole network of them."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)


def _unknown(name: str) -> UnknownName:
    return UnknownName(f"there is no admin {name!r:.80}; `taurine admins list` shows them")


def _admin(row: AdminRow) -> Admin:
    return Admin(
        name=row.name,
        role=cast("Role", row.role),
        tenant=row.tenant,
        created=row.created_at / 1000,
        password_set=row.password_at / 1000,
    )
