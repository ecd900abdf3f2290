"""Accepting jobs with a telemetry: one span for each call, from the check to the hand-over.

Its context is what goes into the records and travels with the jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions
from taurine.jobs.enqueue.enqueuer import Enqueuer, Recording
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.reporting.spans import Spans
from taurine.telemetry import Attributes, Span

__all__ = ["TracedEnqueuer"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class TracedEnqueuer:
    """An Enqueuer whose calls are told of.

    One that is given a session ends its span when the job is checked: the rest is the caller's transaction.
    """

    def __init__(self, enqueuer: Enqueuer, spans: Spans) -> None:
        self._enqueuer = enqueuer
        self._spans = spans

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue`."""
        with self._span(job_type, options) as span:
            handle = await self._enqueuer.enqueue(job_type, payload, options)
            if span.is_recording:
                tenant = options.get("tenant") or job_type.tenant_claimed(payload)
                span.set_attributes({**_about(handle), **({} if tenant is None else {"taurine.tenant": tenant})})
            return handle

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many`."""
        with self._span(job_type, options, many=len(payloads)):
            return await self._enqueuer.enqueue_many(job_type, payloads, options)

    async def prepared(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> Recording[ResultT]:
        """See `Enqueuer.prepared`."""
        with self._span(job_type, options):
            return await self._enqueuer.prepared(job_type, payload, options)

    async def prepared_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> Recording[ResultT]:
        """See `Enqueuer.prepared_many`."""
        with self._span(job_type, options, many=len(payloads)):
            return await self._enqueuer.prepared_many(job_type, payloads, options)

    def _span(
        self, job_type: JobType[Any, Any], options: EnqueueOptions, *, many: int | None = None
    ) -> AbstractContextManager[Span]:
        operation = "enqueue" if many is None else "enqueueMany"
        attributes: dict[str, Any] = {
            "bullmq.queue.name": job_type.queue,
            "bullmq.queue.operation": operation,
            "bullmq.job.name": job_type.name,
        }
        if many is not None:
            attributes["bullmq.job.bulk.count"] = many
        if (tenant := options.get("tenant")) is not None:
            attributes["taurine.tenant"] = tenant
        return self._spans.span(f"{operation} {job_type.name}", kind="producer", attributes=attributes)


def _about(handle: JobHandle[Any]) -> Attributes:
    return {"bullmq.job.id": handle.id, "taurine.job.duplicate": handle.duplicate}
