"""What is done with open records whose queue does not stand as they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields

from taurine.clock import Clock, now_ms
from taurine.ids import public_id
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.handover.adoption import ADOPTED, stored_id_of
from taurine.jobs.handover.copies import is_end_of
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.reconciler.settling import Settlement, settle, settlement
from taurine.ledger.database import Database
from taurine.ledger.generations import Seen, raise_generation
from taurine.ledger.reconciliation import DispatchedRecord, cancel_vanished
from taurine.queue import Queue
from taurine.queue.standings import Ended, Standing

__all__ = ["Mender", "ReconcileReport"]

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


class Mender:
    """Compares open records with their queues, and mends what does not fit.

    Every write finds the record as it was seen, or changes nothing.

    queue: the queue of a name. told: called with the id of each job that has ended. age_ms: by how much the clock of
    the server that tells of removals, and those of who stamped the records, may differ.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        queue: Callable[[str], Awaitable[Queue]],
        told: Callable[[str], None],
        clock: Clock,
        age_ms: int,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._queue = queue
        self._told = told
        self._clock = clock
        self._age_ms = age_ms
        self._removed: dict[str, tuple[dict[str, int], str]] = {}

    def begin(self) -> None:
        """A pass over some pages begins."""
        self._removed.clear()

    def ours(self, records: Sequence[DispatchedRecord]) -> list[DispatchedRecord]:
        """Those that this application answers for: it knows their queue, or their type, which may have gone to another
        queue since. The rest is other programs'.
        """
        queues = set(self._catalog.all_queues)
        return [record for record in records if record.queue in queues or self._catalog.find(record.type) is not None]

    async def mend(self, records: Sequence[DispatchedRecord], report: ReconcileReport) -> None:
        """Compare these with their queues and mend what is to be mended, and count it in `report`."""
        by_queue: dict[str, list[DispatchedRecord]] = {}
        for record in records:
            by_queue.setdefault(record.queue, []).append(record)
        for name, mine in by_queue.items():
            queue = await self._queue(name)
            standings = await queue.standings(
                [stored_id_of(record.id, record.source, record.generation) for record in mine]
            )
            await self._mend_queue(queue, list(zip(mine, standings, strict=True)), report)
        report.records += len(records)

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
        now = now_ms(self._clock)
        settlements: list[Settlement] = [settlement(record, end, now) for record, end in ended]
        granted = await self._database.write(lambda connection: settle(connection, settlements, now))
        for item, refusal in zip(settlements, granted, strict=True):
            if refusal is None:
                self._told(item.id)
        return granted.count(None)

    async def _replace(self, queue: Queue, gone: Sequence[DispatchedRecord], report: ReconcileReport) -> None:
        removed = await self._recently_removed(queue)
        cancels_vanished = self._catalog.rules_of(queue.name).on_vanished == "cancel"
        by_hand: list[Seen] = []
        vanished: list[Seen] = []
        lost: list[Seen] = []
        for record in gone:
            at = removed.get(public_id(stored_id_of(record.id, record.source, record.generation)))
            if at is not None and at >= record.dispatched_at - self._age_ms:
                by_hand.append(record.seen)
            elif cancels_vanished or record.source == ADOPTED:
                # Who put it there may have asked that nothing is kept of it; to run it again would be worse than not to know.
                vanished.append(record.seen)
            else:
                declared = self._catalog.find(record.type)
                lost.append(record.seen if declared is None else record.seen._replace(queue=declared.queue))
        for items, reason in ((by_hand, _REMOVED_BY_HAND), (vanished, _VANISHED)):
            report.cancelled += await self._cancel(items, reason)
        if lost:
            now = now_ms(self._clock)
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

    async def _cancel(self, items: Sequence[Seen], reason: str) -> int:
        if not items:
            return 0
        now = now_ms(self._clock)
        done = await self._database.write(lambda connection: cancel_vanished(connection, items, now, reason))
        for item, cancelled in zip(items, done, strict=True):
            if cancelled:
                self._told(item.id)
        return sum(done)
