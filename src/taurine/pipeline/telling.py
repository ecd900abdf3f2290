"""Telling the observers of one run, so that none of them can break or hold up the pipeline.

Each call is a task of its own that is waited for so long and no longer; one that is over its time is cancelled and left
behind.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import Task
from collections.abc import Callable, Sequence
from typing import Any, get_args

from taurine.errors import InvalidOption
from taurine.jobs.executors import Call
from taurine.jobs.executors.call import run_here
from taurine.jobs.executors.choosing import is_async
from taurine.jobs.executors.thread import ThreadExecutor
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.lines import line_fields, log, one_line
from taurine.pipeline.observers import Moment, StageEvent, StageObserver

__all__ = ["Telling", "check_observers"]

_MOMENTS: tuple[Moment, ...] = get_args(Moment)


def check_observers(observers: Sequence[StageObserver]) -> None:
    """Raise InvalidOption for what lacks a method of StageObserver."""
    for observer in observers:
        missing = [name for name in _MOMENTS if not callable(getattr(observer, name, None))]
        if missing or inspect.isclass(observer):
            raise InvalidOption(
                f"expected an observer with {', '.join(missing or _MOMENTS)}, got {observer!r:.80}; derive its class from taurine.StageObserver"
            )


class _Listener:
    """One observer in one run."""

    def __init__(self, observer: StageObserver) -> None:
        self.name = type(observer).__qualname__
        self.methods: dict[Moment, Callable[[Any], Any]] = {
            name: getattr(observer, name)
            for name in _MOMENTS
            if getattr(type(observer), name, None) is not getattr(StageObserver, name)  # which says nothing
        }
        self.complained_at: set[str] = set()


class _Nobody:
    """An observer's call has no context that could be told to stop."""

    def request_cancel(self, reason: str) -> None:
        pass


class Telling:
    """patience: seconds that one observer may take for one call. threads: where plain methods are called."""

    def __init__(
        self, observers: Sequence[StageObserver], *, context: Context, threads: ThreadExecutor, patience: float
    ) -> None:
        self._listeners = [_Listener(observer) for observer in observers]
        self._context = context
        self._threads = threads
        self._patience = patience
        self._left_behind: set[Task[Any]] = set()

    def hears(self, moment: Moment) -> bool:
        """True if any observer does something then."""
        return any(moment in listener.methods for listener in self._listeners)

    async def tell(self, moment: Moment, event: StageEvent, *, patience: float | None = None) -> None:
        """Tell each observer in turn.

        patience: less than usual, for when there is no time. Raises nothing but the caller's own cancellation.
        """
        for listener in self._listeners:
            method = listener.methods.get(moment)
            if method is not None:
                await self._tell(listener, method, event, self._patience if patience is None else patience)

    async def _tell(
        self, listener: _Listener, method: Callable[[Any], Any], event: StageEvent, patience: float
    ) -> None:
        task = asyncio.create_task(self._call(method, event), name=f"taurine observer {listener.name}")
        try:
            await asyncio.wait({task}, timeout=patience)
        finally:
            if not task.done():
                self._leave_behind(task)
        if not task.done():
            listener.methods.clear()
            self._complain(listener, event, f"took longer than {patience:g} s, and hears no more of this run")
        elif task.cancelled():
            self._complain(listener, event, "ended with CancelledError")
        elif (error := task.exception()) is not None:
            self._complain(listener, event, "failed", error)

    async def _call(self, method: Callable[[Any], Any], event: StageEvent) -> Any:
        if is_async(method):
            return await run_here(lambda: method(event))
        call = Call(handler=method, payload=event, context=_Nobody(), bound=lambda: method(event))
        answer = await self._threads.run(call, timeout=None)
        return await answer if inspect.isawaitable(answer) else answer

    def _leave_behind(self, task: Task[Any]) -> None:
        task.cancel()
        self._left_behind.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: Task[Any]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would speak of it

    def _complain(self, listener: _Listener, event: StageEvent, what: str, error: BaseException | None = None) -> None:
        if event.stage in listener.complained_at:
            return
        listener.complained_at.add(event.stage)
        log.error(
            "the observer %s of pipeline %s %s, at stage %s of job %s; the job goes on",
            *(listener.name, one_line(event.pipeline), what, one_line(event.stage), self._context.shown_id),
            exc_info=error,
            extra=line_fields(self._context),
        )
