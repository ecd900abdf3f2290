"""The worker of an application: runs the jobs of one or several queues, and keeps the loops going that the promises
need.

Each queue has an engine's worker of its own, with its own slots and limit. They share what is the process's: one
connection, which is not the producers', the executors, and the attendant that looks after running handlers.

It ends in good order: nothing more is claimed from the moment it is told to, running jobs have the grace time, all
queues at once, and what has not ended then is handed back unharmed. Neither server need answer for that.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from typing import Any, Protocol, Self

from taurine.clock import now_ms
from taurine.errors import InvalidOption, LedgerUnavailable, did_you_mean
from taurine.heartbeat import Heartbeat
from taurine.ids import unique_id
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.executors import Executor, ExecutorKind, LoopExecutor, ProcessExecutor, ThreadExecutor
from taurine.jobs.handler.effects import EffectLedger
from taurine.jobs.handover.adoption import Adopter
from taurine.jobs.handover.rollback import RollbackGuard
from taurine.jobs.reconciler.full_look import FullLook, scope_of
from taurine.jobs.reconciler.reconciler import Reconciler
from taurine.jobs.reporting.alerts import Alerts
from taurine.jobs.reporting.lines import log
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.reporting.tally import OTHER, Tally
from taurine.jobs.runtime.admission import Admission
from taurine.jobs.runtime.attendant import Attendant
from taurine.jobs.runtime.backing import LedgerBacking
from taurine.jobs.runtime.execution import Execution
from taurine.jobs.runtime.recording import Recorder
from taurine.jobs.runtime.saving import Saver
from taurine.jobs.worker.background import Background
from taurine.jobs.worker.collection import collect_rarely
from taurine.jobs.worker.options import WorkerRules
from taurine.jobs.worker.pulse import Pulse
from taurine.jobs.worker.report import WorkerReport
from taurine.jobs.worker.supervised import report_ready
from taurine.ledger.workers import LoopTurn, WorkerRow
from taurine.options import Seconds, require_count, to_seconds
from taurine.pauses import Pauses
from taurine.queue import Job, Worker
from taurine.queue.connection import Connection
from taurine.queue.server_changes import ServerChanges
from taurine.queue.signals import stopped_by_signals
from taurine.service import Service

__all__ = ["HealthPort", "JobWorker"]

_MOST_THREADS = 10_000
"""Threads are made when they are needed, and it is the queues' slots that bound them; those may be raised at any time."""

_SYSTEM_SLOTS = 2
"""Jobs at once of each queue of Taurine's own: they are few and long, and must not take the server's time from the
application's.
"""

_LAST_WORD = 2.0
"""Seconds in which handlers that were given up, a process that had to be killed perhaps, have their records put back:
the queue has their jobs already.
"""


class HealthPort(Protocol):
    """What answers for a worker that others ask how it is."""

    async def start(self, worker: JobWorker) -> None: ...

    async def stop(self) -> None: ...


class JobWorker:
    """Made by `Taurine.worker`.

    As an async context manager it runs in the background and stops at the end of the block.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        rules: WorkerRules,
        services: Sequence[Service[Any]],
        alerts: Alerts,
        deps: Any,
        redact: Redact,
        health: HealthPort | None = None,
    ) -> None:
        catalog, settings = backend.catalog, backend.settings
        self._backend = backend
        self._rules = rules
        self._slots = {
            queue: rules.slots_of(queue, catalog, settings.concurrency) for queue in rules.queues_of(catalog)
        }
        self._queues = list(self._slots)
        if rules.queues is None:
            self._slots |= dict.fromkeys(catalog.system_queues, _SYSTEM_SLOTS)
        self._lease = to_seconds(settings.lease if rules.lease is None else rules.lease, "lease")
        self._alerts = alerts
        self._deps = deps
        self._redact = redact
        self._id = unique_id()
        self.name = rules.name or f"{socket.gethostname()}-{os.getpid()}-{unique_id()[:6]}"
        self._saver = Saver(group=backend.group, clock=backend.clock)
        self._attendant = Attendant(
            database=backend.database,
            group=backend.group,
            saver=self._saver,
            worker=self.name,
            redact=redact,
            clock=backend.clock,
            random=backend.random,
        )
        self._tally = Tally()
        self._health = health
        pulse = Pulse(clock=backend.clock, random=backend.random)
        self._services = (*services, self._attendant, pulse, *self._reports())
        self._executors: dict[ExecutorKind, Executor] = {
            "loop": LoopExecutor(clock=backend.clock),
            "thread": ThreadExecutor(max_threads=_MOST_THREADS),
            "process": ProcessExecutor(
                handlers=[job_type.function for job_type in self._job_types if job_type.runs_in == "process"],
                max_processes=rules.child_processes,
                max_jobs_per_process=rules.max_jobs_per_process,
                max_memory=rules.max_memory,
                binder="taurine.jobs.runtime.remote:bind",
            ),
        }
        self._workers: dict[str, Worker] = {}
        self._guard: RollbackGuard | None = None
        self._leases_lost = 0
        self._started_at = 0
        self._version = metadata.version("taurine")
        self._paused: set[str] = set()
        self._answered: set[str] = set()
        self._stopping = False
        self._begun = asyncio.Event()
        self._background = Background(f"taurine worker {self.name}", begun=self._begun, failed=self._log_failure)
        self._ended = asyncio.Event()
        self._ended.set()
        self._stop_behind: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"JobWorker({self.name!r}, queues={self.queues!r})"

    @property
    def queues(self) -> list[str]:
        """The queues that it works on.

        One that was given none by name also works on Taurine's own, which is not listed.
        """
        return list(self._queues)

    @property
    def running(self) -> int:
        """How many jobs run in it now."""
        return sum(len(worker.running) for worker in self._workers.values())

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """When each of its loops has turned last, that of the event loop included.

        Safe to read from another thread; empty while it does not run.
        """
        if self._ended.is_set():
            return []
        services: list[Service[Any]] = [*self._services, self._backend.outbox]
        if (guard := self._guard) is not None:
            services.append(guard)
        engines = [beat for worker in list(self._workers.values()) for beat in worker.heartbeats]
        # Workers of one process have one doorbell.
        return list(dict.fromkeys([*(service.heartbeat for service in services), *engines]))

    @property
    def is_ready(self) -> bool:
        """True while it runs, once the server has answered for each of its queues."""
        return not self._ended.is_set() and self._answered == self._slots.keys()

    def concurrency(self, queue: str) -> int:
        """Jobs of `queue` that run here at once. Raises InvalidOption for a queue that is not worked on."""
        return self._slots[self._checked(queue)]

    def set_concurrency(self, queue: str, value: int) -> None:
        """Change it, also while the worker runs; running jobs above a lower value run on.

        Raises InvalidOption as `concurrency` does, and for no number.
        """
        self._slots[self._checked(queue)] = require_count(value, "concurrency", minimum=1)
        if queue in self._workers:
            self._workers[queue].concurrency = value

    async def run(self, *, handle_signals: bool = False) -> None:
        """Work until `stop`; returns at once when that was called before.

        Outages of either server are waited out, also at the start.

        handle_signals: the process is this worker's own: SIGINT and SIGTERM call `stop`, a second one ends the grace at
        once, and the garbage collector looks less often, which saves a tenth of the time of short jobs. Default: False.
        Raises InvalidOption when it runs already, and outside the main thread with `handle_signals`; SchemaMismatch,
        LedgerRefused, StoreRefused and WorkerProcessNotStarted when it cannot start.
        """
        if not self._ended.is_set():
            raise InvalidOption(f"the worker {self.name} runs already")
        self._ended.clear()
        self._started_at = now_ms(self._backend.clock)
        self._backend.workers.add(self)
        try:
            async with AsyncExitStack() as stack:
                if self._health is not None:
                    stack.push_async_callback(self._health.stop)
                    await self._health.start(self)
                stack.push_async_callback(self._alerts.close)  # the last: what is recorded until then may raise some
                if handle_signals:  # from the start: a signal must not cut off what is half open
                    await stack.enter_async_context(stopped_by_signals(self, self.name))
                log.info("worker %s starts: %s", self.name, self._plan())
                await self._open(stack)
                if handle_signals:
                    collect_rarely()
                await self._work()
        finally:
            self._workers = {}
            self._answered.clear()
            self._ended.set()
            self._backend.workers.discard(self)
            log.info("worker %s has ended", self.name)

    async def stop(self, *, grace: Seconds | None = None) -> None:
        """Claim nothing more, let running jobs end, hand back the rest with no attempt charged, and return when it has
        ended.

        grace: seconds that running jobs may take, of all queues together. Default: the worker's. A server that does not
        answer delays the end by some seconds more, not for ever. Safe to call again, with another grace, and before
        `run`. Called by a handler of its own it returns at once, and that job is waited for as the others are.
        """
        seconds = self._rules.grace_seconds if grace is None else to_seconds(grace, "grace")
        if not self._stopping:
            self._stopping = True
            log.info("worker %s stops: %d jobs run, they have %g s", self.name, self.running, seconds)
        if self._attendant.attends(asyncio.current_task()):
            self._stop_behind = asyncio.create_task(self._stop_queues(seconds), name=f"taurine stop of {self.name}")
            return
        await self._stop_queues(seconds)
        await self._ended.wait()
        await self._background.ended()

    async def pause(self, queue: str | None = None) -> None:
        """Claim nothing more of `queue` until `resume`; only this worker. Returns when its running jobs have ended.

        Default: of all its queues.

        Raises InvalidOption for a queue that is not worked on.
        """
        chosen = self._chosen(queue)
        self._paused.update(chosen)
        await asyncio.gather(*(self._workers[name].pause() for name in chosen if name in self._workers))

    def resume(self, queue: str | None = None) -> None:
        """Claim again after `pause`. Default: of all its queues.

        Raises InvalidOption for a queue that is not worked on.
        """
        for name in self._chosen(queue):
            self._paused.discard(name)
            if name in self._workers:
                self._workers[name].resume()

    async def __aenter__(self) -> Self:
        """Run in the background.

        Returns when it is ready, or waits for a server that does not answer; raises what `run` raises when it cannot
        start.
        """
        await self._background.start(self.run(), stop=partial(self.stop, grace=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Opening ------------------------------------------------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> None:
        """Open what the queues' workers share, and make those. What `stack` closes ends in the opposite order."""
        backend = self._backend
        if not await self._ledger_answers():
            return
        connection = Connection(self._rules.redis_url or await backend.redis_url())
        stack.push_async_callback(connection.close)
        kinds = {job_type.runs_in for job_type in self._job_types}
        for executor in (self._executors[kind] for kind in self._executors if kind in kinds):
            stack.push_async_callback(executor.stop)
            await executor.start()
        backend.outbox.start()  # it is the application's, which may still have something to hand over when this worker ends
        stack.push_async_callback(self._stop_services)
        for service in self._services:
            service.start()
        guard = RollbackGuard(
            changes=ServerChanges(
                connection,
                backend.settings.prefix,
                scope=scope_of(backend.database.url, backend.catalog.queues),
            ),
            lost=self._put_back_what_is_lost,
            clock=backend.clock,
            random=backend.random,
        )
        self._guard = guard
        stack.push_async_callback(guard.stop)
        guard.start()
        execution = self._execution(guard)
        self._workers = {queue: self._worker(queue, execution, connection) for queue in self._slots}
        for worker in self._workers.values():
            worker.on("error", guard.doubt)
            worker.on("error", self._hear_outage)
            worker.on("lease_lost", self._hear_loss)
        for queue in self._paused:
            await self._workers[queue].pause(wait=False)
        self._look_whether_begun()

    @property
    def _job_types(self) -> list[JobType[Any, Any]]:
        """The types whose handlers it calls."""
        catalog = self._backend.catalog
        return [job_type for queue in self._slots for job_type in catalog.on_queue(queue) if job_type.has_handler]

    def _execution(self, guard: RollbackGuard) -> Execution:
        backend = self._backend
        recorder = Recorder(
            database=backend.database,
            group=backend.group,
            saver=self._saver,
            alerts=self._alerts,
            told=backend.watch.tell,
            tally=self._tally,
            redact=self._redact,
            worker=self.name,
            clock=backend.clock,
            random=backend.random,
        )
        admission = Admission(
            catalog=backend.catalog,
            recorder=recorder,
            alerts=self._alerts,
            adopt=Adopter(catalog=backend.catalog, database=backend.database, clock=backend.clock).adopt_one,
            prompt=backend.prompt,
            is_doubtful=guard.doubts,
            acted_on=self._attendant.acted_on,
            redact=self._redact,
            worker=self.name,
            clock=backend.clock,
        )
        effects = EffectLedger(database=backend.database, clock=backend.clock)
        return Execution(
            admission=admission,
            recorder=recorder,
            attendant=self._attendant,
            executors=self._executors,
            backing=LedgerBacking(effects=effects, saver=self._saver),
            deps=self._deps,
            redact=self._redact,
            clock=backend.clock,
            spans=backend.spans,
        )

    def _worker(self, queue: str, execution: Execution, connection: Connection) -> Worker:
        worker = Worker(
            queue,
            execution.run,
            connection,
            prefix=self._backend.settings.prefix,
            concurrency=self._slots[queue],
            name=self.name,
            lease=self._lease,
            stalled_interval=self._rules.stalled_interval,
            max_stalled=self._rules.max_crashes - 1,  # as often it may be put back
            rate_limit=self._rules.rate_limits.get(queue),
            on_refusal=execution.refuse,
            telemetry=self._backend.telemetry,
            clock=self._backend.clock,
            random=self._backend.random,
        )
        worker.on("ready", partial(self._hear_answer, queue))
        return worker

    async def _ledger_answers(self) -> bool:
        """Wait until the ledger answers, since an outage later on is waited out too; False when the worker is to stop
        meanwhile.
        """
        pauses = Pauses(longest=1.0)  # `stop` waits for the end of one
        while not self._stopping:
            try:
                await self._backend.ready()
                return True
            except LedgerUnavailable as error:
                if not pauses.current:
                    log.warning("worker %s waits for the ledger: %s", self.name, error)
                self._begun.set()
            await self._backend.clock.sleep(pauses.failed())
        return False

    def _hear_answer(self, queue: str) -> None:
        self._answered.add(queue)
        if self.is_ready:
            log.info("worker %s is ready", self.name)
            report_ready()
        self._look_whether_begun()

    def _put_back_what_is_lost(self, changes: ServerChanges) -> None:
        for service in self._services:
            if isinstance(service, FullLook):
                service.ask(changes)

    def _hear_loss(self, job: Job) -> None:
        self._leases_lost += 1
        self._tally.ended(job.queue, OTHER if self._backend.catalog.find(job.name) is None else job.name, "lease_lost")

    def _hear_outage(self, _: Exception) -> None:
        self._begun.set()

    def _look_whether_begun(self) -> None:
        # A queue that is paused from the start asks its server nothing.
        if self._answered | self._paused >= self._slots.keys():
            self._begun.set()

    def _log_failure(self, error: BaseException) -> None:
        log.error("worker %s has failed, and runs no more jobs: %s", self.name, error, exc_info=error)

    # Telling of itself ----------------------------------------------------------------------------------------------------------------

    def _reports(self) -> list[WorkerReport]:
        every = self._rules.upkeep.report_every
        if every is None:
            return []
        backend = self._backend
        report = WorkerReport(
            database=backend.database,
            tally=self._tally,
            look=self._look_at_itself,
            clock=backend.clock,
            random=backend.random,
            interval=to_seconds(every, "report_every"),
        )
        return [report]

    def _look_at_itself(self) -> WorkerRow:
        now = now_ms(self._backend.clock)
        return WorkerRow(
            id=self._id,
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            queues=list(
                self._slots
            ),  # those of Taurine's own too: whoever looks for somebody who serves them finds it here
            slots=sum(self._slots[queue] for queue in self._queues),
            busy=sum(len(self._workers[queue].running) for queue in self._queues if queue in self._workers),
            leases_lost=self._leases_lost,
            diverged=self._diverged(),
            loops={beat.name: _turn_of(beat, now) for beat in self.heartbeats},
            started_at=self._started_at,
            seen_at=now,
        )

    def _diverged(self) -> int | None:
        latest = [one.latest for one in self._services if isinstance(one, Reconciler) and one.latest is not None]
        return sum(report.repaired + report.orphans for report in latest) if latest else None

    def _plan(self) -> str:
        return ", ".join(f"{self._slots[queue]} jobs at once of {queue}" for queue in self._queues)

    # Running and ending -------------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Run all queues' workers; when one cannot go on, the others stop too, and its error is raised."""
        if self._stopping:
            return  # told to while it started
        tasks = [
            asyncio.create_task(worker.run(), name=f"taurine worker of {queue}")
            for queue, worker in self._workers.items()
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await self._stop_queues(0.0)
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.result()

    async def _stop_queues(self, grace: float) -> None:
        handlers = self._attendant.tasks
        await asyncio.gather(*(worker.stop(grace=grace) for worker in self._workers.values()))
        if handlers:
            await asyncio.wait(handlers, timeout=_LAST_WORD)

    async def _stop_services(self) -> None:
        await asyncio.gather(*(service.stop() for service in self._services))

    def _chosen(self, queue: str | None) -> list[str]:
        return list(self._slots) if queue is None else [self._checked(queue)]

    def _checked(self, queue: str) -> str:
        if queue not in self._slots:
            raise InvalidOption(f"this worker does not work on queue {queue!r}{did_you_mean(queue, self.queues)}")
        return queue


def _turn_of(beat: Heartbeat, now: int) -> LoopTurn:
    turned_at = now - round(beat.age * 1000)
    return LoopTurn(turned_at, None if beat.due == math.inf else turned_at + round((beat.due - beat.turned_at) * 1000))
