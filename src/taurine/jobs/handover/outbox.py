"""The outbox: the loop that hands accepted jobs to the queue which were not handed over in the call that accepted them.

Several may run at once, in any processes: adding is idempotent by id, and each adds a queue's jobs in the order of
their acceptance. It looks every second, and at once when this process has recorded something that the queue did not
take. There is no NOTIFY between processes: each commit would pay for it, on a lock that all commits of a PostgreSQL
server share, to save a second in the rare case that a process died between its commit and its handing over.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.errors import InvalidOption, JobError, LedgerUnavailable, StoreError
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.handover.dispatch import YOUNG_MS, Dispatcher
from taurine.jobs.reporting.failures import fingerprint
from taurine.jobs.reporting.lines import unrun_fields
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import fence_of
from taurine.ledger.outbox import take_undispatched
from taurine.ledger.reconciliation import standings_of
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.ledger.tallies import add_outcomes, open_kinds
from taurine.pauses import Pauses
from taurine.service import Service

__all__ = ["Outbox"]

log = logging.getLogger("taurine.jobs")

_BATCH = 500
"""Jobs of each queue that one transaction of a pass reads, unless they are large: then fewer."""

_REFUSED_AT_MOST = 10_000
"""Jobs that cannot be queued whose ids are remembered, so that each is logged once."""

_PATIENCE = 10.0
"""Seconds for which a job that cannot be stored is tried again; then it has failed, and no longer stands before others."""

_FIRST_PAUSE = 0.1
"""Seconds after a failed pass in which nothing is tried, however many jobs are recorded meanwhile; they grow up to the
interval.
"""


class Outbox(Service[int]):
    """The service. A pass returns how many jobs it handed over.

    take_out: takes jobs out of their queues that have ended in the ledger while they were handed over.
    interval: seconds from one pass to the next. Default: 1.
    rate: jobs a second at most, so that a backlog that an outage has left does not fall upon a server that has just
    come back. Default: 5,000.
    redact: what log lines must not show. Default: obvious secrets and e-mail addresses.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        take_out: Callable[[Sequence[JobRecord]], Awaitable[object]],
        clock: Clock,
        random: Random,
        interval: float = 1.0,
        rate: float = 5000.0,
        redact: Redact = Redact.DEFAULT,
    ) -> None:
        super().__init__(name="outbox", interval=interval, clock=clock, random=random)
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._take_out = take_out
        self._rate = rate
        self._asked = asyncio.Event()
        self._pauses = Pauses(first=_FIRST_PAUSE, longest=interval)
        self._ended: set[str] = set()
        self._finished = False
        self._redact = redact
        self._refused_since: dict[str, float] = {}

    async def run_once(self) -> int:
        urgent = self._asked.is_set()
        age = 0 if urgent else YOUNG_MS
        self._asked.clear()
        handed_over, before = 0, set[str]()
        try:
            await self._take_back_ended()
            while True:
                self.heartbeat.turn()
                records = await self._next(age)
                ids = {record.id for record in records}
                if ids <= before:  # none, or none that could be handed over or stamped: what is left is another pass's
                    self._pauses.succeeded()
                    return handed_over
                started, before = self._clock.monotonic(), ids
                handed_over += await self._hand_over(records)
                await self._clock.sleep(max(0.0, len(records) / self._rate - (self._clock.monotonic() - started)))
        except asyncio.CancelledError:
            if urgent:
                self._asked.set()  # for `finish`
            raise
        except Exception:
            self._pauses.failed()
            raise

    async def _next(self, age: int) -> list[JobRecord]:
        until = now_ms(self._clock) - age
        queues, types = self._catalog.all_queues, [job_type.name for job_type in self._catalog.all_types]
        return await self._database.read(
            lambda connection: take_undispatched(connection, queues, _BATCH, until, types=types)
        )

    async def _hand_over(self, records: Sequence[JobRecord]) -> int:
        try:
            handed_over = await self._dispatcher.dispatch(records)
        except (JobError, InvalidOption):
            handed_over = await self._hand_over_singly(records)
        await self._take_back([record.id for record in records])
        return handed_over

    async def _hand_over_singly(self, records: Sequence[JobRecord]) -> int:
        """One of them cannot be stored: it must not keep the others waiting."""
        handed_over = 0
        for record in records:
            try:
                handed_over += await self._dispatcher.dispatch([record])
            except (JobError, InvalidOption) as error:
                await self._refused(record, error)
        return handed_over

    async def _refused(self, record: JobRecord, error: Exception) -> None:
        """A job cannot be stored: say so once, and give it up after a while."""
        now = self._clock.monotonic()
        since = self._refused_since.get(record.id)
        if since is None:
            if len(self._refused_since) >= _REFUSED_AT_MOST:
                self._refused_since.clear()
            self._refused_since[record.id] = now
            self._report("job %s (%s) is accepted and cannot be queued: %s", record, error)
        elif now - since >= _PATIENCE:
            failure = _failure_of(record, self._redact.text(str(error)), type(error).__name__, self._clock.now())
            given_up = await self._database.write(lambda connection: _give_up(connection, failure))
            del self._refused_since[record.id]
            if given_up:
                self._report("job %s (%s) has failed, since it cannot be queued: %s", record, error)

    def _report(self, message: str, record: JobRecord, error: Exception) -> None:
        job_id = self._redact.job_id(record.id)
        log.error(
            message,
            *(job_id, record.type, self._redact.text(str(error))),
            extra=unrun_fields(job_id, job_type=record.type, queue=record.queue, tenant=record.tenant),
        )

    async def _take_back(self, ids: Sequence[str]) -> None:
        """Those that were cancelled, or expired, after they were read here must not wait in the queue."""
        standings = await self._database.read(lambda connection: standings_of(connection, ids))
        unwanted = [now.id for now in standings.values() if now.status in TERMINAL and now.status != "completed"]
        if not unwanted:
            return
        records = await self._database.read(lambda connection: get_records(connection, unwanted))
        try:
            await self._take_out(list(records.values()))
        except StoreError as error:
            log.debug("jobs that have ended wait for the reconciler to take them out: %s", error)

    async def _take_back_ended(self) -> None:
        ids, self._ended = self._ended, set()
        if not ids:
            return
        try:
            await self._take_back(sorted(ids))
        except Exception:
            self._ended |= ids
            raise

    def take_back(self, ids: Sequence[str]) -> None:
        """These jobs may have ended while the call that accepted them added them: look soon."""
        self._ended.update(ids)
        self.ask()

    def ask(self) -> None:
        """Something was recorded that was not handed over: look soon, also at what is young."""
        self._asked.set()
        if not self._finished:
            self.start()

    async def finish(self, within: float) -> None:
        """End the loop.

        What it was asked for and has not looked at yet is handed over first, as far as that goes within so many
        seconds.
        """
        self._finished = True
        await self.stop()
        if not self._asked.is_set():
            return
        try:
            async with asyncio.timeout(within):
                await self.run_once()
        except (StoreError, LedgerUnavailable, TimeoutError) as error:
            log.debug("what is not handed over is left to the next process: %s", error)

    async def rest(self, seconds: float) -> None:
        if self._pauses.current:
            await self._clock.sleep(self._pauses.current)
            self._asked.set()
        await self._clock.wait(self._asked, seconds)


def _give_up(connection: Connection, failure: Ending) -> bool:
    """False where the job is another's by now, whose word counts."""
    kinds = open_kinds(connection, [failure.id])
    if apply_endings(connection, [failure]) != [None]:
        return False
    add_outcomes(connection, ((kind, "failed") for kind in kinds.values()), failure.at)
    return True


def _failure_of(record: JobRecord, message: str, kind: str, now: float) -> Ending:
    """The end of a job that was never queued, with its dead letter."""
    return Ending(
        id=record.id,
        fence=max(record.fence, fence_of(record.generation, 1)),
        status="failed",
        attempts=max(1, record.attempts),
        at=round(now * 1000),
        error=json.dumps({"type": kind, "message": message, "traceback": ""}, ensure_ascii=False),
        error_fingerprint=fingerprint(kind, ()),
        dead_letter="permanent",
    )
