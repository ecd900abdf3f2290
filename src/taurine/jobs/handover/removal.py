"""Taking jobs out of their queues whose records have ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from taurine.jobs.handover.adoption import stored_id_of
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Queue

__all__ = ["take_out"]


async def take_out(queue: Callable[[str], Awaitable[Queue]], records: Sequence[JobRecord]) -> int:
    """Remove the jobs of those of these records that have ended from their queues; returns how many were there.

    queue: the queue of a name.

    A job that is being worked on is left: its worker is told by the record. So is one that runs again as a later
    generation than its record here, which may be old by now. Raises StoreUnavailable or StoreRefused, after which some
    may be gone.
    """
    by_queue: dict[str, list[tuple[str, int]]] = {}
    for record in records:
        if record.status in TERMINAL:
            stored = stored_id_of(record.id, record.source, record.generation)
            by_queue.setdefault(record.queue, []).append((stored, record.generation))
    removed = 0
    for name, ended in by_queue.items():
        removed += await (await queue(name)).remove_ended(ended)
    return removed
