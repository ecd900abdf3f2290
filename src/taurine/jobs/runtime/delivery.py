"""One delivery of one job: what is known of it once it is admitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taurine.clock import ms_of
from taurine.ids import run_of
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.envelope import Envelope
from taurine.ledger.records import JobRecord
from taurine.queue import Job
from taurine.retry import Retry

__all__ = ["Delivery"]


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """id: of the record, which for a job that others added may be another than the queue's. attempt: 1 for the first
    that is charged. started: ms since the epoch.

    job_type: None where the catalog has none of the job's name. record: as it stood at the admission; None for a first
    delivery, which does not ask for it.
    payload_json: what the handler gets; the record's where that is of a later generation than the copy in the queue.
    shown: True if the admission has written that the job runs. trace: the context that came with the job; once the
    attempt has a span, that one's.
    """

    id: str
    job: Job
    job_type: JobType[Any, Any] | None
    envelope: Envelope
    record: JobRecord | None
    tenant: str | None
    fence: int
    attempt: int
    max_attempts: int
    retry: Retry
    payload_json: str | bytes
    started: int
    shown: bool
    trace: str | None = None

    @property
    def waited(self) -> int:
        """Milliseconds from when the job was due to this start; -1 unless it is the first."""
        if self.fence != 1:
            return -1
        job, due = self.job, self.envelope.scheduled_for
        if job.scheduler_id is not None:
            tick = run_of(self.id)
            due = None if tick is None else tick.due_ms
        elif self.record is not None and self.record.scheduled_for is not None:
            due = ms_of(self.record.scheduled_for)
        waited = self.started - (due or round(job.created_at * 1000))
        return waited if waited > 0 else 0
