"""Handlers in processes of their own, for code that uses a processor fully, that blocks where nothing can interrupt it,
or that may crash.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio import CancelledError, Event, Task
from collections.abc import Callable, Sequence
from typing import Any, cast

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption, Release, TimeLimitExceeded, WorkerProcessDied, WorkerProcessNotStarted
from taurine.jobs.executors.call import Call, RemoteContext
from taurine.jobs.executors.child_process import ChildProcess, Work
from taurine.jobs.executors.frames import Message
from taurine.jobs.executors.located import Target, check_importable, main_module
from taurine.options import require_count

__all__ = ["ProcessExecutor"]

log = logging.getLogger("taurine.jobs")

_TRIES = 3
"""How often an attempt is handed to a process that dies before it took it on; such an attempt has not run."""


class ProcessExecutor:
    """Runs handlers in child processes, one attempt at a time in each; what is over its time limit is killed.

    binder: `module:function` of a Binder, which calls the handler over there.
    handlers: those that may be run; each process imports their modules when it starts, and `start` reports what cannot
    be imported.
    max_processes: attempts at a time; further ones wait. Processes are made when they are needed and then kept.
    Default: the number of processors.
    max_jobs_per_process: a process is replaced after so many attempts. Default: never.
    max_memory: bytes; a process that holds more after an attempt is replaced. Default: no limit.
    start_timeout: seconds that a process has to start and import. Default: 30.
    grace: seconds that a cancelled handler has to end before its process is killed. Default: 1. An attempt over its
    time limit has none.
    clock: measures time limits and the grace.

    The result comes back as plain JSON. Errors come back as HandlerFailed, Taurine's signals as themselves.
    """

    def __init__(
        self,
        *,
        binder: str,
        handlers: Sequence[Callable[..., Any]] = (),
        max_processes: int | None = None,
        max_jobs_per_process: int | None = None,
        max_memory: int | None = None,
        start_timeout: float = 30.0,
        grace: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._handlers = tuple(handlers)
        if max_processes is None:
            max_processes = os.cpu_count() or 1
        self._slots = asyncio.Semaphore(require_count(max_processes, "max_processes", minimum=1))
        self._max_jobs = _optional_count(max_jobs_per_process, "max_jobs_per_process")
        self._max_memory = _optional_count(max_memory, "max_memory")
        self._start_timeout = start_timeout
        self._grace = grace
        self._binder = _parse_target(binder)
        self._clock = clock or SystemClock()
        self._targets: dict[Callable[..., Any], Target] = {}
        self._idle: list[ChildProcess] = []
        self._busy: dict[ChildProcess, Work] = {}
        self._starting: set[ChildProcess] = set()
        self._burials: set[Task[None]] = set()
        self._runs = 0
        self._no_runs = Event()
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """The processes that wait for an attempt or run one."""
        return [child.pid for child in (*self._idle, *self._busy)]

    async def start(self) -> None:
        """Make the first process.

        Raises InvalidOption for a handler that no other process can find, WorkerProcessNotStarted for one that it
        cannot import.
        """
        self._stopping = False
        for handler in self._handlers:
            self._target(handler)
        self._idle.append(await self._make())

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*(self._end(child, work, "the worker stops") for child, work in list(self._busy.items())))
        for child in self._starting:
            child.kill()
        if self._runs:
            self._no_runs.clear()
            await self._no_runs.wait()
        idle, self._idle = self._idle, []
        for child in idle:
            self._bury(child)
        while self._burials:
            await asyncio.wait(set(self._burials))

    async def run(self, call: Call, *, timeout: float | None) -> Any:
        target = self._target(call.handler)
        async with self._slots:
            self._runs += 1
            try:
                return await self._run_begun(call, target, timeout)
            finally:
                self._runs -= 1
                if self._runs == 0:
                    self._no_runs.set()

    async def _run_begun(self, call: Call, target: Target, timeout: float | None) -> Any:
        """Run the attempt in a process that lives long enough to take it on."""
        for _ in range(_TRIES - 1):
            try:
                return await self._run(call, target, timeout)
            except _NotBegun as death:
                log.warning("%s; it had not begun and is handed to another process", death.error)
        try:
            return await self._run(call, target, timeout)
        except _NotBegun as death:
            raise death.error from None

    async def _run(self, call: Call, target: Target, timeout: float | None) -> Any:
        child = await self._take()
        try:
            work = child.begin(call, cast("RemoteContext", call.context), target)
        except BaseException:  # a payload or a context that is no JSON; the process has heard nothing of it
            self._put_back(child)
            raise
        self._busy[child] = work
        try:
            in_time = await self._clock.wait(work.ended, timeout)
            if not in_time:
                call.context.request_cancel(f"time limit of {timeout:g} s")
        except CancelledError:
            await self._end(child, work, "cancelled")
            raise
        finally:
            del self._busy[child]
            if not work.finished:
                child.kill()
            self._put_back(child)
        if self._stopping:
            raise Release("the worker stops")
        if not in_time:
            limit = timeout or 0.0
            raise TimeLimitExceeded(
                f"ran longer than its time limit of {limit:g} s; its process was killed", limit=limit
            )
        if isinstance(work.error, WorkerProcessDied) and not work.began:
            raise _NotBegun(work.error)
        return work.result()

    async def _take(self) -> ChildProcess:
        if self._stopping:
            raise Release("the worker stops")
        while self._idle:
            child = self._idle.pop()
            if not child.dead.is_set():
                return child
        return await self._make()

    async def _make(self) -> ChildProcess:
        child = ChildProcess()
        self._starting.add(child)
        try:
            await child.start(self._hello(), self._start_timeout)
            if self._stopping:
                raise Release("the worker stops")
        except BaseException as error:
            self._bury(child)
            if self._stopping and isinstance(error, WorkerProcessNotStarted):
                raise Release("the worker stops") from error
            raise
        finally:
            self._starting.discard(child)
        return child

    def _hello(self) -> Message:
        targets = list(self._targets.values())
        return {
            "worker_pid": os.getpid(),
            "path": [str(entry) for entry in sys.path],
            "argv": sys.argv,
            "main": main_module() if any(target.module == "__main__" for target in targets) else None,
            "log_level": logging.getLogger().getEffectiveLevel(),
            "binder": [self._binder.module, self._binder.name],
            "targets": [[target.module, target.name, target.unwrap] for target in targets],
        }

    async def _end(self, child: ChildProcess, work: Work, reason: str) -> None:
        """Ask the handler to stop; returns when it has, or when the grace is over. Its run kills the process then."""
        work.call.context.request_cancel(reason)
        child.cancel(work, reason)
        await self._clock.wait(work.ended, self._grace)
        work.ended.set()

    def _put_back(self, child: ChildProcess) -> None:
        """Keep a process for the next attempt, unless its time has come."""
        if child.killed or child.dead.is_set() or self._stopping or self._is_used_up(child):
            self._bury(child)
        else:
            self._idle.append(child)

    def _is_used_up(self, child: ChildProcess) -> bool:
        if self._max_jobs is not None and child.jobs_done >= self._max_jobs:
            log.info("process %d has run %d jobs and is replaced", child.pid, child.jobs_done)
            return True
        if self._max_memory is not None and child.memory > self._max_memory:
            log.info(
                "process %d holds %d bytes, above max_memory=%d, and is replaced",
                child.pid,
                child.memory,
                self._max_memory,
            )
            return True
        return False

    def _bury(self, child: ChildProcess) -> None:
        """Wait for the end of a process elsewhere: its slot is free already."""
        if not child.made:
            return
        burial = asyncio.create_task(child.retire(), name=f"taurine process {child.pid} ending")
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    def _target(self, handler: Callable[..., Any]) -> Target:
        target = self._targets.get(handler)
        if target is None:
            target = self._targets[handler] = check_importable(handler)
        return target


class _NotBegun(Exception):
    """The process died before it took the attempt on."""

    def __init__(self, error: WorkerProcessDied) -> None:
        super().__init__(str(error))
        self.error = error


def _optional_count(value: int | None, name: str) -> int | None:
    return None if value is None else require_count(value, name, minimum=1)


def _parse_target(text: str) -> Target:
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise InvalidOption(f"expected binder to be 'module:function', got {text!r}")
    return Target(module, name)
