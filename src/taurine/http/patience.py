"""How long a request waits."""

from __future__ import annotations

import asyncio
from types import TracebackType

from taurine.errors import LedgerUnavailable

__all__ = ["NO_ANSWER", "InTime"]

NO_ANSWER = "there was no answer in time; a request with a job_id or an Idempotency-Key may safely be repeated"


class InTime:
    """A block that may take so many seconds, None for any number, else it raises LedgerUnavailable.

    A class, since a request of the busiest route has two of them.
    """

    __slots__ = ("_timeout",)

    def __init__(self, seconds: float | None) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    def extend(self, seconds: float | None) -> None:
        """Let the block that is under way take so many seconds more; None for as long as it takes."""
        until = self._timeout.when()
        self._timeout.reschedule(None if seconds is None or until is None else until + seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise LedgerUnavailable(NO_ANSWER) from None
