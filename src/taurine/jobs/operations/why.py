"""Why a job is not running: asking the ledger and the queue, in bounded time, whether or not they answer.

What is found out is put into words by `reasons`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from taurine.errors import EmbeddedServerError, LedgerError, StoreError
from taurine.ids import public_id
from taurine.jobs.backend import Backend
from taurine.jobs.handover.adoption import stored_id_of
from taurine.jobs.operations.reasons import Facts, Reason, WhyCode, explain
from taurine.jobs.operations.slots import of_users
from taurine.jobs.operations.workers import worker_view
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.dead_letters import DeadLetterFilter, list_dead_letters
from taurine.ledger.outbox import OutboxLag, outbox_lag
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.running import Run, runs_before
from taurine.ledger.statuses import TERMINAL
from taurine.ledger.workers import WorkerRow, list_workers
from taurine.queue import Queue

__all__ = ["Inquiry", "Why"]

ResultT = TypeVar("ResultT")

ANSWER_SECONDS = 2.0
"""Seconds that each of the two servers is given to answer."""

_RUNS_READ = 100
"""Running jobs of the queue that are read, the longest first: some may be of workers that are gone."""

_TRIES = 3
"""Times that a job is looked at which moves on while it is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a job is not running, or that it is.

    reasons: what holds it now first; see `taurine.jobs.operations.reasons` for the codes. record: None where it was not
    found.
    """

    job_id: str
    reasons: tuple[Reason, ...]
    record: JobRecord | None

    @property
    def code(self) -> WhyCode:
        """The reason in a word."""
        return self.reasons[0].code

    @property
    def sentence(self) -> str:
        """The reason in a sentence."""
        return f"The job {self.reasons[0].text}."

    @property
    def next_event(self) -> str | None:
        """What is expected to happen next; None when nothing is."""
        return self.reasons[0].next_event

    @property
    def next_at(self) -> datetime | None:
        """When that is expected; None where nobody can tell."""
        return self.reasons[0].at

    @property
    def details(self) -> Mapping[str, Any]:
        """What belongs to the reason, as plain JSON: worker, attempt, ahead, rate and so on."""
        return self.reasons[0].details

    def __str__(self) -> str:
        return self.sentence

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return {
            "job_id": self.job_id,
            "code": self.code,
            "sentence": self.sentence,
            "next_event": self.next_event,
            "next_at": None if self.next_at is None else self.next_at.isoformat(),
            "details": dict(self.details),
            "reasons": [
                {
                    "code": reason.code,
                    "text": reason.text,
                    "next_event": reason.next_event,
                    "at": None if reason.at is None else reason.at.isoformat(),
                    "details": dict(reason.details),
                }
                for reason in self.reasons
            ],
        }


class Inquiry:
    """Asks why a job is not running."""

    def __init__(self, backend: Backend, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._backend = backend
        self._seconds = answer_seconds

    async def ask(self, job_id: str, *, tenant: str | None = None, whole: bool | None = None) -> Why:
        """The reasons, from both servers as far as they answer. Never raises for one that does not.

        tenant: whose job it must be. whole: whether to tell what only operators should know. Default: unless there is a
        tenant.
        """
        facts = Facts(
            job_id=job_id,
            now=self._backend.clock.now(),
            tenant=tenant,
            whole=tenant is None if whole is None else whole,
            lease=self._backend.settings.lease,
        )
        for _ in range(_TRIES):
            facts, settled = await self._look(facts)
            if settled:
                break
        return Why(job_id=job_id, reasons=tuple(explain(facts)), record=facts.record)

    async def _look(self, facts: Facts) -> tuple[Facts, bool]:
        """The facts as they are now; False when the job has moved on meanwhile, so that what was found does not fit
        together.
        """
        backend = self._backend
        facts = replace(facts, now=backend.clock.now())
        facts = await self._ask_ledger(facts)
        record = facts.record
        # Without the record nobody knows whose it is. And a queue that was asked of another's job would tell by the time it takes.
        if record is None and (facts.ledger_error is None or facts.tenant is not None):
            return facts, True
        if record is not None and record.status in TERMINAL:
            return facts, True
        facts = await (self._search(facts) if record is None else self._ask_queue(facts, record.queue))
        place = facts.place
        if (
            record is None
            or place is None
            or (place.job is not None and place.state not in ("completed", "failed", None))
        ):
            return facts, True
        # The queue does not have what the record says: it may have ended between the two looks.
        return facts, _same(record, (await self._ask_ledger(facts)).record)

    # The ledger -----------------------------------------------------------------------------------------------------------------------

    async def _ask_ledger(self, facts: Facts) -> Facts:
        backend, now_ms = self._backend, round(facts.now * 1000)

        def read(connection: Connection) -> _Told | None:
            record = get_record(connection, facts.job_id)
            if record is None or (facts.tenant is not None and record.tenant != facts.tenant):
                return None
            lag = None if record.dispatched_at is not None else outbox_lag(connection, [record.queue], now_ms)
            told = _Told(record, _dead_letter_of(connection, record), lag)
            if record.status in TERMINAL:
                return told
            runs = runs_before(connection, now_ms, queue=record.queue, limit=_RUNS_READ)
            # The job's own record may say that it runs, after its worker is gone.
            others = [run for run in runs if run.id != record.id]
            return told._replace(runs=others, workers=list_workers(connection))

        async def answer() -> _Told | None:
            await backend.ready()
            return await backend.database.read(read)

        try:
            told = await self._in_time(answer)
        except TimeoutError:
            return replace(facts, record=None, ledger_error=f"the database gave no answer within {self._seconds:g} s")
        except LedgerError as error:
            return replace(facts, record=None, ledger_error=str(error))
        if told is None:
            return replace(facts, record=None, ledger_error=None)
        declared = None
        if len(backend.catalog):
            declared = backend.catalog.find(told.record.type) is not None
        views = [worker_view(row, now_ms) for row in told.workers]
        return replace(
            facts,
            record=told.record,
            dead_letter=told.dead_letter,
            lag=told.lag,
            runs=told.runs,
            reports=of_users(views, backend.catalog.system_queues),
            declared=declared,
            ledger_error=None,
        )

    # The queue ------------------------------------------------------------------------------------------------------------------------

    async def _search(self, facts: Facts) -> Facts:
        """Without the record nobody knows the job's queue: the first of all declared ones that has the id is taken."""
        for name in self._backend.catalog.queues:
            facts = await self._ask_queue(facts, name)
            if facts.place is None or facts.place.job is not None:
                break
        return facts

    async def _ask_queue(self, facts: Facts, name: str) -> Facts:
        facts = replace(facts, queue=name)
        try:
            await self._backend.redis_url()  # may have to start the embedded server, which has bounds of its own
            return await self._in_time(lambda: _seen_in(self._backend, facts, name))
        except TimeoutError:
            return replace(facts, place=None, store_error=f"the server gave no answer within {self._seconds:g} s")
        except (StoreError, EmbeddedServerError) as error:
            return replace(facts, place=None, store_error=str(error))

    async def _in_time(self, ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
        async with asyncio.timeout(self._seconds):
            return await ask()


class _Told(NamedTuple):
    """What the ledger says."""

    record: JobRecord
    dead_letter: DeadLetter | None
    lag: OutboxLag | None
    runs: Sequence[Run] = ()
    workers: Sequence[WorkerRow] = ()


async def _seen_in(backend: Backend, facts: Facts, name: str) -> Facts:
    queue = await backend.queue(name)
    record = facts.record
    # A job that others added has a record under another id than the queue's.
    queue_id = facts.job_id if record is None else public_id(stored_id_of(record.id, record.source, record.generation))
    place = await queue.whereabouts(queue_id)
    children = None
    if place.job is not None and place.state == "waiting-children":
        children = await place.job.dependency_counts()
    last_end = None
    if facts.runs and place.state in ("waiting", "prioritized"):
        last_end = await _last_end(queue)
    return replace(
        facts, place=place, children=children, workers=await queue.workers(), last_end=last_end, store_error=None
    )


async def _last_end(queue: Queue) -> float | None:
    """Wall seconds; None where no job is kept that has ended."""
    ended = await queue.get_jobs(("completed", "failed"), start=0, end=0)
    return max((job.finished_at for job in ended if job.finished_at is not None), default=None)


def _dead_letter_of(connection: Connection, record: JobRecord) -> DeadLetter | None:
    if record.status != "failed":
        return None
    page = list_dead_letters(connection, DeadLetterFilter(job_id=record.id), limit=1)
    return next(iter(page.entries), None)


def _same(one: JobRecord, other: JobRecord | None) -> bool:
    return other is not None and (one.fence, one.status, one.dispatched_at) == (
        other.fence,
        other.status,
        other.dispatched_at,
    )
