"""Jobs that come to be in a queue and not by a request: under which record they are kept, and making that record.

They are the ticks of this application's schedules, which the queue makes, and what others put into a shared queue.

BullMQ gives jobs without an id the next number of their queue. Numbers of two queues are the same, and begin anew when
the server has lost its data, so such a job is recorded as `queue:number:created-at`. Every other job has the same id
here and there; a tick's says when it is due, so that a moment has one record whatever becomes of the queue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.ids import run_of, wire_id
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.envelope import Envelope
from taurine.ledger.database import Database
from taurine.ledger.outbox import Dispatched, stamp_dispatched
from taurine.ledger.records import JobRecord, NewRecord, get_records, insert_records
from taurine.options import to_milliseconds
from taurine.queue import Job
from taurine.queue.wire import encode_json

__all__ = ["ADOPTED", "SCHEDULED", "Adopter", "asked_by", "record_id_of", "stored_id_of", "tick_of", "trace_of"]

ADOPTED = "queue"
"""The source that a record names whose job was found in its queue."""

SCHEDULED = "schedule"
"""The source that a record names whose job is a tick of a schedule."""

_LONGEST_TRACE = 4096
"""Characters of a trace context that a record keeps; some carry a sender's whole baggage."""

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
    return wire_id(record_id) if run_of(record_id) is None else record_id


def asked_by(schedule_id: str) -> str:
    """Who has asked for a schedule's ticks, as their records say."""
    return f"schedule:{schedule_id}"


def tick_of(job: Job, catalog: Catalog) -> Envelope | None:
    """What travels with a tick of one of this application's schedules, its time included; None for every other job.

    A schedule's template has an envelope, the same for all its ticks, by which it is told from those that others make.
    """
    if job.scheduler_id is None or job.corrupt or (run := run_of(job.stored_id)) is None:
        return None
    envelope = Envelope.of(job.stored_options())
    if envelope is None:
        return None
    job_type = catalog.find(job.name)
    expires_in = None if job_type is None else job_type.options.expires_in
    return Envelope(
        tenant=envelope.tenant,
        created_by=asked_by(run.scheduler),
        scheduled_for=run.due_ms,
        expires_at=None if expires_in is None else run.due_ms + to_milliseconds(expires_in, "expires_in"),
        late=True,  # nobody has made its record before
    )


def trace_of(job: Job) -> str | None:
    """The trace context that came with a job, if it is one that a record can keep: others may have written it."""
    telemetry = job.telemetry
    carried = None if telemetry is None or telemetry.omit_context else telemetry.metadata
    return carried if carried is None or (carried.isprintable() and len(carried) <= _LONGEST_TRACE) else None


class Adopter:
    """Makes the records of ticks, and of jobs that others put into shared queues."""

    def __init__(self, *, catalog: Catalog, database: Database, clock: Clock) -> None:
        self._catalog = catalog
        self._database = database
        self._clock = clock

    async def adopt(self, jobs: Sequence[Job]) -> dict[str, JobRecord]:
        """The records of these jobs, by their ids; made where there are none.

        Left out are jobs whose data is no JSON, or whose id is that of another queue's job; and of jobs that are no
        ticks, those of queues that are not shared, and of types that are not declared.
        Raises LedgerUnavailable, LedgerRefused.
        """
        new = [record for job in jobs if (record := self._record(job)) is not None]
        if not new:
            return {}
        now = now_ms(self._clock)
        found = await self._database.write(lambda connection: _insert(connection, new, now))
        return {record.id: found[record.id] for record in new if found[record.id].queue == record.queue}

    async def adopt_one(self, job: Job, job_type: object) -> JobRecord | None:
        """The record of a job that was delivered without one; None where it may not have one."""
        return (await self.adopt([job])).get(record_id_of(job))

    def _record(self, job: Job) -> NewRecord | None:
        if job.corrupt:
            return None
        tick = tick_of(job, self._catalog)
        if tick is None and not self._may_be_another_s(job):
            return None
        data = job.data_json
        created_at = round(job.created_at * 1000)
        record = NewRecord(
            id=record_id_of(job),
            type=job.name,
            queue=job.queue,
            payload=data if isinstance(data, str) else data.decode("utf-8", "replace"),
            created_at=created_at,
            max_attempts=max(1, job.options.attempts),
            priority=job.priority,
            source=ADOPTED,
            trace=trace_of(job),
            scheduled_for=created_at + round(job.delay_seconds * 1000) if job.delay_seconds else None,
        )
        if tick is not None:
            record.source, record.created_by, record.tenant = SCHEDULED, tick.created_by, tick.tenant
            record.scheduled_for, record.expires_at = tick.scheduled_for, tick.expires_at
            record.metadata = encode_json({"schedule": job.scheduler_id})
        return record

    def _may_be_another_s(self, job: Job) -> bool:
        """Whether somebody else may have put it there."""
        job_type = self._catalog.find(job.name)
        return job_type is not None and job_type.queue == job.queue and self._catalog.rules_of(job.queue).shared


def _insert(connection: Connection, records: Sequence[NewRecord], now: int) -> dict[str, JobRecord]:
    insert_records(connection, records)
    # They are in their queue already.
    stamp_dispatched(connection, [Dispatched(record.id, 0, now) for record in records])
    return get_records(connection, [record.id for record in records])
