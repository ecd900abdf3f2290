"""Passing a stage's progress on to observers, while the stage goes on."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Event
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from taurine.pipeline.observers import StageProgress

__all__ = ["PassingOn"]


class PassingOn:
    """An async context manager around a stage. Of what is noted faster than `tell` returns, only the latest is told.

    At its end the latest one has been told; where the stage was cut off, what was not told is dropped.
    """

    def __init__(self, tell: Callable[[StageProgress], Awaitable[None]]) -> None:
        self._tell = tell
        self._latest: deque[StageProgress] = deque(maxlen=1)
        self._news = Event()
        self._is_noted = self._has_ended = False
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._pass_on(), name="taurine stage progress")

    def note(self, event: StageProgress) -> None:
        """May be called from any thread, and in a tight loop."""
        self._latest.append(event)
        if not self._is_noted:
            self._is_noted = True
            self._loop.call_soon_threadsafe(self._news.set)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._has_ended = True
        self._news.set()
        try:
            if kind is None or not issubclass(kind, CancelledError):
                await asyncio.wait({self._task})
        finally:
            self._task.cancel()

    async def _pass_on(self) -> None:
        while not self._has_ended or self._latest:
            await self._news.wait()
            self._news.clear()
            self._is_noted = False
            while self._latest:
                await self._tell(self._latest.popleft())
