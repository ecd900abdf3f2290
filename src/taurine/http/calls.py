"""What every route has at hand: the application, and the rules of its API."""

from __future__ import annotations

import asyncio
from typing import cast
from weakref import WeakKeyDictionary, WeakSet

from starlette.requests import HTTPConnection

from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.http.access.caller import Caller
from taurine.http.access.gate import Gate
from taurine.http.patience import NO_ANSWER, InTime
from taurine.http.problems import Refusal
from taurine.http.representations import Shown

__all__ = ["Api", "TenantUnknown", "api_of", "tenant_for"]


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
        gate.answer_seconds = answer_seconds
        self._open: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()

    async def open(self) -> None:
        """Open the application on this event loop, unless it is: where the API is mounted, nobody else does.

        All requests wait for the same opening, each as long as it may; it goes on without them. Raises LedgerUnavailable.
        """
        loop = asyncio.get_running_loop()
        if loop in self._open:
            return
        opening = self._opening.get(loop)
        if opening is None:
            opening = self._opening[loop] = asyncio.create_task(self._open_on(loop), name="taurine api opens")
        await asyncio.wait({opening}, timeout=self.answer_seconds)
        if not opening.done():
            raise LedgerUnavailable(NO_ANSWER)
        opening.result()

    async def open_patiently(self) -> None:
        """The same for a server that starts: however long it takes."""
        await self._open_on(asyncio.get_running_loop())

    async def _open_on(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await self.app.open()
            self._open.add(loop)
        finally:
            self._opening.pop(loop, None)

    async def close(self) -> None:
        """Close what this event loop has open."""
        loop = asyncio.get_running_loop()
        self._open.discard(loop)
        if (opening := self._opening.pop(loop, None)) is not None:
            opening.cancel()
            await asyncio.wait({opening})
        await self.app.close()

    def shown(self, connection: HTTPConnection, caller: Caller | None) -> Shown:
        """Makes documents for this caller."""
        return Shown(connection, redact=self.gate.redact_for(caller), payloads=self.payloads)

    def in_time(self, seconds: float = 0.0) -> InTime:
        """Raise LedgerUnavailable where the block takes longer than a request may wait; and `seconds` more, for work that is known to be much."""
        return InTime(self.answer_seconds + seconds)


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
