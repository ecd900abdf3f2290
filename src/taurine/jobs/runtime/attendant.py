"""Looks after the jobs that run in this process: what they say is saved, and what is said to them is passed on.

Everything that is not the end of an attempt goes through here, a few times a second and for all together: that a job
runs at all (one that ends sooner than the next pass never says so), how far it is, its saved state, its log lines; and,
the other way, that it was cancelled, or that another worker has it by now.

A pass costs one query for all jobs that run and, for those that have something new, their share of one transaction;
nothing else grows with their number.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from taurine.clock import Clock, now_ms
from taurine.errors import InvalidOption, JobError, LedgerRefused, PayloadError, StoreError
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.lines import line_fields, log, one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.runtime.acted_on import ActedOn
from taurine.jobs.runtime.saving import Saver
from taurine.ledger.cancellations import Stop, requested_stops
from taurine.ledger.database import Database
from taurine.ledger.fences import Granted
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.starts import Start, apply_starts
from taurine.queue import Job
from taurine.service import Service

__all__ = ["Attendant", "Run"]

INTERVAL = 0.25
"""Seconds between two passes: a cancellation is heard well within a second, and a short job costs no write of its own."""

_LOOK_INTERVAL = 1.0
"""Seconds between two looks at what was done to jobs that may not run yet."""

_LATE = 2.0
"""Seconds by which a pass may be late before it is said that something blocks the event loop."""

_SHOW_TIME = 0.5
"""Seconds that the queue's server has to take a progress; others wait behind it for their cancellation."""


@dataclass(slots=True, eq=False)
class Run:
    """One handler that runs now. started: ms since the epoch."""

    job: Job
    context: Context
    task: asyncio.Task[object]
    started: int
    shown: bool
    """True once the record says `running`."""
    cancelled: bool = False
    """True once the handler was told that its job is cancelled: its run is cut off for that, and not as the worker
    stops.
    """
    overtaken: bool = False
    """True once the handler was told that another delivery has its job, or has ended it: nothing that it does counts
    any more.
    """
    complained: bool = False


class Attendant(Service[int]):
    """The service. A pass returns how many jobs it looked after. redact: what log lines must not show."""

    def __init__(
        self,
        *,
        database: Database,
        group: GroupCommit,
        saver: Saver,
        worker: str,
        redact: Redact,
        clock: Clock,
        random: Random,
    ) -> None:
        super().__init__(name="attendant", interval=INTERVAL, clock=clock, random=random)
        self._database = database
        self._group = group
        self._saver = saver
        self._worker = worker
        self._redact = redact
        self._runs: set[Run] = set()
        self.acted_on = ActedOn(database)
        self._look_due = 0.0
        self._refused = False

    def enter(self, job: Job, context: Context, started: int, *, shown: bool) -> Run:
        """A handler is about to be called, in the current task. shown: the record says `running` already."""
        task = asyncio.current_task()
        assert task is not None
        run = Run(job, context, task, started, shown)
        self._runs.add(run)
        return run

    def leave(self, run: Run) -> None:
        """The handler has returned or raised, or was given up. From now on nothing is said to it."""
        self._runs.discard(run)

    def attends(self, task: asyncio.Task[Any] | None) -> bool:
        """True if `task` is the one in which a handler runs."""
        return any(run.task is task for run in self._runs)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """Those in which handlers run now."""
        return {run.task for run in self._runs}

    async def run_once(self) -> int:
        await self._look()
        now = now_ms(self._clock)
        runs = [run for run in self._runs if now - run.started >= INTERVAL * 1000 or run.context.progress_changed]
        if not runs:
            return 0
        await self._pass_stops_on(runs)
        await self._save(runs, now)
        return len(runs)

    async def rest(self, seconds: float) -> None:
        due = self._clock.monotonic() + seconds
        await super().rest(seconds)
        late = self._clock.monotonic() - due
        if late > _LATE and self._runs:
            names = sorted({run.context.type for run in self._runs})[:5]
            log.warning(
                "the event loop was blocked for %.1f s, and with it every job and lease of this worker; a handler of %s "
                "computes or blocks without await: give it runs_in='thread' or 'process'",
                late,
                ", ".join(names),
            )

    # From the ledger to the handlers --------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        if self._clock.monotonic() >= self._look_due:
            await self.acted_on.look()
            self._look_due = self._clock.monotonic() + _LOOK_INTERVAL

    async def _pass_stops_on(self, runs: Sequence[Run]) -> None:
        fences = [(run.context.job_id, run.context.fence) for run in runs]
        stops = await self._database.read(lambda connection: requested_stops(connection, fences))
        for run, stop in zip(runs, stops, strict=True):
            if stop is not None:
                self._stop(run, stop)

    def _stop(self, run: Run, stop: Stop) -> None:
        """Tell a handler to stop, once. One that has ended meanwhile is left alone: the ledger judges its outcome."""
        if run.cancelled or run.overtaken or run not in self._runs:
            return
        run.cancelled, run.overtaken = not stop.overtaken, stop.overtaken
        context, reason = run.context, stop.reason
        log.info(
            "job %s (%s) is to stop: %s",
            *(context.shown_id, context.type, one_line(self._redact.text(reason))),
            extra=line_fields(context),
        )
        context.request_cancel(reason)
        run.task.cancel()

    # From the handlers to the ledger ----------------------------------------------------------------------------------------------

    async def _save(self, runs: Sequence[Run], now: int) -> None:
        writes: list[Awaitable[None]] = []
        for run in runs:
            if run not in self._runs:
                continue
            if not run.shown:
                writes.append(self._show_running(run, now))
            if run.context.progress_changed or run.context.has_state:
                writes.append(self._save_progress(run))
            if run.context.lines:
                writes.append(self._saver.save_lines(run.context))
        failures = [result for result in await asyncio.gather(*writes, return_exceptions=True) if result is not None]
        refusal = next((failure for failure in failures if isinstance(failure, LedgerRefused)), None)
        if refusal is not None and not self._refused:  # a full disk, perhaps for hours
            log.error("what running jobs say cannot be saved, and is tried again: %s", refusal)
        self._refused = refusal is not None
        for failure in failures:
            if not isinstance(failure, LedgerRefused):
                raise failure  # each is tried again in the next pass

    async def _show_running(self, run: Run, now: int) -> None:
        context = run.context
        start = Start(
            id=context.job_id,
            fence=context.fence,
            attempts=context.attempt - 1,
            worker=self._worker,
            started_at=run.started,
            at=now,
        )
        granted = await self._group.submit(apply_starts, start)
        if granted is not None:
            self._stop(run, _refused(granted))
        run.shown = True

    async def _save_progress(self, run: Run) -> None:
        context, told = run.context, run.context.progress_changed
        try:
            granted = await self._saver.save_progress(context)
        except InvalidOption as error:
            if not run.complained:
                run.complained = True
                log.error("job %s: %s", context.shown_id, error, extra=line_fields(context))
            return
        if granted is not None:
            self._stop(run, _refused(granted))
        elif told and run in self._runs:
            await self.show_progress(run)

    async def show_progress(self, run: Run) -> None:
        """Write the progress to the queue, for the dashboards there; the record has it, so what goes wrong is let be."""
        with contextlib.suppress(StoreError, JobError, PayloadError, TimeoutError):
            async with asyncio.timeout(_SHOW_TIME):
                await run.job.update_progress(run.context.progress_value)


def _refused(granted: Granted) -> Stop:
    """Why a handler whose record does not take what it says is to stop."""
    if granted == "cancelled":
        return Stop("cancelled")
    return Stop(f"the record is {granted}: another delivery of the job has it", overtaken=True)
