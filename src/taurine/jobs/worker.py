"""The worker of an application: runs the jobs of one or several queues, and keeps the loops going that the promises need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self

from taurine.errors import InvalidOption, did_you_mean
from taurine.ids import unique_id
from taurine.jobs.alerts import Alerts
from taurine.jobs.attendant import Attendant
from taurine.jobs.backend import Backend
from taurine.jobs.effects import LedgerEffects
from taurine.jobs.execution import Execution
from taurine.jobs.executors import Executor, ExecutorKind, LoopExecutor, ThreadExecutor
from taurine.jobs.executors.process import ProcessExecutor
from taurine.options import RateLimit, Seconds, to_seconds
from taurine.queue import Worker
from taurine.queue.connection import Connection
from taurine.queue.signals import stopped_by_signals
from taurine.service import Service

__all__ = ["Concurrency", "JobWorker"]

Concurrency = int | Mapping[str, int]
"""Jobs at once: of each queue, or for each queue by name."""


class JobWorker:
    """Made by `Taurine.worker`. As an async context manager it runs in the background and stops at the end of the block."""

    def __init__(
        self,
        *,
        backend: Backend,
        queues: Sequence[str] | None,
        concurrency: Concurrency | None,
        rate_limits: Mapping[str, RateLimit] | None,
        lease: Seconds | None,
        max_crashes: int,
        stalled_interval: Seconds,
        grace: Seconds,
        services: Sequence[Service[Any]],
        alerts: Alerts,
        deps: Any,
        name: str | None,
    ) -> None:
        self._backend = backend
        self._names = _checked_queues(queues, backend)
        self._concurrency = {queue: _slots(concurrency, queue, backend.settings.concurrency) for queue in self._names}
        self._rate_limits = rate_limits or {}
        self._lease = backend.settings.lease if lease is None else to_seconds(lease, "lease", minimum=0.1)
        self._max_crashes = max_crashes
        self._stalled_interval = stalled_interval
        self._grace = to_seconds(grace, "grace")
        self._services = [backend.outbox, *services]
        self._alerts = alerts
        self._deps = deps
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{unique_id()[:6]}"
        clock, random = backend.clock, backend.random
        self._attendant = Attendant(database=backend.database, group=backend.group, clock=clock, random=random)
        self._executors: dict[ExecutorKind, Executor] = {
            "loop": LoopExecutor(clock=clock),
            "thread": ThreadExecutor(max_threads=sum(self._concurrency.values())),
            "process": ProcessExecutor(max_processes=max(1, os.cpu_count() or 1)),
        }
        self._workers: dict[str, Worker] = {}
        self._running: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    @property
    def queues(self) -> list[str]:
        """The queues that it works on."""
        return list(self._names)

    @property
    def running(self) -> int:
        """How many jobs run in it now."""
        return sum(len(worker.running) for worker in self._workers.values())

    def concurrency(self, queue: str) -> int:
        """Jobs of `queue` that run here at once."""
        return self._concurrency[queue]

    def set_concurrency(self, queue: str, value: int) -> None:
        """Change it while the worker runs; running jobs above a lower value run on. Raises InvalidOption for a queue that is not worked on."""
        if queue not in self._concurrency:
            raise InvalidOption(f"this worker does not work on queue {queue!r}{did_you_mean(queue, self._names)}")
        if queue in self._workers:
            self._workers[queue].concurrency = value
        self._concurrency[queue] = value

    async def run(self, *, handle_signals: bool = False) -> None:
        """Work until `stop`. Outages of either server are waited out.

        handle_signals: SIGINT and SIGTERM call `stop`, a second one ends the grace at once. Default: False.
        Raises InvalidOption when it runs already; SchemaMismatch, LedgerUnavailable and StoreRefused when it cannot start.
        """
        if self._running is not None:
            raise InvalidOption("this worker runs already")
        self._running = asyncio.current_task()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._backend.ready()
                connection = Connection(await self._backend.redis_url())
                stack.push_async_callback(connection.close)
                await self._start_helpers(stack)
                self._workers = {queue: self._worker(queue, connection) for queue in self._names}
                if handle_signals:
                    await stack.enter_async_context(stopped_by_signals(self, self.name))
                await self._work()
        finally:
            self._running = None
            self._workers = {}

    async def stop(self, *, grace: Seconds | None = None) -> None:
        """Claim nothing more, let running jobs end, hand back the rest with no attempt charged, and return when it has ended.

        grace: seconds that running jobs may take. Default: the worker's. Safe to call twice, and before `run`.
        """
        seconds = self._grace if grace is None else to_seconds(grace, "grace")
        await asyncio.gather(*(worker.stop(grace=seconds) for worker in self._workers.values()))
        background, self._background = self._background, None
        if background is not None:
            await asyncio.wait({background})
            if not background.cancelled():
                background.result()

    async def pause(self) -> None:
        """Claim nothing more until `resume`; only this worker. Returns when its running jobs have ended."""
        await asyncio.gather(*(worker.pause() for worker in self._workers.values()))

    def resume(self) -> None:
        """Claim again after `pause`."""
        for worker in self._workers.values():
            worker.resume()

    async def __aenter__(self) -> Self:
        self._background = asyncio.create_task(self.run(), name="taurine job worker")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start_helpers(self, stack: contextlib.AsyncExitStack) -> None:
        used: set[ExecutorKind] = {
            job_type.runs_in
            for queue in self._names
            for job_type in self._backend.catalog.on_queue(queue)
            if job_type.has_handler
        }
        for kind in sorted(used):
            await self._executors[kind].start()
            stack.push_async_callback(self._executors[kind].stop)
        for service in (*self._services, self._attendant):
            service.start()
            if service is not self._backend.outbox:  # which others may still ask
                stack.push_async_callback(service.stop)

    def _worker(self, queue: str, connection: Connection) -> Worker:
        backend = self._backend
        execution = Execution(
            catalog=backend.catalog,
            database=backend.database,
            group=backend.group,
            executors=self._executors,
            attendant=self._attendant,
            effects=LedgerEffects(database=backend.database, clock=backend.clock),
            alerts=self._alerts,
            told=backend.watch.tell,
            adopt=None,
            deps=self._deps,
            worker=self.name,
            clock=backend.clock,
            random=backend.random,
        )
        return Worker(
            queue,
            execution.run,
            connection,
            prefix=backend.settings.prefix,
            concurrency=self._concurrency[queue],
            name=self.name,
            lease=self._lease,
            stalled_interval=self._stalled_interval,
            max_stalled=self._max_crashes - 1,
            rate_limit=self._rate_limits.get(queue),
            on_refusal=execution.refuse,
            clock=backend.clock,
            random=backend.random,
        )

    async def _work(self) -> None:
        """Run all queues' workers; when one cannot go on, the others stop too, and its error is raised."""
        tasks = [
            asyncio.create_task(worker.run(), name=f"taurine worker of {queue}")
            for queue, worker in self._workers.items()
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for worker in self._workers.values():
                await worker.stop(grace=0)
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.result()


def _checked_queues(queues: Sequence[str] | None, backend: Backend) -> list[str]:
    known = backend.catalog.queues
    if queues is None:
        chosen = [queue for queue in known if any(job_type.has_handler for job_type in backend.catalog.on_queue(queue))]
    elif isinstance(queues, str):
        raise InvalidOption(f"expected queues to be a list of names, got the text {queues!r}")
    else:
        chosen = list(dict.fromkeys(queues))
    for queue in chosen:
        if queue not in known:
            raise InvalidOption(f"no job type goes to queue {queue!r}{did_you_mean(queue, known)}")
    if not chosen:
        raise InvalidOption("there is nothing to work on: no job type of the catalog has a handler in this process")
    return chosen


def _slots(concurrency: Concurrency | None, queue: str, default: int) -> int:
    if concurrency is None:
        return default
    return concurrency if isinstance(concurrency, int) else concurrency.get(queue, default)
