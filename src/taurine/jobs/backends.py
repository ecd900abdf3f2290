"""Which backend belongs to which event loop.

Sockets belong to a loop, so each loop that uses the application has a backend of its own. Callers without one share a
loop in a thread, made at the first such call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from taurine.errors import InvalidOption
from taurine.heartbeat import Heartbeat
from taurine.jobs.backend import Backend
from taurine.jobs.loop_thread import LoopThread

__all__ = ["Backends"]

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


class Backends:
    """The backends of one application, for any number of loops and threads.

    make: a new one, called on the loop that it is for.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._open: dict[asyncio.AbstractEventLoop, Backend] = {}
        self._loop_thread: LoopThread | None = None
        self._loop_thread_lock = Lock()

    def __len__(self) -> int:
        """Loops that have one."""
        return len(self._open)

    @property
    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those that have one."""
        return list(self._open)

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of what is open on this event loop; nothing is opened for it."""
        backend = self._open.get(asyncio.get_running_loop())
        return [] if backend is None else backend.heartbeats

    def here(self) -> Backend:
        """The one of this event loop, which need not be ready. Raises InvalidOption where none runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidOption(
                "this needs a running event loop, as `async def main(): …` has under `asyncio.run(main())`"
            ) from None
        backend = self._open.get(loop)
        if backend is None:
            backend = self._open[loop] = self._make()
            for abandoned in self._take_abandoned():
                abandoned.abandon(backend)
        return backend

    async def ready(self) -> Backend:
        """The one of this event loop. Raises what `Backend.ready` raises."""
        backend = self.here()
        if not backend.is_ready:
            await backend.ready()
        return backend

    def call(
        self,
        function: Callable[ArgumentsT, Coroutine[Any, Any, ResultT]],
        *arguments: ArgumentsT.args,
        **options: ArgumentsT.kwargs,
    ) -> ResultT:
        """Run async code for a caller without an event loop, on the loop in a thread.

        Raises InvalidOption on a loop, and what the code raises.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise InvalidOption("this call would block the event loop; use the one without _sync, with await")
        with self._loop_thread_lock:
            if self._loop_thread is None or not self._loop_thread.alive:
                self._loop_thread = LoopThread()
            thread = self._loop_thread
        return thread.call(function(*arguments, **options))

    async def close(self) -> None:
        """Close the one of this event loop, and what `close_sync` does."""
        await self._close_here()
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close the one of callers without a loop, with its thread, and let go of those whose loops are closed.

        Those of other loops stay open.
        """
        with self._loop_thread_lock:
            thread, self._loop_thread = self._loop_thread, None
            if thread is not None and thread.alive:
                thread.call(self._close_here())
                thread.close()
        for abandoned in self._take_abandoned():
            abandoned.abandon()

    async def _close_here(self) -> None:
        backend = self._open.pop(asyncio.get_running_loop(), None)
        if backend is not None:
            await backend.close()

    def _take_abandoned(self) -> list[Backend]:
        """What stands open for loops that were closed without `close`, as `asyncio.run` does; the caller lets go of it."""
        closed = [loop for loop in tuple(self._open) if loop.is_closed()]
        taken = [self._open.pop(loop, None) for loop in closed]  # another thread may take one first
        return [backend for backend in taken if backend is not None]
