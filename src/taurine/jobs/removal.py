"""Taking jobs out of their queues whose records have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from taurine.errors import JobError
from taurine.ids import public_id
from taurine.jobs.adoption import stored_id_of
from taurine.ledger.records import JobRecord
from taurine.queue import Queue

__all__ = ["take_out"]

_AT_ONCE = 50
"""Removals under way at the same time: they share connections with everything else."""


async def take_out(queue: Callable[[str], Awaitable[Queue]], records: Sequence[JobRecord]) -> int:
    """Remove the jobs of these records from their queues; returns how many were there. queue: the queue of a name.

    A job that is being worked on is left: its worker is told by the record. Raises StoreUnavailable or StoreRefused, after which some may be gone.
    """

    async def remove(record: JobRecord) -> bool:
        stored = stored_id_of(record.id, record.source, record.generation)
        try:
            return await (await queue(record.queue)).remove(public_id(stored), children=False)
        except JobError:  # it is worked on, or it is the next run of a scheduler
            return False

    removed = 0
    for first in range(0, len(records), _AT_ONCE):
        removed += sum(await asyncio.gather(*map(remove, records[first : first + _AT_ONCE])))
    return removed
