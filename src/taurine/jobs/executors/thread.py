"""Plain functions, each in a thread.

How a thread is stopped. The context's flag is set first, for code that looks at it. Then an exception is put into the
thread, which ends Python code at its next bytecode. Code that blocks in C sees neither: its thread is given up and
replaced, and ends by itself when the call returns.

Why the exception can never hit another job. Threads do not take work by themselves: the event loop hands it to idle
ones, and a thread becomes idle only when the loop has seen its job end. The exception is put in by the loop too, and a
thread that got one is not used again, however its job ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import itertools
import logging
import sys
import threading
import traceback
from asyncio import AbstractEventLoop, CancelledError, Event
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from taurine.clock import Clock, SystemClock
from taurine.errors import HandlerExited, Release, TimeLimitExceeded
from taurine.jobs.executors.call import Call, exited
from taurine.options import require_count

__all__ = ["HandlerInterrupted", "ThreadExecutor"]

log = logging.getLogger("taurine.jobs")

_JOIN_TIME = 1.0
"""Seconds that idle threads have to end: they only have to wake up."""

_HEED = 0.25
"""The part of the grace that is left to code that looks at the flag, before it is interrupted."""


class HandlerInterrupted(BaseException):
    """Raised inside a plain function whose job was cancelled or ran over its time limit; clean up and let it through.

    It is no Exception, so that `except Exception` in a loop does not swallow it.
    """


@dataclass(slots=True, eq=False)
class _Work:
    """One call in a thread, and how it ended."""

    call: Call
    invoke: Callable[[], Any]
    ended: Event = field(default_factory=Event)
    """Set when the function has ended, or the executor stops without waiting for it any longer."""
    finished: bool = False
    abandoned: bool = False
    value: Any = None
    error: BaseException | None = None

    def finish(self) -> None:
        """Called on the loop when the function has ended."""
        self.finished = True
        self.ended.set()
        if self.abandoned:
            log.info("%s, given up before, has ended: %s", self.call.name, self.error or "it returned")

    def result(self) -> Any:
        if self.error is None:
            return self.value
        if isinstance(self.error, SystemExit):
            raise exited(self.error) from self.error
        if isinstance(self.error, CancelledError):
            # Let through, it would look as if the run had been cancelled.
            raise HandlerExited(
                "the handler raised CancelledError, though nobody had cancelled its job"
            ) from self.error
        raise self.error


class _Thread:
    """A thread that does one piece of work after another, as the loop hands them in."""

    def __init__(self, name: str, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.interrupted = False
        self._thread.start()

    def hand(self, work: _Work) -> None:
        self._inbox.put(work)

    def dismiss(self) -> None:
        """End when the present work is done."""
        self._inbox.put(None)

    def join(self) -> None:
        self._thread.join(_JOIN_TIME)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def interrupt(self) -> None:
        """Raise HandlerInterrupted in the thread, at its next bytecode."""
        if self.interrupted:
            return
        self.interrupted = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(HandlerInterrupted)
        )

    def where(self) -> str:
        """The line that the thread is at."""
        frame = sys._current_frames().get(self._thread.ident or 0)  # pyright: ignore[reportPrivateUsage] - documented for debugging
        if frame is None:
            return "its end"
        at = traceback.extract_stack(frame, limit=1)[-1]
        return f"{at.filename}:{at.lineno} in {at.name}"

    def _run(self) -> None:
        work: _Work | None = None
        try:
            while (work := self._inbox.get()) is not None:
                self._do(work)
                work = None  # or the last job's payload and result would live as long as the thread is idle
        except HandlerInterrupted:
            # It came too late for the function that it was meant for, and no other follows in this thread.
            if work is not None:
                self._report(work)

    def _do(self, work: _Work) -> None:
        try:
            work.value = work.invoke()
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
            work.error = error
        self._report(work)

    def _report(self, work: _Work) -> None:
        try:
            self._loop.call_soon_threadsafe(work.finish)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.dismiss()


class ThreadExecutor:
    """Runs plain functions in daemon threads of its own; a thread that hangs is replaced.

    max_threads: calls at a time; further ones wait. Given-up threads do not count. Default: 32.
    grace: seconds that a function has to end once it is told to; after the first quarter it is interrupted. Default: 1.
    clock: measures time limits and the grace.
    """

    def __init__(self, *, max_threads: int = 32, grace: float = 1.0, clock: Clock | None = None) -> None:
        self._slots = asyncio.Semaphore(require_count(max_threads, "max_threads", minimum=1))
        self._grace = grace
        self._clock = clock or SystemClock()
        self._idle: list[_Thread] = []
        self._busy: dict[_Thread, _Work] = {}
        self._abandoned: set[_Thread] = set()
        self._numbers = itertools.count(1)
        self._stopping = False

    @property
    def abandoned(self) -> int:
        """Threads that were given up and still run."""
        self._abandoned = {thread for thread in self._abandoned if thread.alive}
        return len(self._abandoned)

    async def start(self) -> None:
        self._stopping = False

    async def stop(self) -> None:
        self._stopping = True
        busy = dict(self._busy)
        await asyncio.gather(*(self._end(thread, work, "the worker stops") for thread, work in busy.items()))
        for work in busy.values():
            work.ended.set()
        idle, self._idle = self._idle, []
        for thread in idle:
            thread.dismiss()
        for thread in idle:
            thread.join()

    async def run(self, call: Call, *, timeout: float | None) -> Any:
        async with self._slots:
            if self._stopping:
                raise Release("the worker stops")
            return await self._run(call, timeout)

    async def _run(self, call: Call, timeout: float | None) -> Any:
        thread = self._idle.pop() if self._idle else self._new_thread()
        context = contextvars.copy_context()
        work = self._busy[thread] = _Work(call, lambda: context.run(call.invoke))
        thread.hand(work)
        try:
            in_time = await self._clock.wait(work.ended, timeout)
            if not in_time:
                await self._end(thread, work, f"time limit of {timeout:g} s")
        except CancelledError:
            if not thread.interrupted:
                await self._end(thread, work, "cancelled")
            raise
        finally:
            self._put_back(thread, work)
        if self._stopping:
            raise Release("the worker stops")
        if in_time:
            return work.result()
        limit = timeout or 0.0
        raise TimeLimitExceeded(f"ran longer than its time limit of {limit:g} s", limit=limit) from work.error

    async def _end(self, thread: _Thread, work: _Work, reason: str) -> None:
        """Ask, then interrupt; returns when the function has ended or the grace is over."""
        work.call.context.request_cancel(reason)
        if not await self._clock.wait(work.ended, self._grace * _HEED):
            thread.interrupt()
            await self._clock.wait(work.ended, self._grace * (1 - _HEED))

    def _new_thread(self) -> _Thread:
        return _Thread(f"taurine-job-{next(self._numbers)}", asyncio.get_running_loop())

    def _put_back(self, thread: _Thread, work: _Work) -> None:
        del self._busy[thread]
        if not work.finished:
            self._abandon(thread, work)
        elif thread.interrupted or self._stopping:
            thread.dismiss()
        else:
            self._idle.append(thread)

    def _abandon(self, thread: _Thread, work: _Work) -> None:
        thread.interrupt()
        thread.dismiss()
        work.abandoned = True
        self._abandoned.add(thread)
        log.error(
            "%s was told to stop and goes on, at %s; its thread is given up and its slot is free. Threads given up that still run: %d",
            work.call.name, thread.where(), self.abandoned,
        )  # fmt: skip
