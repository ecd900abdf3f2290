"""SIGINT and SIGTERM for workers that want to end in good order: all of the process hear them.

The list of listeners stands in the process's own table of signal handlers, for as long as there are any; then what
stood there before comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from types import FrameType
from typing import Any, Protocol, TypeAlias

from taurine.errors import InvalidOption
from taurine.options import Seconds

__all__ = ["listening", "stopped_by_signals"]

log = logging.getLogger("taurine.queue")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int
_Listener: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[[], None]]


class _Listeners:
    """A signal handler that tells event loops."""

    def __init__(self) -> None:
        self.listeners: list[_Listener] = []
        self.before: _Handler = signal.SIG_DFL
        """What handled the signal before; SIG_DFL when that was not set from Python."""

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        for loop, heard in self.listeners:
            loop.call_soon_threadsafe(heard)  # not at once: a signal may come in the middle of anything


class _Stoppable(Protocol):
    async def stop(self, *, grace: Seconds | None = ...) -> None: ...


@contextlib.asynccontextmanager
async def stopped_by_signals(worker: _Stoppable, queue: str) -> AsyncGenerator[None]:
    """While the block runs, SIGINT or SIGTERM stops the worker with its usual grace, and a second one at once.

    Raises InvalidOption outside the main thread.
    """
    stops: list[asyncio.Task[None]] = []

    def heard() -> None:
        if stops:
            log.warning("worker of %s: a second signal, so that it stops at once", queue)
        else:
            log.info("worker of %s: it was told to stop by a signal; at a second one it stops at once", queue)
        stop = worker.stop(grace=0) if stops else worker.stop()
        stops.append(asyncio.create_task(stop, name="taurine stop by signal"))

    with listening(heard):
        try:
            yield
        finally:
            for stop in stops:
                stop.cancel()  # it waits for the worker's end, and that is here
            await asyncio.gather(*stops, return_exceptions=True)


@contextlib.contextmanager
def listening(heard: Callable[[], None]) -> Generator[None]:
    """Call `heard` in this event loop at each SIGINT and SIGTERM during the block; the signals do nothing else
    meanwhile.

    Raises InvalidOption outside the main thread, where Python cannot handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption(
            f"expected signals to be handled in the main thread, got the thread {threading.current_thread().name!r}; "
            "leave the signals to the main thread, and let it call stop()"
        )
    listener: _Listener = (asyncio.get_running_loop(), heard)
    joined = [(number, _join(number, listener)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, listeners in joined:
            listeners.listeners.remove(listener)
            # Who has put another handler there meanwhile keeps it.
            if not listeners.listeners and signal.getsignal(number) is listeners:
                signal.signal(number, listeners.before)


def _join(number: signal.Signals, listener: _Listener) -> _Listeners:
    listeners = signal.getsignal(number)
    if not isinstance(listeners, _Listeners):
        before, listeners = listeners, _Listeners()
        listeners.before = signal.SIG_DFL if before is None else before
        signal.signal(number, listeners)
    listeners.listeners.append(listener)
    return listeners
