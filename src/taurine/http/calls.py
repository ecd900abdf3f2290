"""What every route has at hand: the application, and the rules of its API."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import cast
from weakref import WeakSet

from starlette.requests import HTTPConnection

from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.http.access.caller import Caller
from taurine.http.access.gate import Gate
from taurine.http.problems import Refusal
from taurine.http.representations import Shown

__all__ = ["Api", "InTime", "TenantUnknown", "api_of", "tenant_for"]


class TenantUnknown(Refusal):
    """Another tenant's affairs are none of this caller's: there is no such tenant, as far as it can tell."""

    status, code, title = 404, "tenant_not_found", "There is no such tenant"


class Api:
    """One application's API, as its routes see it.

    payloads: whether payloads and results are shown at all. answer_seconds: how long a request may wait for the ledger before it is answered with 503.
    """

    def __init__(self, app: Taurine, gate: Gate, *, payloads: bool, answer_seconds: float) -> None:
        self.app = app
        self.gate = gate
        self.payloads = payloads
        self.answer_seconds = answer_seconds
        self._open: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    async def open(self) -> None:
        """Open the application on this event loop, unless it is: where the API is mounted, nobody else does."""
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            await self.app.open()
            self._open.add(loop)

    async def close(self) -> None:
        """Close what this event loop has open."""
        self._open.discard(asyncio.get_running_loop())
        await self.app.close()

    def shown(self, connection: HTTPConnection, caller: Caller | None) -> Shown:
        """Makes documents for this caller."""
        return Shown(connection, redact=self.gate.redact_for(caller), payloads=self.payloads)

    def in_time(self, seconds: float = 0.0) -> InTime:
        """Raise LedgerUnavailable where the block takes longer than a request may wait; and `seconds` more, for work that is known to be much."""
        return InTime(self.answer_seconds + seconds)


class InTime:
    """See `Api.in_time`. seconds: for the block."""

    __slots__ = ("_timeout",)

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise LedgerUnavailable(
                "the database gave no answer in time; a request with a job_id or an Idempotency-Key may safely be repeated"
            ) from None


def api_of(connection: HTTPConnection) -> Api:
    """The API that a request has come to."""
    return cast("Api", connection.app.state.api)


def tenant_for(caller: Caller, asked: str | None) -> str | None:
    """The tenant whose affairs a request is about; None for all. Raises TenantUnknown where that is not the caller's."""
    if caller.tenant is None and not caller.bound:
        return asked
    if asked not in (None, caller.tenant):
        raise TenantUnknown(f"there is no tenant {asked!r:.80}")
    return caller.tenant
