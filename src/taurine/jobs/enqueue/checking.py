"""What may be enqueued: the request is checked, the hook asked, the payload validated; id and tenant follow from it.

Nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from taurine.clock import Clock
from taurine.errors import DuplicateJob, JobIdUnusable, PayloadInvalid, PayloadTooLarge, RecordError
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions, Request, unkeyed
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.enqueue.handle import JobHandle, Records
from taurine.jobs.reporting.lines import current_context
from taurine.ledger.records import Inserted, NewRecord

__all__ = ["Checks", "handle_of", "settled"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

_AT_ONCE = 1000
"""Payloads of a list that are checked before others have their turn."""

_MOST_METADATA = 1024 * 1024
_SMALL_METADATA = 1024
"""Bytes of metadata that any number of jobs may have each."""


class Checks:
    """Makes records of what callers ask for.

    source: what a request says of where it comes from unless its caller does. kept_for: of an id that only requests of
    one source may have, that source.
    carried: the trace context of the call. Default: in a handler that of its job, else none.
    """

    def __init__(
        self,
        *,
        authorize: Authorize | None,
        clock: Clock,
        source: str,
        kept_for: Callable[[str], str | None],
        carried: Callable[[], str | None] | None = None,
    ) -> None:
        self._authorize = authorize
        self._clock = clock
        self._source = source
        self._kept_for = kept_for
        self._carried = carried

    async def one(
        self, job_type: JobType[PayloadT, Any], payload: PayloadT, options: EnqueueOptions
    ) -> tuple[Request, list[NewRecord]]:
        """The record of an accepted payload, not written yet. Raises what `JobType.enqueue` raises for a bad one."""
        request = self._request(job_type, options)
        return request, [await self._checked(job_type, payload, request)]

    async def many(
        self, job_type: JobType[PayloadT, Any], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> tuple[Request, list[NewRecord]]:
        """As `one`, of several payloads, which may have neither a job id nor an idempotency key.

        Each record has the metadata, which are 1 MiB in all at most where they are above 1 KiB each: otherwise a small
        request would write a large one. Raises PayloadTooLarge.
        """
        request = self._request(job_type, unkeyed(options))
        _check_metadata(request.metadata, len(payloads))
        records: list[NewRecord] = []
        for index, payload in enumerate(payloads):
            try:
                records.append(await self._checked(job_type, payload, request))
            except PayloadInvalid as error:
                raise error.of_several(index) from None
            if (index + 1) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return request, records

    def _request(self, job_type: JobType[Any, Any], options: EnqueueOptions) -> Request:
        """What the caller asks for, checked.

        Within a handler it goes on from what the handler's own job was asked for by.
        """
        request = Request.of(options, job_type.options, now=self._clock.now(), source=self._source)
        context = current_context.get()
        if context is not None:
            request.user = request.user or context.user
            request.trace = context.trace
            if "source" not in options:
                request.source = f"job {context.job_id}"
        if self._carried is not None:
            request.trace = self._carried()
        return request

    async def _checked(self, job_type: JobType[PayloadT, Any], payload: PayloadT, request: Request) -> NewRecord:
        if self._authorize is None:
            return self._record_of(job_type, payload, request)
        claimed = request.tenant or job_type.tenant_claimed(payload)
        await self._ask(job_type, payload, request, claimed)
        record = self._record_of(job_type, payload, request)
        if record.tenant != claimed:
            # What was allowed is a request of the tenant that the unchecked payload seemed to name.
            await self._ask(job_type, payload, request, record.tenant)
        return record

    def _record_of(self, job_type: JobType[PayloadT, Any], payload: PayloadT, request: Request) -> NewRecord:
        record = _record_of(job_type, payload, request)
        # Whoever takes the id of a run to come would keep the schedule from running.
        if self._kept_for(record.id) not in (None, request.source):
            raise JobIdUnusable(record.id)
        return record

    async def _ask(self, job_type: JobType[Any, Any], payload: object, request: Request, tenant: str | None) -> None:
        asked = AccessRequest(
            action="enqueue", job_type=job_type.name, tenant=tenant, user=request.user, payload=payload
        )
        await authorized(self._authorize, asked)


def _check_metadata(metadata: str | None, number: int) -> None:
    size = 0 if metadata is None else len(metadata.encode())
    if size > _SMALL_METADATA and size * number > _MOST_METADATA:
        raise PayloadTooLarge(
            f"metadata of {size:,} bytes for each of {number:,} jobs are {size * number:,} bytes, above the limit of "
            f"{_MOST_METADATA:,}; keep them to {_SMALL_METADATA:,}, or send fewer payloads at once"
        )


def _record_of(job_type: JobType[PayloadT, Any], payload: PayloadT, request: Request) -> NewRecord:
    accepted, text = job_type.payload.accept(payload)
    job_id = request.job_id
    identity = job_type.identity
    if job_id is None:
        job_id = identity.id_for(accepted, request.created_at / 1000)
    return request.new_record(
        job_id,
        job_type=job_type.name,
        payload=text,
        tenant=job_type.tenant_of(accepted, request.tenant),
        fresh=request.job_id is None and identity.is_fresh,
    )


def settled(record: NewRecord, answer: Inserted | RecordError, request: Request) -> Inserted:
    """The answer, if it is one that the caller may have. Nothing was put in otherwise.

    Raises what the ledger answered, DuplicateJob and JobIdUnusable.
    """
    if isinstance(answer, Exception):
        raise answer
    if answer.purged is not None:
        raise DuplicateJob(
            f"the idempotency key was used for job {answer.purged!r}, which has ended and whose record is no longer kept",
            job_id=answer.purged,
        )
    existing = answer.existing
    if existing is None:
        return answer
    if existing.tenant != record.tenant:
        raise JobIdUnusable(record.id)
    if existing.type != record.type:
        raise DuplicateJob(
            f"the job id {existing.id!r} is taken by a job of type {existing.type!r}; put the kind of job into the id",
            job_id=existing.id,
        )
    if request.on_duplicate == "error":
        raise DuplicateJob(f"a job {existing.id!r} exists already, and is {existing.status}", job_id=existing.id)
    return answer


def handle_of(
    job_type: JobType[Any, ResultT], record: NewRecord, answer: Inserted, records: Records
) -> JobHandle[ResultT]:
    """What the caller gets. records: what the handle asks."""
    existing = answer.existing
    return JobHandle(
        job_id=record.id if existing is None else existing.id,
        job_type=record.type,
        queue=record.queue,
        status="queued" if existing is None else existing.status,
        duplicate=existing is not None and not answer.rerun,
        rerun=answer.rerun,
        created_at=datetime.fromtimestamp(record.created_at / 1000, UTC) if existing is None else existing.created_at,
        result=job_type.result,
        records=records,
    )
