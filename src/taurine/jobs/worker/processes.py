"""`Taurine.worker(processes=N)`: the parent of N processes that each run the application's worker, and what such a
process does.

A process imports the application by its import path and makes the worker with the same options. They travel in its
environment, as JSON: a command line is for all users of the machine to read, and a URL may hold a password.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self, runtime_checkable

from taurine.clock import Clock
from taurine.errors import InvalidOption
from taurine.jobs.reporting.line_format import log_handler
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.worker.background import Background
from taurine.jobs.worker.import_path import application_at
from taurine.jobs.worker.options import WorkerRules
from taurine.jobs.worker.supervised import is_starting
from taurine.jobs.worker.supervisor import Supervisor
from taurine.jobs.worker.worker import JobWorker
from taurine.options import Seconds, to_seconds
from taurine.settings import Settings

__all__ = ["ProcessesPort", "WorkerProcesses", "work"]

_PLAN = "TAURINE_WORKER_PLAN"
"""The variable with what a worker process must know."""

_TIME_TO_END = 15.0
"""Seconds beyond the grace in which a worker hands back what has not ended, and closes, while no server answers."""


class ProcessesPort(Protocol):
    """What answers for worker processes that others ask how they are. folder: where the processes have their sockets."""

    folder: str

    async def start(self, pids: Callable[[], Mapping[int, int]]) -> None: ...

    async def stop(self) -> None: ...


class WorkerProcesses:
    """So many worker processes of one application, kept running by this one. Made by `Taurine.worker(processes=N)`.

    One that crashes is started again; when several in a row do not even start, all end. They end with this process,
    however it ends. As an async context manager it runs in the background and stops at the end of the block.
    """

    def __init__(
        self,
        *,
        import_path: str,
        processes: int,
        rules: WorkerRules,
        clock: Clock,
        health: ProcessesPort | None = None,
    ) -> None:
        if is_starting():
            raise InvalidOption(
                "worker processes cannot be made while a worker process imports the application; begin the program's own work under "
                "`if __name__ == '__main__':`"
            )
        self._health = health
        folder = None if health is None else health.folder
        rules = replace(rules, health_port=None, metrics_token=None, health_socket=folder)
        plan = {
            "application": import_path,
            "path": [str(entry) for entry in sys.path],
            "rules": rules.to_json(),
            "log_level": logging.getLogger().getEffectiveLevel(),
        }
        self._grace = rules.grace_seconds
        self._clock = clock
        begun = asyncio.Event()
        self._background = Background("taurine worker processes", begun=begun)
        self._supervisor = Supervisor(
            [sys.executable, "-m", "taurine.jobs.worker.supervised", f"{__name__}:work"],
            processes=processes,
            environment={_PLAN: json.dumps(plan)},
            grace=self._grace + _TIME_TO_END,
            hurried_grace=_TIME_TO_END,
            on_started=begun.set,
            hint=f"Each of them imports the application, {import_path}; try by hand whether `python -c 'import {import_path.partition(':')[0]}'` works",
            clock=clock,
        )
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def pids(self) -> dict[int, int]:
        """The running processes: their ids by their number, from 1."""
        return self._supervisor.pids

    @property
    def restarts(self) -> int:
        """Processes that were started again so far."""
        return self._supervisor.restarts

    async def run(self, *, handle_signals: bool = False) -> None:
        """Keep the processes running until `stop`; returns when all have ended.

        handle_signals: as for `JobWorker.run`; the signals are passed on. Default: False.
        Raises InvalidOption when it runs already, SupervisorGaveUp when processes do not start.
        """
        if not self._ended.is_set():
            raise InvalidOption("these worker processes run already")
        self._ended.clear()
        try:
            if self._health is not None:
                await self._health.start(lambda: self.pids)
            await self._supervisor.run(handle_signals=handle_signals)
        finally:
            if self._health is not None:
                await self._health.stop()
            self._ended.set()

    async def stop(self, *, grace: Seconds | None = None) -> None:
        """Let each process stop as `JobWorker.stop` does, and return when all have ended.

        Safe to call again, with another grace, and before `run`.
        """
        seconds = self._grace if grace is None else to_seconds(grace, "grace")
        self._supervisor.stop()
        if not await self._clock.wait(self._ended, seconds):
            self._supervisor.hurry()
            await self._ended.wait()
        await self._background.ended()

    async def __aenter__(self) -> Self:
        """Run in the background.

        Returns when each process is ready, or has run for 5 s, since one may wait for a server that does not answer.

        Raises what `run` raises.
        """
        await self._background.start(self.run(), stop=partial(self.stop, grace=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@runtime_checkable
class _Application(AbstractAsyncContextManager[Any], Protocol):
    settings: Settings

    @property
    def redact(self) -> Redact: ...

    def worker_by(self, rules: WorkerRules) -> JobWorker: ...


def work() -> Coroutine[Any, Any, None]:
    """What a worker process does, told by its environment: import the application, and run its worker until a signal."""
    plan = json.loads(os.environ.pop(_PLAN))
    sys.path[:] = plan["path"]
    application = application_at(plan["application"])
    if not isinstance(application, _Application):
        raise InvalidOption(f"expected {plan['application']} to be a Taurine application, got {application!r:.80}")
    root = logging.getLogger()
    if not root.handlers:  # the program's own set-up may be under its guard, which is not run here
        root.addHandler(log_handler(application.settings.log_format, redact=application.redact))
        root.setLevel(plan["log_level"])
    return _work(application, _numbered(WorkerRules.from_json(plan["rules"])))


async def _work(application: _Application, rules: WorkerRules) -> None:
    async with application:
        await application.worker_by(rules).run(handle_signals=True)


def _numbered(rules: WorkerRules) -> WorkerRules:
    """A name that the caller gave is told apart by the process's number, and so is its socket."""
    number = os.environ["TAURINE_PROCESS"]
    if rules.health_socket is not None:
        rules = replace(rules, health_socket=f"{rules.health_socket}/{number}.sock")
    return rules if rules.name is None else replace(rules, name=f"{rules.name}-{number}")
