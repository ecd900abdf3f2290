"""What an enqueue returns: the accepted job, and how to hear what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Protocol, TypeVar

from taurine.errors import JobCancelled, JobExpired, JobFailed, RecordNotFound, WaitTimeout
from taurine.jobs.payloads import Codec
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import Phase, Status, phase_of
from taurine.options import Seconds, to_seconds

__all__ = ["JobHandle", "Records"]

ResultT = TypeVar("ResultT")


class Records(Protocol):
    """What a handle asks of the application."""

    async def get(self, job_id: str) -> JobRecord | None: ...

    async def wait(self, job_id: str, timeout: float | None) -> JobRecord | None:
        """The record once it is terminal; the latest one, or None, when `timeout` has passed before."""
        ...

    async def cancel(self, job_id: str, *, reason: str = "cancelled") -> JobRecord: ...

    def wait_sync(self, job_id: str, timeout: float | None) -> JobRecord | None: ...


class JobHandle(Generic[ResultT]):
    """One accepted job.

    status: what it was when this was made. duplicate: True when the record existed already. created_at: when it was accepted.
    """

    def __init__(
        self,
        *,
        job_id: str,
        job_type: str,
        queue: str,
        status: Status,
        duplicate: bool,
        created_at: datetime,
        result: Codec[ResultT],
        records: Records,
    ) -> None:
        self.id = job_id
        self.type = job_type
        self.queue = queue
        self.status: Status = status
        self.duplicate = duplicate
        self.created_at = created_at
        self._result = result
        self._records = records

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r}, {self.status}{', duplicate' if self.duplicate else ''})"

    @property
    def phase(self) -> Phase:
        return phase_of(self.status)

    async def record(self) -> JobRecord:
        """The record as it is now. Raises RecordNotFound when it was purged, or its transaction was rolled back."""
        record = await self._records.get(self.id)
        if record is None:
            raise RecordNotFound(f"the ledger holds no job {self.id!r}", job_id=self.id)
        self.status = record.status
        return record

    async def result(self, *, timeout: Seconds | None = None) -> ResultT:
        """Wait until the job has ended and return its result, checked and typed.

        timeout: seconds. Default: no limit. It is the record that is watched, so this works whoever runs the job, and while the server of
        queues is away.
        Raises JobFailed with the last attempt's error, JobCancelled, JobExpired, WaitTimeout, RecordNotFound, LedgerUnavailable.
        """
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        return self._ended(await self._records.wait(self.id, seconds), seconds)

    def result_sync(self, *, timeout: Seconds | None = None) -> ResultT:
        """`result` for code without an event loop."""
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        return self._ended(self._records.wait_sync(self.id, seconds), seconds)

    async def cancel(self, *, reason: str = "cancelled") -> JobRecord:
        """Cancel the job; see `Taurine.cancel`."""
        record = await self._records.cancel(self.id, reason=reason)
        self.status = record.status
        return record

    def _ended(self, record: JobRecord | None, seconds: float | None) -> ResultT:
        if record is None:
            raise RecordNotFound(f"the ledger holds no job {self.id!r}", job_id=self.id)
        self.status = record.status
        if record.status == "completed":
            return self._result.decode(record.output_json or "null")
        if record.status == "failed":
            reason = (record.error or {}).get("message", "unknown")
            raise JobFailed(reason, job_id=self.id, queue=self.queue)
        if record.status == "cancelled":
            raise JobCancelled(record.cancel_reason or "cancelled", job_id=self.id)
        if record.status == "expired":
            raise JobExpired(f"job {self.id!r} expired before it ran", job_id=self.id)
        raise WaitTimeout(
            f"job {self.id!r} did not end within {seconds:g} s; it is {record.status} and goes on",
            job_id=self.id,
            queue=self.queue,
        )
