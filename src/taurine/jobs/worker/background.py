"""A worker behind an `async with` block: entering waits until it has begun, and what ends it is raised to who waits for
its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

__all__ = ["Background"]


class Background:
    """Runs something in a task of its own. Used on one event loop, any number of times, one after the other.

    name: of the task. begun: set by what runs, when it is ready or waits for a server that does not answer.
    failed: told of an error that ends it after `start` has returned, at once. Default: nobody.
    """

    def __init__(
        self, name: str, *, begun: asyncio.Event, failed: Callable[[BaseException], None] | None = None
    ) -> None:
        self._name = name
        self._begun = begun
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    async def start(self, run: Coroutine[Any, Any, None], *, stop: Callable[[], Awaitable[None]]) -> None:
        """Run it, and return when it has begun. Raises what ends it before. stop: ends it, when this call is cancelled."""
        self._begun.clear()
        task = asyncio.create_task(run, name=self._name)
        task.add_done_callback(lambda _: self._begun.set())
        try:
            await self._begun.wait()
        except asyncio.CancelledError:
            await stop()
            await asyncio.wait({task})
            raise
        if task.done():
            task.result()
        else:
            self._task = task
            task.add_done_callback(self._tell)

    async def ended(self) -> None:
        """Return when what was started has ended, if anything was. Raises what ended it."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    def _tell(self, task: asyncio.Task[None]) -> None:
        if self._failed is not None and not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
