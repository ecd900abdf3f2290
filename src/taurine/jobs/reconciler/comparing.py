"""Counting where the ledger and the queues disagree, without changing either: for tests, and for operators who want to
know.

What the reconciler would mend is counted, with no bound on age or number: at rest, when nothing is added or run, every
count is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast, get_args

from taurine.clock import now_ms
from taurine.ids import public_id, run_of
from taurine.jobs.backend import Backend
from taurine.jobs.handover.adoption import stored_id_of
from taurine.jobs.handover.copies import generation_of
from taurine.ledger.outbox import outbox_lag
from taurine.ledger.reconciliation import DispatchedRecord, Place, dispatched_page, standings_of
from taurine.ledger.statuses import TERMINAL
from taurine.queue.standings import Ended, LineState, Standing

__all__ = ["Divergence", "compare"]

_PAGE = 500
_FOR_EVER = 1 << 62


@dataclass(slots=True)
class Divergence:
    """How many jobs stand otherwise in SQL than in the queues."""

    gone: int = 0
    """Open records whose job the queue has no more."""
    unsettled: int = 0
    """Open records whose job has ended in the queue."""
    stranded: int = 0
    """Open records whose job is stored and in no line."""
    ended: int = 0
    """Jobs in line whose record has ended."""
    orphans: int = 0
    """Jobs in line of a queue that is not shared, without a record."""
    waiting: int = 0
    """Records that no queue has been told of yet: not a divergence, since the outbox is about to; at most 10,001 of
    each queue.
    """
    compared: int = 0
    """Open records, and jobs in line, that were looked at."""

    @property
    def total(self) -> int:
        """All but those that merely wait."""
        return self.gone + self.unsettled + self.stranded + self.ended + self.orphans

    def __str__(self) -> str:
        return ", ".join(f"{entry.name} {getattr(self, entry.name)}" for entry in fields(self))


async def compare(backend: Backend) -> Divergence:
    """Compare all records of an application's queues with the queues.

    Raises LedgerUnavailable, StoreUnavailable, StoreRefused.
    """
    found = Divergence()
    await _compare_records(backend, found)
    for queue in backend.catalog.all_queues:
        for collection in get_args(LineState):
            await _compare_line(backend, queue, cast("LineState", collection), found)
    now = now_ms(backend.clock)
    lag = await backend.database.read(lambda connection: outbox_lag(connection, backend.catalog.all_queues, now))
    found.waiting = lag.waiting
    return found


async def _compare_records(backend: Backend, found: Divergence) -> None:
    place: Place | None = None
    while True:
        records, place = await backend.database.read(
            lambda connection, place=place: dispatched_page(connection, place, _PAGE, _FOR_EVER)
        )
        for name in backend.catalog.all_queues:
            mine = [record for record in records if record.queue == name]
            stored = [stored_id_of(record.id, record.source, record.generation) for record in mine]
            standings = await (await backend.queue(name)).standings(stored)
            for record, standing in zip(mine, standings, strict=True):
                _count(found, record, standing)
        if place is None:
            return


def _count(found: Divergence, record: DispatchedRecord, standing: Standing) -> None:
    found.compared += 1
    if standing == "gone" or (isinstance(standing, Ended) and generation_of(standing) < record.generation):
        found.gone += 1
    elif standing == "nowhere":
        found.stranded += 1
    elif isinstance(standing, Ended):
        found.unsettled += 1


async def _compare_line(backend: Backend, name: str, collection: LineState, found: Divergence) -> None:
    queue, place = await backend.queue(name), 0
    shared = backend.catalog.rules_of(name).shared
    while page := await queue.line_page(collection, place, _PAGE):
        place += len(page)
        ids = [public_id(stored) for stored in page]
        records = await backend.database.read(lambda connection, ids=ids: standings_of(connection, ids))
        found.compared += len(ids)
        found.ended += sum(record.queue == name and record.status in TERMINAL for record in records.values())
        if not shared:
            found.orphans += sum(job_id not in records and run_of(job_id) is None for job_id in ids)
