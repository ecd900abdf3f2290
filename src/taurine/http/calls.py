"""A call: what a route works with, once its caller is known, may call, and the application is open. `call: ReadCall`.

That there is no other way to a route's work is what keeps tenants apart and answers bounded, so each route takes one of
the kinds below; those without a caller, such as probes and logins, say why in their own files.

A caller that is bound, as those with a public token may be, reaches only what it is bound to. Which that is follows
from the parameters in the route's path, so their names are part of this contract: `job_id` is a job, `tag` a tag,
`type` a job type that something is put in of. Every other route refuses a bound caller.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from taurine.app import Taurine
from taurine.errors import AccessError, Forbidden
from taurine.http.access.caller import Caller, Scope
from taurine.http.api import Api, api_of
from taurine.http.patience import InTime
from taurine.http.problems import Refusal
from taurine.http.representations import Shown
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.attempts import Attempt
from taurine.ledger.job_logs import NumberedLine
from taurine.ledger.records import JobRecord

__all__ = [
    "AdminCall",
    "Call",
    "EnqueueCall",
    "KnownCall",
    "OperateAllCall",
    "OperateCall",
    "ReadAllCall",
    "ReadCall",
    "calls",
    "noted_refusals",
    "require_no_tenant",
    "tenant_for",
]

_QUEUES = 5.0
"""Seconds more for what goes to the server of queues as well, which has limits of its own."""

_LOOKING_THROUGH = 2e-6
"""Seconds more for each character of payloads and results: a few times what it takes to look through them for secrets."""

ResultT = TypeVar("ResultT")


class TenantUnknown(Refusal):
    """Another tenant's affairs are none of this caller's: there is no such tenant, as far as it can tell."""

    status, code, title = 404, "tenant_not_found", "There is no such tenant"


class Call:
    """One request of a known caller. The limit on the time of its answer is already running."""

    def __init__(self, api: Api, request: HTTPConnection, caller: Caller, limit: InTime) -> None:
        self.api = api
        self.request = request
        self.caller = caller
        self._limit = limit

    @property
    def app(self) -> Taurine:
        """The application, open."""
        return self.api.app

    @property
    def tenant(self) -> str | None:
        """The only tenant whose affairs there are for the caller; None for all."""
        return self.caller.tenant

    @property
    def user(self) -> str:
        """The caller, as the audit names it."""
        return self.caller.name

    def tenant_for(self, asked: str | None) -> str | None:
        """The tenant whose affairs the request is about; None for all.

        Raises TenantUnknown where that is not the caller's.
        """
        return tenant_for(self.caller, asked)

    @cached_property
    def redact(self) -> Redact:
        """What the caller must not see."""
        return self.api.gate.redact_for(self.caller)

    @cached_property
    def shown(self) -> Shown:
        """Makes documents for the caller."""
        return Shown(self.request, redact=self.redact, payloads=self.api.payloads, inside=self.caller.sees_all)

    async def job(self, record: JobRecord) -> dict[str, Any]:
        """A record as a document."""
        return await self.aside(record.text_size, lambda: self.shown.job(record))

    async def jobs(self, records: Sequence[JobRecord]) -> list[dict[str, Any]]:
        """Records as documents."""
        size = sum(record.text_size for record in records)
        return await self.aside(size, lambda: [*map(self.shown.job, records)])

    async def attempts(self, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
        """Attempts as documents."""
        size = sum(len(attempt.error_json or "") for attempt in attempts)
        return await self.aside(size, lambda: [*map(self.shown.attempt, attempts)])

    async def lines(self, lines: Sequence[NumberedLine]) -> list[dict[str, Any]]:
        """Lines of a job's log as documents."""
        size = sum(len(line.message) for line in lines)
        return await self.aside(size, lambda: [*map(self.shown.line, lines)])

    async def aside(self, size: int, make: Callable[[], ResultT]) -> ResultT:
        """Documents of so many characters, without holding up others; the answer may take the longer for them."""
        self.may_take(size * _LOOKING_THROUGH)
        return await self.api.aside.make(size, make, tenant=self.tenant)

    def may_take(self, seconds: float | None) -> None:
        """Give the answer so many seconds more; None for as long as it takes."""
        self._limit.extend(seconds)


def tenant_for(caller: Caller, asked: str | None) -> str | None:
    """The tenant whose affairs a request is about; None for all. Raises TenantUnknown where that is not the caller's."""
    if caller.sees_all:
        return asked
    if asked not in (None, caller.tenant):
        raise TenantUnknown(f"there is no tenant {asked!r:.80}")
    return caller.tenant


@contextmanager
def noted_refusals(api: Api, caller: Caller) -> Generator[None]:
    """Count what a known caller is refused in the block, so that operators hear of who tries again and again."""
    try:
        yield
    except (AccessError, TenantUnknown) as error:
        api.gate.refusals.note(caller.answerable, caller.tenant, error)
        raise


def calls(scope: Scope | None, *, heeds_tag: bool = False, of_all: bool = False, queues: bool = False) -> Any:
    """A dependency that gives the call of a request or WebSocket.

    It raises Unauthenticated (401) where nobody is known to call, Forbidden (403) for a caller without the scope, and
    LedgerUnavailable (503) for an answer that is not there in time.

    scope: None for anybody who is known. heeds_tag: the route shows only what has the tag of its query's `tag`, so that
    a caller who is bound to that tag may use it.
    of_all: what it shows or changes belongs to no tenant: callers with one get 403. queues: it goes to the server of
    queues as well.
    """

    async def call(connection: HTTPConnection) -> AsyncGenerator[Call]:
        api = api_of(connection)
        caller = await api.gate.caller(connection, scope, heeds_tag=heeds_tag)
        with noted_refusals(api, caller):
            if of_all:
                require_no_tenant(caller)
            await api.open()
            limit = api.in_time(_QUEUES if queues else 0.0)
            async with limit:
                yield Call(api, connection, caller, limit)

    # Of the function, not of the request: the limit is over before the answer is sent, which a stream does for hours.
    return Depends(call, scope="function")


def require_no_tenant(caller: Caller) -> None:
    """Raise Forbidden for a caller that has a tenant, or is bound: counts and names of all tenants' jobs would be in
    the answer.
    """
    if not caller.sees_all:
        raise Forbidden(f"{caller.name!r:.200} may not do this: it is for callers who belong to no tenant")


ReadCall: TypeAlias = Annotated[Call, calls("read")]
"""Looks at what is in the ledger: of the caller's tenant, if it has one."""

EnqueueCall: TypeAlias = Annotated[Call, calls("enqueue")]
"""Puts jobs in."""

OperateCall: TypeAlias = Annotated[Call, calls("operate", queues=True)]
"""Changes things: of the caller's tenant, if it has one."""

AdminCall: TypeAlias = Annotated[Call, calls("admin")]
"""Says who else may call."""

ReadAllCall: TypeAlias = Annotated[Call, calls("read", of_all=True, queues=True)]
"""Looks at what belongs to no tenant, such as queues and workers."""

OperateAllCall: TypeAlias = Annotated[Call, calls("operate", of_all=True, queues=True)]
"""Changes what belongs to no tenant."""

KnownCall: TypeAlias = Annotated[Call, calls(None)]
"""Whoever is known to call, whatever they may do."""
