"""Looks after the jobs that run in this process: what they say is saved, and what is said to them is passed on.

Everything that is not the end of an attempt goes through here, a few times a second and together: that a job runs at all (one that ends sooner than the next
pass never says so), how far it is, its saved state, its log lines; and, the other way, that it was cancelled, or that another worker has it by now.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from random import Random

from taurine.clock import Clock
from taurine.errors import InvalidOption, JobError, LedgerUnavailable, PayloadError, StoreError
from taurine.jobs.context import Context
from taurine.jobs.lines import line_fields, log
from taurine.ledger.cancellations import requested_cancels
from taurine.ledger.database import Database
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.job_logs import JobLines, append_lines
from taurine.ledger.outcomes import Granted, Start, apply_starts
from taurine.ledger.progress import Progress, save_progress
from taurine.queue import Job
from taurine.service import Service

__all__ = ["Attendant", "Run"]

INTERVAL = 0.25
"""Seconds between two passes: a cancellation is heard well within a second, and a short job costs no write of its own."""


@dataclass(slots=True, eq=False)
class Run:
    """One handler that runs now. started: ms since the epoch."""

    job: Job
    context: Context
    task: asyncio.Task[object]
    started: int
    worker: str
    shown: bool = False
    """True once the record says `running`."""


class Attendant(Service[int]):
    """The service. A pass returns how many jobs it looked after."""

    def __init__(self, *, database: Database, group: GroupCommit, clock: Clock, random: Random) -> None:
        super().__init__(name="attendant", interval=INTERVAL, clock=clock, random=random)
        self._database = database
        self._group = group
        self._runs: set[Run] = set()

    def enter(self, job: Job, context: Context, started: int, worker: str) -> Run:
        """A handler is about to be called, in the current task."""
        task = asyncio.current_task()
        assert task is not None
        run = Run(job, context, task, started, worker)
        self._runs.add(run)
        return run

    def leave(self, run: Run) -> None:
        """The handler has returned or raised."""
        self._runs.discard(run)

    async def run_once(self) -> int:
        now = round(self._clock.now() * 1000)
        runs = [run for run in self._runs if now - run.started >= INTERVAL * 1000 or run.context.progress_changed]
        if not runs:
            return 0
        await asyncio.gather(*(self._look_after(run, now) for run in runs))
        await self._pass_cancels_on([run for run in runs if run in self._runs])
        return len(runs)

    async def save(self, context: Context) -> None:
        """Save what an attempt that has just ended had still to say. Raises LedgerUnavailable, which loses its log lines at most."""
        with contextlib.suppress(LedgerUnavailable):
            await self._save(context, round(self._clock.now() * 1000))

    async def _look_after(self, run: Run, now: int) -> None:
        context = run.context
        said = context.progress_changed
        granted = await self._save(context, now)
        if granted is None and not run.shown:
            granted = await self._group.submit(
                apply_starts,
                Start(
                    id=context.job_id,
                    fence=context.fence,
                    attempts=context.attempt - 1,
                    worker=run.worker,
                    started_at=run.started,
                    at=now,
                ),
            )
            run.shown = granted is None
        if granted is not None:
            self._stop(run, f"the record is {granted}: another delivery of the job has it")
        elif said and run in self._runs:
            # For BullMQ's dashboards; the record has it already.
            with contextlib.suppress(StoreError, JobError, PayloadError):
                await run.job.update_progress(context.progress_value)

    async def _save(self, context: Context, now: int) -> Granted:
        granted: Granted = None
        state: str | None = None
        try:
            state = context.changed_state_json()
        except InvalidOption as error:
            log.error("job %s: %s", context.job_id, error, extra=line_fields(context))
        if context.progress_changed or state is not None:
            context.progress_changed = False
            granted = await self._group.submit(
                save_progress,
                Progress(id=context.job_id, fence=context.fence, progress=context.progress_json(), state=state, at=now),
            )
        if context.lines:
            lines, context.lines = context.lines, []
            await self._group.submit(append_lines, JobLines(id=context.job_id, fence=context.fence, lines=tuple(lines)))
        return granted

    async def _pass_cancels_on(self, runs: list[Run]) -> None:
        ids = [run.context.job_id for run in runs]
        cancelled = await self._database.read(lambda connection: requested_cancels(connection, ids))
        for run in runs:
            reason = cancelled.get(run.context.job_id)
            if reason is not None and run in self._runs:
                self._stop(run, reason)

    def _stop(self, run: Run, reason: str) -> None:
        if run.context.cancelled:
            return
        log.info(
            "job %s (%s) is to stop: %s", run.context.job_id, run.context.type, reason, extra=line_fields(run.context)
        )
        run.context.request_cancel(reason)
        run.task.cancel()
