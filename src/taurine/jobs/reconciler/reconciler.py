"""The reconciler: the loop that compares the ledger with the queues, and mends what an outage, a loss of data or a hand has put apart.

| the record | the queue | what is done |
|---|---|---|
| open | the job is gone | a new generation of it is added; cancelled instead where somebody removed it by hand, or the queue says so |
| open | the job has ended | the end is written into the record, a failure with its dead letter |
| open | the job is stored, in no line | it is put back in line |
| ended | the job waits | it is taken out |
| none | the job waits | it is counted and reported |

Slow, running and waiting jobs stand in the queue and are left alone. Every write finds the record as it was seen, or changes nothing; so several reconcilers may
run at once, and a job that ends while it is looked at is not touched.

Both sides are read in pages, a bounded number in each pass; the next pass goes on there. A pass that finds jobs gone goes on to the end: the server has lost data,
and its queue is to be rebuilt now.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import cast, get_args

from taurine.clock import Clock
from taurine.ids import public_id
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.handover.adoption import ADOPTED, stored_id_of
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.reconciler.settling import Settlement, is_end_of, settle, settlement
from taurine.ledger.database import Database
from taurine.ledger.generations import Lost, raise_generation
from taurine.ledger.outbox import undispatched_kinds
from taurine.ledger.reconciliation import (
    DispatchedRecord,
    Place,
    RecordStanding,
    cancel_vanished,
    dispatched_page,
    standings_of,
)
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Queue
from taurine.queue.standings import Ended, LineState, Standing
from taurine.service import Service

__all__ = ["ReconcileReport", "Reconciler"]

log = logging.getLogger("taurine.jobs")

_PAGE = 500
"""Records, or jobs in a line, that are compared at a time."""

_UNDECLARED_MS = 60_000
"""How long jobs wait before it is said that nothing here declares their type; and the time from one look to the next."""

_REMOVED_BY_HAND = "removed from its queue by hand"
_VANISHED = "its queue has it no more"


@dataclass(slots=True)
class ReconcileReport:
    """What one pass saw and did, in jobs."""

    records: int = 0
    """Open records that were compared with their queue."""
    in_line: int = 0
    """Jobs in line that were compared with their records."""
    gone: int = 0
    """Open, and gone from the queue."""
    put_back: int = 0
    """Of those, how many run as a new generation."""
    cancelled: int = 0
    """Of those, how many were cancelled."""
    settled: int = 0
    """Ended in the queue alone; the record says so now."""
    relisted: int = 0
    """Put back in line."""
    taken_out: int = 0
    """Taken out of the line, since the record has ended."""
    orphans: int = 0
    """In line without a record."""

    @property
    def repaired(self) -> int:
        return self.put_back + self.cancelled + self.settled + self.relisted + self.taken_out

    def __str__(self) -> str:
        return ", ".join(f"{entry.name} {getattr(self, entry.name)}" for entry in fields(self))


class Reconciler(Service[ReconcileReport]):
    """The service. Several may run at once, in any processes.

    queue: the queue of a name. take_out: takes jobs out of their queues. told: called with the id of each job that has ended.
    interval: seconds from one pass to the next. Default: 10.
    age: seconds since a job was added, or its record ended, before which it is not looked at. Default: 10.
    budget: records, and jobs in line, that a pass compares. Default: 5,000 each.
    rate: comparisons a second at most. Default: 5,000.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        queue: Callable[[str], Awaitable[Queue]],
        take_out: Callable[[Sequence[JobRecord]], Awaitable[int]],
        told: Callable[[str], None],
        clock: Clock,
        random: Random,
        interval: float = 10.0,
        age: float = 10.0,
        budget: int = 5000,
        rate: float = 5000.0,
    ) -> None:
        super().__init__(name="reconciler", interval=interval, clock=clock, random=random)
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._queue = queue
        self._take_out = take_out
        self._told = told
        self._age_ms = round(age * 1000)
        self._budget = budget
        self._rate = rate
        self._place: Place | None = None
        self._line_places: dict[tuple[str, LineState], int] = {}
        self._undeclared: set[tuple[str, str]] = set()
        self._undeclared_after = 0
        self._removed: dict[str, tuple[dict[str, int], str]] = {}

    async def run_once(self) -> ReconcileReport:
        report = ReconcileReport()
        self._removed.clear()
        for name in self._catalog.queues:
            await self._restore_rules(name)
        await self._compare_records(report)
        for name in self._catalog.queues:
            for collection in get_args(LineState):
                await self._compare_line(name, cast("LineState", collection), report)
        await self._report_undeclared()
        if report.repaired or report.orphans:
            log.warning("the reconciler found the ledger and the queues apart: %s", report)
        return report

    # What is declared -----------------------------------------------------------------------------------------------------------------

    async def _restore_rules(self, name: str) -> None:
        """Set what is declared of a queue and is not set, as after a loss of the server's data. What an operator has set otherwise stays."""
        rules = self._catalog.rules_of(name)
        if rules.concurrency is None and rules.rate_limit is None:
            return
        queue = await self._queue(name)
        meta = await queue.meta()
        if rules.concurrency is not None and meta.concurrency is None:
            await queue.set_concurrency(rules.concurrency)
        if rules.rate_limit is not None and meta.rate_limit is None:
            await queue.set_rate_limit(rules.rate_limit)

    async def _report_undeclared(self) -> None:
        """Say once of each type, and queue, that nothing here declares and whose jobs wait to be handed over: it may have been renamed, moved, or removed too early."""
        now = self._now_ms()
        if now < self._undeclared_after:
            return
        self._undeclared_after = now + _UNDECLARED_MS
        kinds = await self._database.read(lambda connection: undispatched_kinds(connection, now - _UNDECLARED_MS))
        for name, queue, count in kinds:
            declared = self._catalog.find(name) is not None and queue in self._catalog.queues
            if declared or (name, queue) in self._undeclared:
                continue
            self._undeclared.add((name, queue))
            log.warning(
                "%d jobs of type %r wait for queue %r, and this application declares no such type there: they run once a process that does is started",
                *(count, name, queue),
                extra={"job_type": name, "queue": queue},
            )

    # From the records to the queues -----------------------------------------------------------------------------------------------------

    async def _compare_records(self, report: ReconcileReport) -> None:
        looked_at = 0
        while True:
            started, gone = self._clock.monotonic(), report.gone
            until, place = self._now_ms() - self._age_ms, self._place
            records, self._place = await self._database.read(
                lambda connection, place=place, until=until: dispatched_page(connection, place, _PAGE, until)
            )
            mine = [record for record in records if record.queue in self._catalog.queues]
            await self._mend(mine, report)
            report.records += len(mine)
            looked_at += _PAGE  # rows, of whatever queues and whether they were handed over or not
            if self._place is None or (looked_at >= self._budget and report.gone == gone):
                return
            await self._keep_to_rate(len(records), started)

    async def _mend(self, records: Sequence[DispatchedRecord], report: ReconcileReport) -> None:
        by_queue: dict[str, list[DispatchedRecord]] = {}
        for record in records:
            by_queue.setdefault(record.queue, []).append(record)
        for name, mine in by_queue.items():
            queue = await self._queue(name)
            standings = await queue.standings(
                [stored_id_of(record.id, record.source, record.generation) for record in mine]
            )
            await self._mend_queue(queue, list(zip(mine, standings, strict=True)), report)

    async def _mend_queue(
        self, queue: Queue, pairs: Sequence[tuple[DispatchedRecord, Standing]], report: ReconcileReport
    ) -> None:
        gone: list[DispatchedRecord] = []
        ended: list[tuple[DispatchedRecord, Ended]] = []
        for record, standing in pairs:
            if standing == "gone":
                gone.append(record)
            elif standing == "nowhere":
                report.relisted += await queue.relist(stored_id_of(record.id, record.source, record.generation))
            elif isinstance(standing, Ended):
                if is_end_of(standing, generation=record.generation, created_at=record.created_at):
                    ended.append((record, standing))
                else:
                    # An earlier run of the id, which stood in the way of this one when it was added.
                    gone.append(record)
        if ended:
            report.settled += await self._settle(ended)
        if gone:
            report.gone += len(gone)
            await self._replace(queue, gone, report)

    async def _settle(self, ended: Sequence[tuple[DispatchedRecord, Ended]]) -> int:
        now = self._now_ms()
        settlements: list[Settlement] = [settlement(record, end, now) for record, end in ended]
        granted = await self._database.write(lambda connection: settle(connection, settlements))
        for item, refusal in zip(settlements, granted, strict=True):
            if refusal is None:
                self._told(item.id)
        return granted.count(None)

    async def _replace(self, queue: Queue, gone: Sequence[DispatchedRecord], report: ReconcileReport) -> None:
        removed = await self._recently_removed(queue)
        cancels_vanished = self._catalog.rules_of(queue.name).on_vanished == "cancel"
        by_hand: list[Lost] = []
        vanished: list[Lost] = []
        lost: list[Lost] = []
        for record in gone:
            at = removed.get(public_id(stored_id_of(record.id, record.source, record.generation)))
            if at is not None and at >= record.dispatched_at - self._age_ms:
                by_hand.append(record.seen)
            elif cancels_vanished or record.source == ADOPTED:
                # Who put it there may have asked that nothing is kept of it; to run it again would be worse than not to know.
                vanished.append(record.seen)
            else:
                lost.append(record.seen)
        for items, reason in ((by_hand, _REMOVED_BY_HAND), (vanished, _VANISHED)):
            report.cancelled += await self._cancel(items, reason)
        if lost:
            now = self._now_ms()
            raised = await self._database.write(lambda connection: raise_generation(connection, lost, now))
            records = [record for record in raised if record is not None]
            report.put_back += len(records)
            await self._dispatcher.dispatch(records)

    async def _recently_removed(self, queue: Queue) -> dict[str, int]:
        """Read whole once in a pass, which may find losses on each of its pages; from then on only what is new."""
        known, last = self._removed.get(queue.name, ({}, ""))
        news, last = await queue.recently_removed(last)
        self._removed[queue.name] = known | news, last
        return self._removed[queue.name][0]

    async def _cancel(self, items: Sequence[Lost], reason: str) -> int:
        if not items:
            return 0
        now = self._now_ms()
        done = await self._database.write(lambda connection: cancel_vanished(connection, items, now, reason))
        for item, cancelled in zip(items, done, strict=True):
            if cancelled:
                self._told(item.id)
        return sum(done)

    # From the queues to the records -----------------------------------------------------------------------------------------------------

    async def _compare_line(self, name: str, collection: LineState, report: ReconcileReport) -> None:
        queue = await self._queue(name)
        place = self._line_places.get((name, collection), 0)
        for _ in range(0, self._budget, _PAGE):
            started = self._clock.monotonic()
            page = await queue.line_page(collection, place, _PAGE)
            removed = await self._check_line(queue, page, report)
            place = 0 if len(page) < _PAGE else place + len(page) - removed
            if place == 0:
                break
            await self._keep_to_rate(len(page), started)
        self._line_places[name, collection] = place

    async def _check_line(self, queue: Queue, stored_ids: Sequence[str], report: ReconcileReport) -> int:
        # A scheduler's next run has no record before it is due; and of jobs that others have added nothing is known here.
        ids = [public_id(stored) for stored in stored_ids if not stored.startswith("repeat:")]
        if not ids:
            return 0
        standings = await self._database.read(lambda connection: standings_of(connection, ids))
        report.in_line += len(ids)
        if not self._catalog.rules_of(queue.name).shared:
            report.orphans += sum(job_id not in standings for job_id in ids)
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
        latest = self._now_ms() - self._age_ms
        for standing in standings:
            if standing.queue == queue and standing.status in TERMINAL and (standing.finished_at or 0) <= latest:
                yield standing.id

    async def _keep_to_rate(self, compared: int, started: float) -> None:
        await self._clock.sleep(max(0.0, compared / self._rate - (self._clock.monotonic() - started)))

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)
