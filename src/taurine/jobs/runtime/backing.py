"""What stands behind a context in the worker's own process: the ledger, asked from the event loop, from a thread, or
for a process at the end of a line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from taurine.errors import InvalidOption, Release
from taurine.jobs.handler.context import Context
from taurine.jobs.handler.effects import Ask, EffectLedger, Steps, answered, answered_sync
from taurine.jobs.runtime.saving import Saver
from taurine.ledger.effects import EffectClaim, EffectState

__all__ = ["LedgerBacking"]


class LedgerBacking:
    """Made on the event loop that the handlers' own calls come back to."""

    def __init__(self, *, effects: EffectLedger, saver: Saver) -> None:
        self._effects = effects
        self._saver = saver
        self._loop = asyncio.get_running_loop()

    async def save(self, context: Context) -> None:
        """See `Context.save`."""
        granted = await self._saver.save_progress(context)
        if granted is not None:
            raise Release(f"the record of job {context.job_id!r} is {granted}: another delivery of it has begun")

    def save_sync(self, context: Context) -> None:
        """See `Context.save_sync`."""
        self._wait_for(lambda: self.save(context))

    async def take(self, context: Context, steps: Steps) -> Any:
        """See `Context.once`."""
        return await answered(steps, lambda ask: self._effects.answer(_claim(context, ask), ask))

    def take_sync(self, context: Context, steps: Steps) -> Any:
        """See `Context.once_sync`."""
        return answered_sync(steps, lambda ask: self._wait_for(lambda: self._effects.answer(_claim(context, ask), ask)))

    async def answer(self, context: Context, name: str, body: Any) -> Any:
        """What a handler in a process of its own asks (`LinkBacking`)."""
        match name:
            case "save":
                return await self.save(context)
            case "effect":
                ask = Ask(body["step"], body["key"], body["result"], body["seen"] and EffectState(*body["seen"]))
                return await self._effects.answer(_claim(context, ask), ask)
            case _:
                raise InvalidOption(f"a handler in a process of its own asked for {name!r}, which is not known here")

    def _wait_for(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine on the event loop for a thread, which waits."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        raise InvalidOption("this call would block the event loop; use the one without _sync, with await")


def _claim(context: Context, ask: Ask) -> EffectClaim:
    return EffectClaim(context.tenant or "", ask.key, context.job_id, context.fence)
