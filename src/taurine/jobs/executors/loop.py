"""Async handlers, on the worker's own event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from asyncio import CancelledError, Event, Future, Task
from typing import Any

from taurine.clock import Clock, SystemClock
from taurine.errors import HandlerExited, Release, TimeLimitExceeded
from taurine.jobs.executors.call import Call, run_here

__all__ = ["LoopExecutor"]

log = logging.getLogger("taurine.jobs")


class LoopExecutor:
    """Runs async handlers as tasks of their own, so that one that will not end can be left behind.

    grace: seconds that a cancelled handler has to end; then it is given up: logged, counted in `abandoned`, and its
    slot is free. Default: 1.
    clock: measures time limits and the grace.

    Over its limit, an attempt fails whatever its handler makes of the cancellation, also when it returns a result.
    """

    def __init__(self, *, grace: float = 1.0, clock: Clock | None = None) -> None:
        self._grace = grace
        self._clock = clock or SystemClock()
        self._limits = _Limits(self._clock)
        self._running: dict[Task[Any], Future[bool]] = {}
        self._abandoned: set[Task[Any]] = set()
        self._stopping = False

    @property
    def abandoned(self) -> int:
        """Handlers that were given up and still run."""
        return len(self._abandoned)

    async def start(self) -> None:
        self._stopping = False

    async def stop(self) -> None:
        self._stopping = True
        running = dict(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*map(self._wait_for, running))
        for waiter in running.values():
            _tell(waiter, True)
        await self._limits.stop()

    async def run(self, call: Call, *, timeout: float | None) -> Any:
        if self._stopping:
            raise Release("the worker stops")
        loop = asyncio.get_running_loop()
        task = loop.create_task(run_here(call.invoke), name=call.name)
        waiter = self._running[task] = loop.create_future()
        task.add_done_callback(self._ended)
        if timeout is not None:
            self._limits.add(waiter, timeout)
        try:
            in_time = await waiter
        except CancelledError:
            await self._end(call, task, "cancelled")
            raise
        finally:
            self._limits.drop(waiter)
        if in_time:
            return self._outcome(call, task)
        limit = timeout or 0.0
        await self._end(call, task, f"time limit of {limit:g} s")
        raise TimeLimitExceeded(f"ran longer than its time limit of {limit:g} s", limit=limit) from _error_of(task)

    def _ended(self, task: Task[Any]) -> None:
        waiter = self._running.pop(task, None)
        if waiter is not None:
            _tell(waiter, True)

    def _outcome(self, call: Call, task: Task[Any]) -> Any:
        if not task.done():
            self._abandon(call, task, "the worker stops")
            raise Release("the worker stops")
        try:
            return task.result()
        except CancelledError as error:
            if self._stopping:
                raise Release("the worker stops") from None
            # Let through, it would look as if this run itself had been cancelled.
            raise HandlerExited("the handler ended with CancelledError, though nobody had cancelled its job") from error

    async def _end(self, call: Call, task: Task[Any], reason: str) -> None:
        """Cancel the handler and wait for its end; give it up after the grace, or when this run is cancelled once more."""
        call.context.request_cancel(reason)
        task.cancel()
        try:
            await self._wait_for(task)
        finally:
            if not task.done():
                self._abandon(call, task, reason)

    async def _wait_for(self, task: Task[Any]) -> None:
        """Wait until `task` has ended, at most the grace."""
        ended = Event()
        task.add_done_callback(lambda _: ended.set())
        await self._clock.wait(ended, self._grace)

    def _abandon(self, call: Call, task: Task[Any], reason: str) -> None:
        log.error("%s was told to stop (%s) and goes on; it is given up, its slot is free", call.name, reason)
        self._running.pop(task, None)
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: Task[Any]) -> None:
        self._abandoned.discard(task)
        log.info("%s, given up before, has ended: %s", task.get_name(), _error_of(task) or "without an error")


class _Limits:
    """Tells runs that their time is over.

    One sleep serves all, since hardly any job needs its limit and each would pay for a timer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[Future[bool], float] = {}
        self._next = math.inf
        self._sooner = Event()
        self._watching: Task[None] | None = None

    def add(self, waiter: Future[bool], seconds: float) -> None:
        due = self._due[waiter] = self._clock.monotonic() + seconds
        if due >= self._next:
            return
        self._next = due
        self._sooner.set()
        if self._watching is None or self._watching.done():
            # In a context of its own: that of the first job would stick to it.
            self._watching = asyncio.create_task(
                self._watch(), name="taurine time limits", context=contextvars.Context()
            )

    def drop(self, waiter: Future[bool]) -> None:
        self._due.pop(waiter, None)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        self._next = math.inf

    async def _watch(self) -> None:
        """Sleep until the next limit, again and again; ends when none is left by then."""
        while self._due:
            self._sooner.clear()
            self._next = min(self._due.values())
            await self._clock.wait(self._sooner, self._next - self._clock.monotonic())
            now = self._clock.monotonic()
            for waiter in [waiter for waiter, due in self._due.items() if due <= now]:
                del self._due[waiter]
                _tell(waiter, False)
        self._next = math.inf


def _tell(waiter: Future[bool], in_time: bool) -> None:
    if not waiter.done():
        waiter.set_result(in_time)


def _error_of(task: Task[Any]) -> BaseException | None:
    """What a task ended with, which also tells asyncio that somebody has looked."""
    return task.exception() if task.done() and not task.cancelled() else None
