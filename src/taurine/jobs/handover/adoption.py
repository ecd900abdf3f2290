"""Jobs that others put into a shared queue: under which record they are kept, and making that record.

BullMQ gives jobs without an id the next number of their queue. Numbers of two queues are the same, and begin anew when the server has lost its data, so such a job
is recorded as `queue:number:created-at`. Every other job has the same id here and there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection

from taurine.clock import Clock
from taurine.ids import wire_id
from taurine.jobs.catalog.catalog import Catalog
from taurine.ledger.database import Database
from taurine.ledger.outbox import Dispatched, stamp_dispatched
from taurine.ledger.records import JobRecord, NewRecord, get_records, insert_records
from taurine.queue import Job

__all__ = ["ADOPTED", "Adopter", "record_id_of", "stored_id_of"]

ADOPTED = "queue"
"""The source that a record names whose job was found in its queue."""

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_NUMBERED = re.compile(r".+:([0-9]+):[0-9]+", re.ASCII)


def record_id_of(job: Job) -> str:
    """The id of the record that is kept of a job."""
    if _NUMBER.fullmatch(job.stored_id):
        return f"{job.queue}:{job.stored_id}:{round(job.created_at * 1000)}"
    return job.id


def stored_id_of(record_id: str, source: str | None, generation: int) -> str:
    """The id under which the queue has the job of a record."""
    if source == ADOPTED and generation == 0 and (numbered := _NUMBERED.fullmatch(record_id)):
        return numbered[1]
    return wire_id(record_id)


class Adopter:
    """Makes the records of jobs that others put into shared queues."""

    def __init__(self, *, catalog: Catalog, database: Database, clock: Clock) -> None:
        self._catalog = catalog
        self._database = database
        self._clock = clock

    async def adopt(self, jobs: Sequence[Job]) -> dict[str, JobRecord]:
        """The records of these jobs, by their ids; made where there are none.

        Left out are jobs of queues that are not shared, of types that are not declared, whose data is no JSON, or whose id is that of another queue's job.
        Raises LedgerUnavailable, LedgerRefused.
        """
        new = [record for job in jobs if (record := self._record(job)) is not None]
        if not new:
            return {}
        now = round(self._clock.now() * 1000)
        found = await self._database.write(lambda connection: _insert(connection, new, now))
        return {record.id: found[record.id] for record in new if found[record.id].queue == record.queue}

    async def adopt_one(self, job: Job, job_type: object) -> JobRecord | None:
        """The record of a job that was delivered without one; None where it may not have one."""
        return (await self.adopt([job])).get(record_id_of(job))

    def _record(self, job: Job) -> NewRecord | None:
        job_type = self._catalog.find(job.name)
        if (
            job_type is None
            or job_type.queue != job.queue
            or not self._catalog.rules_of(job.queue).shared
            or job.corrupt
        ):
            return None
        data = job.data_json
        created_at = round(job.created_at * 1000)
        return NewRecord(
            id=record_id_of(job),
            type=job.name,
            queue=job.queue,
            payload=data if isinstance(data, str) else data.decode("utf-8", "replace"),
            created_at=created_at,
            max_attempts=max(1, job.options.attempts),
            priority=job.priority,
            source=ADOPTED,
            scheduled_for=created_at + round(job.delay_seconds * 1000) if job.delay_seconds else None,
        )


def _insert(connection: Connection, records: Sequence[NewRecord], now: int) -> dict[str, JobRecord]:
    insert_records(connection, records)
    # They are in their queue already.
    stamp_dispatched(connection, [Dispatched(record.id, 0, now) for record in records])
    return get_records(connection, [record.id for record in records])
