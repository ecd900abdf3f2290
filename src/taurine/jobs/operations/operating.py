"""What operators ask of records, and do to them by hand.

The pages of a product and the command line stand on this; workers never use it.

Everything that names a job takes `tenant`: a job of another tenant is no job then, as if its id had never been.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import (
    EmbeddedServerError,
    InvalidOption,
    JobError,
    RecordNotFound,
    StoreError,
    TenantMismatch,
    TransitionRefused,
    UnknownJobType,
    did_you_mean,
)
from taurine.ids import public_id
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.requests import EnqueueOptions, start_ms
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.handover.adoption import stored_id_of
from taurine.jobs.operations.looking_up import Lookup, look_up
from taurine.ledger.attempts import Attempt, list_attempts
from taurine.ledger.audit import ActionFilter, AuditEntry, list_actions, record_actions
from taurine.ledger.buckets import MOST
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.hastening import hasten
from taurine.ledger.job_logs import NumberedLine, read_lines
from taurine.ledger.listing import Count, RecordFilter, count_by_status, has_records, list_records
from taurine.ledger.quotas import Quota, quotas_of, remove_quota, set_quota
from taurine.ledger.records import JobRecord, get_record, get_records
from taurine.ledger.rescheduling import reschedule
from taurine.ledger.searching import search_records
from taurine.ledger.statuses import TERMINAL, Status
from taurine.options import RateLimit, require_count, to_seconds
from taurine.paging import Listing

__all__ = ["Operations", "checked_payload"]

_LARGEST_QUOTA = (1 << 31) - 1
"""What a column holds, and more jobs than anybody means."""

_LOOK_SECONDS = 0.3
"""Seconds that a change which is valid without the server of queues waits to hear from it."""

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
                await self._refuse_unknown(wanted.type, wanted.queue, wanted.tenant)
            return page

        return Listing(fetch, cursor)

    def search(self, text: str, wanted: RecordFilter, *, cursor: str | None, limit: int) -> Listing[JobRecord]:
        """See `Taurine.search`."""

        async def fetch(position: str | None) -> tuple[Sequence[JobRecord], str | None]:
            return await self._read(
                lambda connection: search_records(connection, text, wanted, cursor=position, limit=limit)
            )

        return Listing(fetch, cursor)

    async def get_many(self, job_ids: Sequence[str], *, tenant: str | None = None) -> dict[str, JobRecord]:
        """See `Taurine.get_many`."""
        found = await self._read(lambda connection: get_records(connection, job_ids))
        return {job_id: record for job_id, record in found.items() if tenant is None or record.tenant == tenant}

    async def look_up(self, job_ids: Sequence[str], *, tenant: str | None = None) -> Lookup:
        """See `Taurine.look_up`."""
        return await self._read(lambda connection: look_up(connection, job_ids, tenant=tenant))

    async def counts(self, *, tenant: str | None = None, queue: str | None = None) -> dict[Status, Count]:
        """See `Taurine.counts`."""
        counts = await self._read(lambda connection: count_by_status(connection, tenant=tenant, queue=queue))
        if not any(count.number for count in counts.values()):
            await self._refuse_unknown(None, queue, tenant)
        return counts

    async def _refuse_unknown(self, job_type: str | None, queue: str | None, tenant: str | None) -> None:
        """Raise for a misspelt name, where nothing was found of it.

        One that is no longer declared is known as long as there are records of it, to a tenant of its own.
        """
        catalog = self._backend.catalog
        if not len(catalog):  # a process that only looks declares nothing
            return
        of_type, of_queue = RecordFilter(type=job_type, tenant=tenant), RecordFilter(queue=queue, tenant=tenant)
        if job_type is not None and catalog.find(job_type) is None and not await self._has(of_type):
            near = did_you_mean(job_type, [known.name for known in catalog])
            raise UnknownJobType(f"no job type {job_type!r:.80} is declared, and there is no record of it{near}")
        if queue is not None and not catalog.has_queue(queue) and not await self._has(of_queue):
            near = did_you_mean(queue, catalog.queues)
            raise InvalidOption(f"no job type goes to a queue {queue!r:.80}, and there is no record of it{near}")

    async def _has(self, wanted: RecordFilter) -> bool:
        return await self._read(lambda connection: has_records(connection, wanted))

    def attempts(
        self, job_id: str, *, tenant: str | None, cursor: str | None, limit: int, newest_first: bool
    ) -> Listing[Attempt]:
        """See `Taurine.attempts`."""

        async def fetch(position: str | None) -> tuple[Sequence[Attempt], str | None]:
            def read(connection: Connection) -> tuple[Sequence[Attempt], str | None]:
                record = _record(connection, job_id, tenant)
                return list_attempts(connection, record, cursor=position, limit=limit, newest_first=newest_first)

            return await self._read(read)

        return Listing(fetch, cursor)

    async def logs(
        self, job_id: str, *, tenant: str | None, after: int, limit: int, newest_first: bool
    ) -> Sequence[NumberedLine]:
        """See `Taurine.logs`."""

        def read(connection: Connection) -> Sequence[NumberedLine]:
            _record(connection, job_id, tenant)
            return read_lines(connection, job_id, after=after, limit=limit, newest_first=newest_first)

        return await self._read(read)

    def actions(
        self, wanted: ActionFilter, *, cursor: str | None, limit: int, newest_first: bool = True
    ) -> Listing[AuditEntry]:
        """See `Taurine.actions` and `Taurine.audit`."""

        async def fetch(position: str | None) -> tuple[Sequence[AuditEntry], str | None]:
            return await self._read(
                lambda connection: list_actions(
                    connection, wanted, cursor=position, limit=limit, newest_first=newest_first
                )
            )

        return Listing(fetch, cursor)

    # Quotas ---------------------------------------------------------------------------------------------------------------------------

    async def set_quota(
        self,
        tenant: str,
        *,
        max_open: int | None,
        max_rate: RateLimit | None,
        type: str | None,  # noqa: A002 - as everywhere
        user: str | None,
    ) -> None:
        """See `Taurine.set_quota`."""
        if not isinstance(tenant, str) or not tenant or not tenant.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected tenant to be printable text, got {tenant!r:.80}")
        if max_open is not None and require_count(max_open, "max_open", minimum=0) > _LARGEST_QUOTA:
            raise InvalidOption(f"expected max_open to be at most {_LARGEST_QUOTA:,}, got {max_open:,}")
        if max_rate is not None and max_rate.max > MOST:
            raise InvalidOption(f"expected max_rate to be of at most {MOST:,} jobs, got {max_rate.max:,}")
        limited = max_open is not None or max_rate is not None
        if limited and type is not None:
            self._backend.catalog.get(type)
        await authorized(
            self._authorize, AccessRequest(action="set_quota", job_type=type or "", tenant=tenant, user=user)
        )
        said: dict[str, object] = {"type": type, "max_open": max_open}
        if max_rate is not None:
            said["max_rate"] = [max_rate.max, to_seconds(max_rate.duration, "max_rate")]
        entry = AuditEntry(now_ms(self._backend.clock), user, "set_quota", None, tenant, json.dumps(said))

        def write(connection: Connection) -> None:
            if limited:
                set_quota(connection, Quota(tenant, max_open, type, max_rate))
            else:
                remove_quota(connection, tenant, type)
            record_actions(connection, [entry])

        await self._backend.ready()
        await self._backend.database.write(write)

    async def quotas(self, tenant: str) -> Sequence[Quota]:
        """See `Taurine.quotas`."""
        return await self._read(lambda connection: quotas_of(connection, tenant))

    # Cancelling and retrying by hand -----------------------------------------------------------------------------------------------------------------

    async def cancel(self, job_id: str, *, reason: str, user: str | None, tenant: str | None) -> JobRecord:
        """See `Taurine.cancel`."""
        record = await self._read(lambda connection: _record(connection, job_id, tenant))
        request = AccessRequest(action="cancel", job_type=record.type, tenant=record.tenant, user=user)
        await authorized(self._authorize, request)
        return await self._backend.cancel(job_id, reason=reason, user=user)

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

    async def reschedule(
        self, job_id: str, start: EnqueueOptions, *, user: str | None, tenant: str | None
    ) -> JobRecord:
        """See `Taurine.reschedule`. start: its `delay` or `run_at`."""
        now = now_ms(self._backend.clock)
        start_at = start_ms(start, now) or now
        record = await self._read(lambda connection: _record(connection, job_id, tenant))
        request = AccessRequest(action="reschedule", job_type=record.type, tenant=record.tenant, user=user)
        await authorized(self._authorize, request)
        if await self._is_active(record):
            raise TransitionRefused(f"job {job_id!r} is being started; cancel it, and enqueue it anew", job_id=job_id)
        changed = await self._backend.database.write(
            lambda connection: reschedule(connection, job_id, start_at, now, user)
        )
        await self._backend.prompt.hand_over(again=[changed])
        return changed

    async def _is_active(self, record: JobRecord) -> bool:
        """True where a worker has taken it, though its record does not say so yet.

        A server that does not answer is not waited for: what it has is an earlier generation.
        """
        with contextlib.suppress(StoreError, EmbeddedServerError, TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                queue = await self._backend.queue(record.queue)
                stored = stored_id_of(record.id, record.source, record.generation)
                return (await queue.whereabouts(public_id(stored))).state == "active"
        return False

    async def _run_again(self, record: JobRecord, payload: str | None, user: str | None) -> JobRecord:
        declared = self._backend.catalog.find(record.type)
        again = NewGeneration(
            id=record.id,
            at=now_ms(self._backend.clock),
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
        now = now_ms(self._backend.clock)
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


def _record(connection: Connection, job_id: str, tenant: str | None) -> JobRecord:
    record = get_record(connection, job_id)
    if record is None or (tenant is not None and record.tenant != tenant):
        raise RecordNotFound(f"the ledger holds no job {job_id!r:.80}", job_id=job_id)
    return record


def checked_payload(backend: Backend, job_type: str, tenant: str | None, payload: Any) -> str:
    """An edited payload as JSON text, if it is one of this type and of the same tenant.

    Raises UnknownJobType, PayloadInvalid, PayloadError, PayloadTooLarge, TenantMismatch.
    """
    declared = backend.catalog.declared(job_type)
    checked = declared.payload.check(payload)
    if declared.tenant_of(checked, tenant) != tenant:
        raise TenantMismatch(f"{job_type}: the edited payload belongs to another tenant than the job")
    return declared.payload.encode(checked)
