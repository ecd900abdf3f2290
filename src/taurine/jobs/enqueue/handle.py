"""What an enqueue returns: the accepted job, and how to hear what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Protocol, TypeVar

from taurine.errors import JobCancelled, JobExpired, JobFailed, RecordNotFound, WaitTimeout
from taurine.jobs.catalog.payloads import Codec
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import Phase, Status, phase_of
from taurine.options import Seconds, to_seconds

__all__ = ["JobHandle", "Records"]

ResultT = TypeVar("ResultT")


class Records(Protocol):
    """What a handle asks of the application."""

    async def get(self, job_id: str) -> JobRecord | None: ...

    def get_sync(self, job_id: str) -> JobRecord | None: ...

    async def wait(self, job_id: str, timeout: float | None) -> JobRecord | None:
        """The record once it is terminal; the latest one, or None, when `timeout` has passed before."""
        ...

    async def cancel(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord: ...

    def wait_sync(self, job_id: str, timeout: float | None) -> JobRecord | None: ...

    def cancel_sync(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord: ...


class JobHandle(Generic[ResultT]):
    """One accepted job.

    status: what it was when this was made, or last asked for. created_at: when it was accepted.
    duplicate: True when the job was there already and this request changed nothing. rerun: True when it was there and
    had ended, and this request runs it again (`on_duplicate="rerun"`); that is no duplicate. Both are False for a job
    of its own.
    """

    __slots__ = ("_records", "_result", "created_at", "duplicate", "id", "queue", "rerun", "status", "type")

    def __init__(
        self,
        *,
        job_id: str,
        job_type: str,
        queue: str,
        status: Status,
        duplicate: bool,
        rerun: bool = False,
        created_at: datetime,
        result: Codec[ResultT],
        records: Records,
    ) -> None:
        self.id = job_id
        self.type = job_type
        self.queue = queue
        self.status: Status = status
        self.duplicate = duplicate
        self.rerun = rerun
        self.created_at = created_at
        self._result = result
        self._records = records

    def __repr__(self) -> str:
        kind = ", duplicate" if self.duplicate else ", rerun" if self.rerun else ""
        return f"JobHandle({self.id!r}, {self.status}{kind})"

    @property
    def phase(self) -> Phase:
        return phase_of(self.status)

    async def record(self) -> JobRecord:
        """The record as it is now. Raises RecordNotFound when it was purged, or its transaction was rolled back."""
        return self._seen(await self._records.get(self.id))

    def record_sync(self) -> JobRecord:
        """`record` for code without an event loop."""
        return self._seen(self._records.get_sync(self.id))

    async def result(self, *, timeout: Seconds | None = None) -> ResultT:
        """Wait until the job has ended and return its result, checked and typed.

        timeout: seconds. Default: no limit. It is the record that is watched, so this works whoever runs the job, and
        while the server of queues is away.
        Raises JobFailed with the last attempt's error, JobCancelled, JobExpired, WaitTimeout, RecordNotFound,
        LedgerUnavailable, and PayloadInvalid for a result that is not what this process declares.
        """
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        return self._ended(await self._records.wait(self.id, seconds), seconds)

    def result_sync(self, *, timeout: Seconds | None = None) -> ResultT:
        """`result` for code without an event loop."""
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        return self._ended(self._records.wait_sync(self.id, seconds), seconds)

    async def cancel(
        self, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Cancel the job; see `Taurine.cancel`."""
        return self._seen(await self._records.cancel(self.id, reason=reason, user=user, tenant=tenant))

    def cancel_sync(
        self, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """`cancel` for code without an event loop."""
        return self._seen(self._records.cancel_sync(self.id, reason=reason, user=user, tenant=tenant))

    def _seen(self, record: JobRecord | None) -> JobRecord:
        if record is None:
            raise RecordNotFound(f"the ledger holds no job {self.id!r}", job_id=self.id)
        self.status = record.status
        return record

    def _ended(self, found: JobRecord | None, seconds: float | None) -> ResultT:
        record = self._seen(found)
        if record.status == "completed":
            return self._result.decode(record.output_json or "null")
        if record.status == "failed":
            reason = (record.error or {}).get("message", "unknown")
            raise JobFailed(reason, job_id=self.id, queue=self.queue)
        if record.status == "cancelled":
            raise JobCancelled(record.cancel_reason or "cancelled", job_id=self.id)
        if record.status == "expired":
            raise JobExpired(f"job {self.id!r} expired before it ran", job_id=self.id)
        unseen = " (no worker is known to have it)" if record.status == "queued" else ""
        raise WaitTimeout(
            f"job {self.id!r} did not end within {seconds:g} s; it is {record.status}{unseen} and goes on; `await app.why({self.id!r})` says what it waits for",
            job_id=self.id,
            queue=self.queue,
        )
