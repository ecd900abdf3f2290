"""One application's API: the application, and the rules of all routes."""

from __future__ import annotations

import asyncio
from typing import cast
from weakref import WeakKeyDictionary, WeakSet

from starlette.requests import HTTPConnection

from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.http.access.gate import Gate
from taurine.http.aside import Aside
from taurine.http.instruments import Instruments
from taurine.http.live.streams import Streams
from taurine.http.patience import NO_ANSWER, InTime

__all__ = ["Api", "api_of"]


class Api:
    """One application's API, as its routes see it.

    payloads: whether payloads and results are shown at all. answer_seconds: how long a request may wait for the ledger
    before it is answered with 503.
    """

    def __init__(
        self,
        app: Taurine,
        gate: Gate,
        *,
        aside: Aside,
        streams: Streams,
        instruments: Instruments,
        payloads: bool,
        answer_seconds: float,
    ) -> None:
        self.app = app
        self.gate = gate
        self.aside = aside
        self.streams = streams
        self.instruments = instruments
        self.payloads = payloads
        self.answer_seconds = answer_seconds
        self._open: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()

    async def open(self) -> None:
        """Open the application on this event loop, unless it is: where the API is mounted, nobody else does.

        All requests wait for the same opening, each as long as it may; it goes on without them. Raises
        LedgerUnavailable.
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

    def in_time(self, seconds: float = 0.0) -> InTime:
        """Raise LedgerUnavailable where the block takes longer than a request may; and `seconds` more, for work that is
        known to take them.
        """
        return InTime(self.answer_seconds + seconds)


def api_of(connection: HTTPConnection) -> Api:
    """The API that a request has come to."""
    return cast("Api", connection.app.state.api)
