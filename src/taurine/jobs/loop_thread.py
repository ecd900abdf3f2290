"""An event loop in a thread, for callers that have none: what they ask for runs there, and they wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

__all__ = ["LoopThread"]

ResultT = TypeVar("ResultT")


class LoopThread:
    """One loop, for any number of threads. Close it, and the tasks that are left on it end.

    The thread does not keep the interpreter: a program that forgets to close ends all the same.
    """

    def __init__(self) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = Thread(target=_run, args=(started,), name="taurine loop", daemon=True)
        self._thread.start()
        self._loop = started.result()

    @property
    def alive(self) -> bool:
        """False after `close`, and in a process that was forked from the one that made it."""
        return self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """The result of `work`, run on the loop in the context of the caller. A caller that is interrupted cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _run(started: Future[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        started.set_result(loop)
        loop.run_forever()
