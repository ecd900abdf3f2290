"""One look for all that ask within a second: what anybody may ask for, however often, must not cost the servers more
for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from taurine.clock import Clock

__all__ = ["SharedLook"]

ResultT = TypeVar("ResultT")

_SHARED_SECONDS = 1.0


class SharedLook(Generic[ResultT]):
    """The answer of `ask`, for all calls that come within a second of the first. An error is shared as well."""

    def __init__(self, ask: Callable[[], Awaitable[ResultT]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._look: asyncio.Task[ResultT] | None = None
        self._looked_at = 0.0

    async def get(self) -> ResultT:
        """The answer. Whoever is cut off while it waits does not cut off the others."""
        now, look = self._clock.monotonic(), self._look
        is_ours = look is not None and look.get_loop() is asyncio.get_running_loop() and not look.cancelled()
        if look is None or not is_ours or now - self._looked_at >= _SHARED_SECONDS:
            self._looked_at = now
            look = self._look = asyncio.create_task(self._asked(), name="taurine shared look")
        return await asyncio.shield(look)

    async def _asked(self) -> ResultT:
        return await self._ask()
