"""What operators ask of records, and do to them by hand. The pages of a product and the command line stand on this; workers never use it.

Everything that names a job takes `tenant`: a job of another tenant is no job then, as if its id had never been.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from taurine.errors import (
    InvalidOption,
    JobError,
    RecordNotFound,
    TenantMismatch,
    TransitionRefused,
    UnknownJobType,
    did_you_mean,
)
from taurine.ids import public_id
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.handover.adoption import stored_id_of
from taurine.jobs.operations.paging import Listing
from taurine.ledger.attempts import Attempt, list_attempts
from taurine.ledger.audit import AuditEntry, actions_on, record_actions
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.hastening import hasten
from taurine.ledger.job_logs import NumberedLine, read_lines
from taurine.ledger.listing import Count, RecordFilter, count_by_status, has_records, list_records
from taurine.ledger.quotas import Quota, quotas_of, remove_quota, set_quota
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.statuses import TERMINAL, Status
from taurine.options import require_count

__all__ = ["Operations", "checked_payload"]

_LARGEST_QUOTA = (1 << 31) - 1
"""What a column holds, and more jobs than anybody means."""

ResultT = TypeVar("ResultT")


class Operations:
    """The operator's side of one application on one event loop."""

    def __init__(self, backend: Backend, authorize: Authorize | None) -> None:
        self._backend = backend
        self._authorize = authorize

    # Looking ------------------------------------------------------------------------------------------------------------------------

    def list(self, wanted: RecordFilter, *, cursor: str | None, limit: int) -> Listing[JobRecord]:
        """See `Taurine.list`."""

        async def fetch(position: str | None) -> tuple[Sequence[JobRecord], str | None]:
            page = await self._read(lambda connection: list_records(connection, wanted, cursor=position, limit=limit))
            if not page.records and position is None:
                await self._refuse_unknown(wanted.type, wanted.queue)
            return page

        return Listing(fetch, cursor)

    async def counts(self, *, tenant: str | None = None, queue: str | None = None) -> dict[Status, Count]:
        """See `Taurine.counts`."""
        counts = await self._read(lambda connection: count_by_status(connection, tenant=tenant, queue=queue))
        if not any(count.number for count in counts.values()):
            await self._refuse_unknown(None, queue)
        return counts

    async def _refuse_unknown(self, job_type: str | None, queue: str | None) -> None:
        """Raise for a misspelt name, where nothing was found of it. One that is no longer declared is known as long as there are records of it."""
        catalog = self._backend.catalog
        if not len(catalog):  # a process that only looks declares nothing
            return
        if job_type is not None and catalog.find(job_type) is None and not await self._has(RecordFilter(type=job_type)):
            near = did_you_mean(job_type, [known.name for known in catalog])
            raise UnknownJobType(f"no job type {job_type!r:.80} is declared, and there is no record of it{near}")
        if queue is not None and not catalog.has_queue(queue) and not await self._has(RecordFilter(queue=queue)):
            near = did_you_mean(queue, catalog.queues)
            raise InvalidOption(f"no job type goes to a queue {queue!r:.80}, and there is no record of it{near}")

    async def _has(self, wanted: RecordFilter) -> bool:
        return await self._read(lambda connection: has_records(connection, wanted))

    async def attempts(self, job_id: str, *, tenant: str | None = None) -> Sequence[Attempt]:
        """See `Taurine.attempts`."""
        return await self._read(lambda connection: list_attempts(connection, _record(connection, job_id, tenant)))

    async def logs(
        self, job_id: str, *, tenant: str | None, after: int, limit: int, newest_first: bool
    ) -> Sequence[NumberedLine]:
        """See `Taurine.logs`."""

        def read(connection: Connection) -> Sequence[NumberedLine]:
            _record(connection, job_id, tenant)
            return read_lines(connection, job_id, after=after, limit=limit, newest_first=newest_first)

        return await self._read(read)

    async def audit(self, job_id: str, *, tenant: str | None = None) -> Sequence[AuditEntry]:
        """See `Taurine.audit`."""
        actions = await self._read(lambda connection: actions_on(connection, job_id))
        return [action for action in actions if tenant is None or action.tenant == tenant]

    # Quotas ---------------------------------------------------------------------------------------------------------------------------

    async def set_quota(self, tenant: str, *, max_open: int | None, type: str | None, user: str | None) -> None:  # noqa: A002 - as everywhere
        """See `Taurine.set_quota`."""
        if not isinstance(tenant, str) or not tenant or not tenant.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected tenant to be printable text, got {tenant!r:.80}")
        if max_open is not None:
            if require_count(max_open, "max_open", minimum=0) > _LARGEST_QUOTA:
                raise InvalidOption(f"expected max_open to be at most {_LARGEST_QUOTA:,}, got {max_open:,}")
            if type is not None:
                self._backend.catalog.get(type)
        await authorized(
            self._authorize, AccessRequest(action="set_quota", job_type=type or "", tenant=tenant, user=user)
        )
        detail = json.dumps({"type": type, "max_open": max_open})
        entry = AuditEntry(self._now_ms(), user, "set_quota", None, tenant, detail)

        def write(connection: Connection) -> None:
            if max_open is None:
                remove_quota(connection, tenant, type)
            else:
                set_quota(connection, Quota(tenant, max_open, type))
            record_actions(connection, [entry])

        await self._backend.ready()
        await self._backend.database.write(write)

    async def quotas(self, tenant: str) -> Sequence[Quota]:
        """See `Taurine.quotas`."""
        return await self._read(lambda connection: quotas_of(connection, tenant))

    # Retrying by hand -----------------------------------------------------------------------------------------------------------------

    async def retry(
        self, job_id: str, *, payload: Any = None, user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """See `Taurine.retry`."""
        record = await self._read(lambda connection: _record(connection, job_id, tenant))
        await authorized(
            self._authorize,
            AccessRequest(action="retry", job_type=record.type, tenant=record.tenant, user=user, payload=payload),
        )
        text = None if payload is None else checked_payload(self._backend, record.type, record.tenant, payload)
        if record.status in TERMINAL:
            return await self._run_again(record, text, user)
        if text is not None:
            raise TransitionRefused(
                f"job {job_id!r} is {record.status}: its payload can be changed when it has ended; cancel it first",
                job_id=job_id,
            )
        return await self._hasten(record, user)

    async def _run_again(self, record: JobRecord, payload: str | None, user: str | None) -> JobRecord:
        declared = self._backend.catalog.find(record.type)
        again = NewGeneration(
            id=record.id,
            at=self._now_ms(),
            action="retry",
            actor=user,
            queue=declared and declared.queue,
            payload=payload,
        )
        (started,) = await self._backend.database.write(lambda connection: start_generation(connection, [again]))
        if started is None:
            raise TransitionRefused(f"job {record.id!r} is being run again already", job_id=record.id)
        await self._backend.prompt.hand_over(again=[started])
        return started

    async def _hasten(self, record: JobRecord, user: str | None) -> JobRecord:
        now = self._now_ms()
        hastened = await self._backend.database.write(lambda connection: hasten(connection, record.id, now, user))
        queue = await self._backend.queue(record.queue)
        job = await queue.get_job(public_id(stored_id_of(record.id, record.source, record.generation)))
        if job is not None:
            with contextlib.suppress(JobError):  # it was promoted by its time, or is about to be put back
                await job.promote()
        return hastened

    async def _read(self, work: Callable[[Connection], ResultT]) -> ResultT:
        await self._backend.ready()
        return await self._backend.database.read(work)

    def _now_ms(self) -> int:
        return round(self._backend.clock.now() * 1000)


def _record(connection: Connection, job_id: str, tenant: str | None) -> JobRecord:
    record = get_record(connection, job_id)
    if record is None or (tenant is not None and record.tenant != tenant):
        raise RecordNotFound(f"the ledger holds no job {job_id!r:.80}", job_id=job_id)
    return record


def checked_payload(backend: Backend, job_type: str, tenant: str | None, payload: Any) -> str:
    """An edited payload as JSON text, if it is one of this type and of the same tenant.

    Raises UnknownJobType, PayloadInvalid, PayloadError, PayloadTooLarge, TenantMismatch.
    """
    declared = backend.catalog.get(job_type)
    checked = declared.payload.check(payload)
    if declared.tenant_of(checked, tenant) != tenant:
        raise TenantMismatch(f"{job_type}: the edited payload belongs to another tenant than the job")
    return declared.payload.encode(checked)
