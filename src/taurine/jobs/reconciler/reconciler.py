"""The reconciler: the loop that compares the ledger with the queues, and mends what an outage, a loss of data or a hand
has put apart.

| the record | the queue | what is done |
|---|---|---|
| open | the job is gone | a new generation of it is added; cancelled instead where somebody removed it by hand, or the queue says so |
| open | the job has ended | the end is written into the record, a failure with its dead letter |
| open | the job is stored, in no line | it is put back in line |
| ended | the job waits | it is taken out |
| none | the job waits | it is counted and reported |

Slow, running and waiting jobs stand in the queue and are left alone. Every write finds the record as it was seen, or
changes nothing; so several reconcilers may run at once, and a job that ends while it is looked at is not touched.

Both sides are read in pages, a bounded number in each pass; the next pass goes on there. A pass that finds jobs gone
goes on to the end: the server has lost data, and its queue is to be rebuilt now.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import cast, get_args

from taurine.clock import Clock, now_ms
from taurine.ids import public_id, run_of
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.reconciler.mending import Mender, ReconcileReport
from taurine.jobs.reconciler.rules import restore_rules
from taurine.jobs.reconciler.undeclared import UndeclaredJobs
from taurine.ledger.database import Database
from taurine.ledger.reconciliation import Place, RecordStanding, dispatched_page, standings_of
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Queue
from taurine.queue.standings import LineState
from taurine.service import Service

__all__ = ["Reconciler"]

log = logging.getLogger("taurine.jobs")

_PAGE = 500
"""Records, or jobs in a line, that are compared at a time."""


class Reconciler(Service[ReconcileReport]):
    """The service. Several may run at once, in any processes.

    queue: the queue of a name. take_out: takes jobs out of their queues.
    interval: seconds from one pass to the next. Default: 10.
    age: seconds since a job was added, or its record ended, before which it is not looked at. Default: 10.
    budget: records, and jobs in line, that a pass compares. Default: 5,000 each.
    rate: comparisons a second at most. Default: 5,000.
    """

    def __init__(
        self,
        *,
        database: Database,
        mender: Mender,
        undeclared: UndeclaredJobs,
        catalog: Catalog,
        queue: Callable[[str], Awaitable[Queue]],
        take_out: Callable[[Sequence[JobRecord]], Awaitable[int]],
        clock: Clock,
        random: Random,
        interval: float = 10.0,
        age: float = 10.0,
        budget: int = 5000,
        rate: float = 5000.0,
    ) -> None:
        super().__init__(name="reconciler", interval=interval, clock=clock, random=random)
        self._database = database
        self._mender = mender
        self._undeclared = undeclared
        self._catalog = catalog
        self._queue = queue
        self._take_out = take_out
        self._age_ms = round(age * 1000)
        self._budget = budget
        self._rate = rate
        self._place: Place | None = None
        self.latest: ReconcileReport | None = None
        """What the last pass saw and did."""
        self._line_places: dict[tuple[str, LineState], int] = {}

    async def run_once(self) -> ReconcileReport:
        report = ReconcileReport()
        self._mender.begin()
        await restore_rules(self._catalog, self._queue)
        await self._compare_records(report)
        for name in self._catalog.queues:
            for collection in get_args(LineState):
                await self._compare_line(name, cast("LineState", collection), report)
        await self._undeclared.look()
        self.latest = report
        if report.repaired or report.orphans:
            log.warning("the reconciler found the ledger and the queues apart: %s", report)
        return report

    # From the records to the queues -----------------------------------------------------------------------------------------------------

    async def _compare_records(self, report: ReconcileReport) -> None:
        looked_at = 0
        while True:
            self.heartbeat.turn()
            started, gone = self._clock.monotonic(), report.gone
            until, place = now_ms(self._clock) - self._age_ms, self._place
            records, self._place = await self._database.read(
                lambda connection, place=place, until=until: dispatched_page(connection, place, _PAGE, until)
            )
            await self._mender.mend(self._mender.ours(records), report)
            looked_at += _PAGE  # rows, of whatever queues and whether they were handed over or not
            if self._place is None or (looked_at >= self._budget and report.gone == gone):
                return
            await self._keep_to_rate(len(records), started)

    # From the queues to the records -----------------------------------------------------------------------------------------------------

    async def _compare_line(self, name: str, collection: LineState, report: ReconcileReport) -> None:
        queue = await self._queue(name)
        place = self._line_places.get((name, collection), 0)
        for _ in range(0, self._budget, _PAGE):
            self.heartbeat.turn()
            started = self._clock.monotonic()
            page = await queue.line_page(collection, place, _PAGE)
            removed = await self._check_line(queue, page, report)
            place = 0 if len(page) < _PAGE else place + len(page) - removed
            if place == 0:
                break
            await self._keep_to_rate(len(page), started)
        self._line_places[name, collection] = place

    async def _check_line(self, queue: Queue, stored_ids: Sequence[str], report: ReconcileReport) -> int:
        ids = [public_id(stored) for stored in stored_ids]
        if not ids:
            return 0
        standings = await self._database.read(lambda connection: standings_of(connection, ids))
        report.in_line += len(ids)
        if not self._catalog.rules_of(queue.name).shared:
            # A scheduler's next run has no record before it is due.
            report.orphans += sum(job_id not in standings and run_of(job_id) is None for job_id in ids)
        over = list(self._ended_a_while_ago(standings.values(), queue.name))
        if not over:
            return 0
        # As they stand now: one that runs again meanwhile has not ended, and stays.
        records = await self._database.read(lambda connection: get_records(connection, over))
        removed = await self._take_out(list(records.values()))
        report.taken_out += removed
        return removed

    def _ended_a_while_ago(self, standings: Iterable[RecordStanding], queue: str) -> Iterable[str]:
        """Those whose job cannot be one that was in line a moment ago and has just run."""
        latest = now_ms(self._clock) - self._age_ms
        for standing in standings:
            if standing.queue == queue and standing.status in TERMINAL and (standing.finished_at or 0) <= latest:
                yield standing.id

    async def _keep_to_rate(self, compared: int, started: float) -> None:
        await self._clock.sleep(max(0.0, compared / self._rate - (self._clock.monotonic() - started)))
