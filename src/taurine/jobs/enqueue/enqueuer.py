"""Accepting jobs: authorise, check, record, and only then queue.

The record is what makes a job accepted. Handing it to the queue follows in the same call when the server of queues
answers, and is the outbox's work otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from taurine.clock import Clock
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions, Request
from taurine.jobs.enqueue.access import Authorize
from taurine.jobs.enqueue.checking import Checks, handle_of, settled
from taurine.jobs.enqueue.handle import JobHandle, Records
from taurine.jobs.enqueue.joining import in_session
from taurine.jobs.handover.prompt import PromptHandOver
from taurine.ledger.database import Database, Work
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.records import Inserted, NewRecord
from taurine.ledger.requests import accept_records
from taurine.ledger.sessions import run_in, tell_after_commit

__all__ = ["Enqueuer", "Recording"]

log = logging.getLogger("taurine.jobs")

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

Recording: TypeAlias = Callable[[Session], list[JobHandle[ResultT]]]
"""Records jobs that were checked in the transaction of a session, in its thread."""

_SLICE = 1000
"""Jobs of one `enqueue_many` that are recorded in one transaction."""


class Enqueuer:
    """Accepts jobs of one application on one event loop. Used on that loop, except for a `Recording`.

    source: what a request says of where it comes from unless its caller does. undelivered: told when jobs were recorded
    in a session, and the queue knows nothing of them.
    kept_for, carried: as in `Checks`.
    """

    def __init__(
        self,
        *,
        database: Database,
        group: GroupCommit,
        prompt: PromptHandOver,
        records: Records,
        authorize: Authorize | None,
        undelivered: Callable[[], None],
        clock: Clock,
        source: str,
        kept_for: Callable[[str], str | None],
        carried: Callable[[], str | None] | None = None,
    ) -> None:
        self._database = database
        self._group = group
        self._prompt = prompt
        self._records = records
        self._checks = Checks(authorize=authorize, clock=clock, source=source, kept_for=kept_for, carried=carried)
        self._undelivered = undelivered
        self._loop = asyncio.get_running_loop()

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue`."""
        if (session := options.get("session")) is not None:
            (handle,) = await in_session(session, await self.prepared(job_type, payload, options))
            return handle
        request, (record,) = await self._checks.one(job_type, payload, options)
        answer = settled(record, await self._group.submit(accept_records, record), request)
        await self._hand_over([record], [answer])
        return handle_of(job_type, record, answer, self._records)

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many`."""
        if (session := options.get("session")) is not None:
            return await in_session(session, await self.prepared_many(job_type, payloads, options))
        request, records = await self._checks.many(job_type, payloads, options)
        return self._handles(job_type, records, await self._record_in_slices(records, request))

    async def prepared(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> Recording[ResultT]:
        """A checked job that is not recorded yet: call what is returned with a session, in its thread.

        Raises what `JobType.enqueue` raises for a bad one.
        """
        request, records = await self._checks.one(job_type, payload, options)
        return partial(self._record_in, job_type, records, request)

    async def prepared_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> Recording[ResultT]:
        """As `prepared`, of several payloads, which may have neither a job id nor an idempotency key."""
        request, records = await self._checks.many(job_type, payloads, options)
        return partial(self._record_in, job_type, records, request)

    # Recording ------------------------------------------------------------------------------------------------------------------

    async def _record_in_slices(self, records: Sequence[NewRecord], request: Request) -> list[Inserted]:
        answers: list[Inserted] = []
        async with contextlib.AsyncExitStack() as last:
            for first in range(0, len(records), _SLICE):
                part = records[first : first + _SLICE]
                answered = await self._database.write(_accepting(part, request))
                await last.aclose()
                # The next slice is recorded while the queue takes this one; slices are handed over in their order.
                last.push_async_callback(_awaited, asyncio.create_task(self._hand_over(part, answered)))
                answers += answered
        return answers

    def _record_in(
        self, job_type: JobType[Any, ResultT], records: Sequence[NewRecord], request: Request, session: Session
    ) -> list[JobHandle[ResultT]]:
        """Record in the caller's transaction, in its thread; the outbox is told when it is committed."""
        answers = run_in(session, _accepting(records, request), whole=len(records) > 1)
        if any(map(_needs_delivery, answers)):
            tell_after_commit(session, self._tell)
        return self._handles(job_type, records, answers)

    def _tell(self) -> None:
        # The transaction is committed: nothing may fail in it any more. A loop that is closed leaves it to the outbox of another process.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._undelivered)

    # Handing over ---------------------------------------------------------------------------------------------------------------

    async def _hand_over(self, records: Sequence[NewRecord], answers: Sequence[Inserted]) -> None:
        """Give what was recorded to the queue."""
        await self._prompt.hand_over(
            new=[record for record, answer in zip(records, answers, strict=True) if answer.existing is None],
            again=[answer.existing for answer in answers if answer.existing is not None and answer.rerun],
        )

    # Answering --------------------------------------------------------------------------------------------------------------------

    def _handles(
        self, job_type: JobType[Any, ResultT], records: Sequence[NewRecord], answers: Sequence[Inserted]
    ) -> list[JobHandle[ResultT]]:
        return [
            handle_of(job_type, record, answer, self._records) for record, answer in zip(records, answers, strict=True)
        ]


def _accepting(records: Sequence[NewRecord], request: Request) -> Work[list[Inserted]]:
    """Accept all of `records`, or raise in the transaction at hand, which undoes it."""

    def accept(connection: Connection) -> list[Inserted]:
        answers = accept_records(connection, records)
        return [settled(record, answer, request) for record, answer in zip(records, answers, strict=True)]

    return accept


def _needs_delivery(answer: Inserted) -> bool:
    return answer.existing is None or answer.rerun


async def _awaited(task: asyncio.Task[None]) -> None:
    await task
