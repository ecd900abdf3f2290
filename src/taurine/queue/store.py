"""One queue on one server: its keys, the way there, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taurine.clock import Clock
from taurine.errors import (
    BelongsToScheduler,
    CorruptJob,
    FailedChildren,
    JobError,
    JobNotFound,
    LeaseLost,
    LeaseMissing,
    NotInState,
    ParentNotFound,
    ParentNotReplaceable,
    PendingChildren,
)
from taurine.ids import public_id
from taurine.queue.connection import Connection
from taurine.queue.keys import QueueKeys
from taurine.queue.scripts import Argument, load

__all__ = ["QueueStore"]

_ERRORS: dict[int, tuple[type[JobError], str]] = {
    -1: (JobNotFound, "is not stored: it never was, or it was removed"),
    -2: (LeaseMissing, "is under no lease: it expired, or the job was not claimed"),
    -3: (NotInState, "is not active any more: somebody else settled or moved it; look at it with queue.get_job()"),
    -4: (PendingChildren, "has unfinished children"),
    -5: (ParentNotFound, "names a parent that is not stored; add the parent first"),
    -6: (LeaseLost, "is leased to another worker; stop working on it"),
    -7: (ParentNotReplaceable, "belongs to another parent that is still stored"),
    -8: (BelongsToScheduler, "is the next run of a scheduler; remove the scheduler instead"),
    -12: (CorruptJob, "could not be settled, since data of it or of its parent is broken; it is kept as failed"),
    -13: (CorruptJob, "cannot be stored: a key of it, its parent or its deduplication holds another type of value"),
    -9: (FailedChildren, "has a failed child whose policy is to fail its parent"),
}


@dataclass(frozen=True, slots=True)
class QueueStore:
    """What every part of the engine needs to work on one queue."""

    keys: QueueKeys
    connection: Connection
    clock: Clock

    def now_ms(self) -> int:
        return int(self.clock.now() * 1000)

    async def run(self, script: str, *arguments: Argument) -> Any:
        """Run a script of this queue by name; its first key is the queue's meta key."""
        return await self.connection.run(load(script), self.keys.meta, *arguments)

    def error(self, code: int, stored_id: str) -> JobError:
        """The typed error of a script's code about one job."""
        kind, meaning = _ERRORS[code]
        job_id = public_id(stored_id)
        return kind(f"job {job_id!r} of queue {self.keys.name!r} {meaning}", job_id=job_id, queue=self.keys.name)
