"""Enqueues that are recorded instead of carried out: checked, authorised and given their ids as ever, and no server is
touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from typing import Any, Self, TypeVar

from sqlalchemy.orm import Session

from taurine.app import Taurine
from taurine.errors import InvalidOption, RecordNotFound, TransitionRefused
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions, Request
from taurine.jobs.enqueue.access import AccessRequest, authorized
from taurine.jobs.enqueue.checking import handle_of, settled
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.enqueue.joining import in_session
from taurine.jobs.handler.detached import MemoryEffects
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.records import JobRecord, NewRecord
from taurine.ledger.statuses import Status
from taurine.testing.acceptance import Acceptance, joined_to
from taurine.testing.matching import matches, no_match
from taurine.testing.outcomes import JobAttempt, attempt_job
from taurine.testing.recorded import RecordedJob
from taurine.testing.running import RunOptions, without_loop

__all__ = ["Recorder"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

_MOST_ATTEMPTS = 100
"""Attempts of one job that are made at once: a handler that always hands its job back would go on for ever."""


class Recorder:
    """Stands in for an application's servers: what is enqueued in the block is recorded here and goes nowhere else.

        with Recorder(app) as recorder:
            sign_up("ada@example.com")
        recorder.assert_enqueued("invite.send", address="ada@example.com")

    app: whose job types. inline: run each job when it is enqueued, as a worker would but without pauses between
    attempts; what is delayed, joins a session or has no handler here waits for `run`. Default: False.

    Payloads are validated, the `authorize` hook is asked, and ids, tenants, duplicates, idempotency keys and
    `on_duplicate` are as in production; quotas are not. `app.get`, `app.wait`, `app.cancel` and handles know the
    recorded jobs, and entering the application opens nothing. What else asks the servers, `app.list` and
    `app.dead_letters` for example, raises InvalidOption. Workers and `app.migrate` are what they always are.

    Works with `with` and `async with`, in async code and in code without a loop, and from any thread. Recorders in
    tests that run at the same time do not see one another's jobs; see `taurine.jobs.enqueue.standing_in` for which is
    asked. What was recorded can be read after the block.
    """

    def __init__(self, app: Taurine, *, inline: bool = False) -> None:
        self._app = app
        self._inline = inline
        self._lock = RLock()
        self._jobs: dict[str, RecordedJob] = {}
        self._keys: dict[tuple[str, str], tuple[IdempotencyKey, str]] = {}
        self._duplicates: list[str] = []
        self._rolled_back: list[RecordedJob] = []
        self.effects = MemoryEffects()
        """What `ctx.once` of the jobs that ran here has done."""

    def __repr__(self) -> str:
        return f"Recorder({self._app.name!r}, {len(self._jobs)} jobs)"

    def __enter__(self) -> Self:
        self._app.stand_ins.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._app.stand_ins.remove(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    # What was recorded --------------------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[RecordedJob]:
        """The accepted jobs, in their order; a duplicate is none, and neither is one whose session was rolled back."""
        with self._lock:
            return list(self._jobs.values())

    @property
    def duplicates(self) -> list[str]:
        """The ids of jobs that were asked for again, once for each time."""
        with self._lock:
            return list(self._duplicates)

    @property
    def rolled_back(self) -> list[RecordedJob]:
        """Jobs that were enqueued in a session whose transaction was rolled back: to the application they never were."""
        with self._lock:
            return list(self._rolled_back)

    def of(self, job_type: JobType[Any, Any] | str) -> list[RecordedJob]:
        """The accepted jobs of a type. Raises UnknownJobType, with the near miss."""
        name = self._name_of(job_type)
        return [job for job in self.jobs if job.type == name]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._jobs.clear()
            self._keys.clear()
            self._duplicates.clear()
            self._rolled_back.clear()

    def assert_enqueued(
        self, job_type: JobType[Any, Any] | str, *, times: int | None = None, **matching: Any
    ) -> RecordedJob:
        """The first job of this type for which `matching` holds.

        Raises AssertionError with the nearest candidates when there is none.

        matching: fields of the payload, by name; and `payload` as a whole, `id`, `tenant`, `queue`, `delay`,
        `priority`, `tags`, `metadata`, `user`, `source`, `max_attempts`, `idempotency_key`, `scheduled_for` and the
        other facts of a RecordedJob. A function is called with the value and says whether it will do.
        times: exactly so many, at least 1. Default: any number.
        """
        name, jobs = self._name_of(job_type), self.jobs
        found = [job for job in jobs if job.type == name and matches(job, matching)]
        if not found or (times is not None and len(found) != times):
            raise AssertionError(no_match(name, matching, jobs, times))
        return found[0]

    def assert_not_enqueued(self, job_type: JobType[Any, Any] | str, **matching: Any) -> None:
        """Raise AssertionError if there is a job of this type for which `matching` holds; see `assert_enqueued`."""
        found = [job for job in self.of(job_type) if matches(job, matching)]
        if found:
            raise AssertionError(f"expected no such job, and enqueued was {', '.join(map(str, found))}")

    def _name_of(self, job_type: JobType[Any, Any] | str) -> str:
        return self._app.catalog.get(job_type).name if isinstance(job_type, str) else job_type.name

    # What becomes of it -------------------------------------------------------------------------------------------------------------

    def complete(self, job: RecordedJob | JobHandle[Any] | str, result: Any = None) -> None:
        """Say that a job has completed, so that whoever waits for it gets `result`.

        Raises RecordNotFound, TransitionRefused, PayloadInvalid for another result than it declares.
        """
        recorded = self._open(job)
        codec = recorded.job_type.result
        self._end(recorded, "completed", output=codec.encode(codec.check(result)), attempts=1)

    def fail(self, job: RecordedJob | JobHandle[Any] | str, error: BaseException) -> None:
        """Say that a job has failed for good. Raises RecordNotFound, TransitionRefused."""
        self._end(self._open(job), "failed", error=error, attempts=1)

    async def run(self, job_type: JobType[Any, Any] | str | None = None) -> list[JobAttempt[Any]]:
        """Run what is due by the application's clock, and what that enqueues, as a worker would but without pauses
        between attempts; no server is needed.

        job_type: only jobs of it. Default: all that have a handler here. Returns the last attempt of each job, in the
        order in which they ran.
        """
        name = None if job_type is None else self._name_of(job_type)
        ran: list[JobAttempt[Any]] = []
        while (job := self._next_due(name)) is not None:
            ran.append(await self._run(job))
        return ran

    def run_sync(self, job_type: JobType[Any, Any] | str | None = None) -> list[JobAttempt[Any]]:
        """`run` for tests without an event loop."""
        return without_loop(self.run(job_type))

    def _next_due(self, name: str | None) -> RecordedJob | None:
        with self._lock:
            for job in self._jobs.values():
                if job.status == "queued" and name in (None, job.type) and self._is_due(job):
                    return job
        return None

    def _is_due(self, job: RecordedJob) -> bool:
        return job.job_type.has_handler and (job.record.scheduled_for or 0) <= self._now_ms()

    async def _run(self, job: RecordedJob) -> JobAttempt[Any]:
        with self._lock:
            job.status = "running"
        options: RunOptions = {
            "job_id": job.id,
            "attempt": 1,
            "max_attempts": job.max_attempts,
            "effects": self.effects,
            "clock": self._app.stand_ins.clock,
        }
        if job.tenant is not None:
            options["tenant"] = job.tenant
        if job.user is not None:
            options["user"] = job.user
        if job.trace is not None:
            options["trace"] = job.trace
        if job.scheduled_for is not None:
            options["scheduled_for"] = job.scheduled_for
        for _ in range(_MOST_ATTEMPTS):
            attempt = await attempt_job(job.job_type, job.payload, **options)
            if attempt.status not in ("retrying", "queued"):
                self._heed(job, attempt)
                return attempt
            attempt.context.keep()
            options["state"] = attempt.context.saved_state
            options["attempt"] = options.get("attempt", 1) + attempt.charged
        raise InvalidOption(f"job {job} was handed back {_MOST_ATTEMPTS} times, and would be for ever")

    def _heed(self, job: RecordedJob, attempt: JobAttempt[Any]) -> None:
        codec = job.job_type.result
        attempts = attempt.context.attempt - (not attempt.charged)
        match attempt.status:
            case "completed":
                self._end(job, "completed", output=codec.encode(attempt.result), attempts=attempts)
            case "failed":
                self._end(job, "failed", error=attempt.error, attempts=attempts)
            case "cancelled":
                self._end(job, "cancelled", reason=str(attempt.error), attempts=attempts)
            case _:
                self._end(job, "waiting", attempts=attempts)

    def _open(self, job: RecordedJob | JobHandle[Any] | str) -> RecordedJob:
        found = self._found(job if isinstance(job, str) else job.id)
        if found.has_ended:
            raise TransitionRefused(f"job {found.id!r} is {found.status}, and ends no other way", job_id=found.id)
        return found

    def _found(self, job_id: str) -> RecordedJob:
        with self._lock:
            found = self._jobs.get(job_id)
        if found is None:
            raise RecordNotFound(f"no job {job_id!r} was recorded", job_id=job_id)
        return found

    def _end(
        self,
        job: RecordedJob,
        status: Status,
        *,
        attempts: int | None = None,
        output: str | None = None,
        error: BaseException | None = None,
        reason: str | None = None,
    ) -> None:
        with self._lock:
            job.status, job.changed_at = status, self._now_ms()
            job.output, job.error, job.reason = output, error, reason
            if attempts is not None:
                job.attempts = attempts

    def _now_ms(self) -> int:
        return round(self._app.stand_ins.clock.now() * 1000)

    # In place of the enqueuer ---------------------------------------------------------------------------------------------------------

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """Called by the application."""
        (handle,) = await self._accepted(options, await self.prepared(job_type, payload, options))
        return handle

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """Called by the application."""
        return await self._accepted(options, await self.prepared_many(job_type, payloads, options))

    async def prepared(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> Callable[[Session | None], list[JobHandle[ResultT]]]:
        """Called by the application."""
        return partial(self._accept, job_type, *await self._app.stand_ins.checks.one(job_type, payload, options))

    async def prepared_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> Callable[[Session | None], list[JobHandle[ResultT]]]:
        """Called by the application."""
        return partial(self._accept, job_type, *await self._app.stand_ins.checks.many(job_type, payloads, options))

    async def _accepted(
        self, options: EnqueueOptions, accept: Callable[[Session | None], list[JobHandle[ResultT]]]
    ) -> list[JobHandle[ResultT]]:
        if (session := options.get("session")) is not None:
            return await in_session(session, accept)
        handles = accept(None)
        if self._inline:
            for handle in handles:
                job = self._jobs[handle.id]
                if not handle.duplicate and self._is_due(job):
                    await self._run(job)
                    handle.status = job.status
        return handles

    def _accept(
        self, job_type: JobType[Any, ResultT], request: Request, records: Sequence[NewRecord], session: Session | None
    ) -> list[JobHandle[ResultT]]:
        """All of `records`, or none of them."""
        with self._lock:
            acceptance = Acceptance(job_type, self._jobs, self._keys)
            answers = [settled(record, acceptance.answer(record), request) for record in records]
            self._jobs, self._keys = acceptance.jobs, acceptance.keys
            self._duplicates += [
                answer.existing.id for answer in answers if answer.existing is not None and not answer.rerun
            ]
            if session is not None:
                joined_to(session, self._drop).add(acceptance.accepted)
        return [handle_of(job_type, record, answer, self) for record, answer in zip(records, answers, strict=True)]

    def _drop(self, jobs: Sequence[RecordedJob]) -> None:
        """These jobs never were: their transaction was rolled back."""
        with self._lock:
            for job in jobs:
                if self._jobs.get(job.id) is job:
                    del self._jobs[job.id]
            self._keys = {name: held for name, held in self._keys.items() if held[1] in self._jobs}
            self._rolled_back += jobs

    # In place of the ledger -----------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobRecord | None:
        """Called by the application and by handles."""
        return self.get_sync(job_id)

    def get_sync(self, job_id: str) -> JobRecord | None:
        """As `get`."""
        with self._lock:
            job = self._jobs.get(job_id)
            return None if job is None else job.snapshot()

    async def wait(self, job_id: str, timeout: float | None, *, tenant: str | None = None) -> JobRecord | None:
        """Called by the application and by handles. Nobody is waited for: with a time limit it has passed at once."""
        return self.wait_sync(job_id, timeout, tenant=tenant)

    def wait_sync(self, job_id: str, timeout: float | None, *, tenant: str | None = None) -> JobRecord | None:
        """As `wait`. Raises InvalidOption for a job that has not ended when there is no time limit."""
        record = self.get_sync(job_id)
        if record is None or (tenant is not None and record.tenant != tenant):
            return None
        if timeout is None and not self._jobs[job_id].has_ended:
            raise InvalidOption(
                f"job {job_id!r} is {record.status} and would be waited for without end: under a Recorder nobody runs jobs; "
                "use Recorder(app, inline=True), recorder.run(), or say what came of it with recorder.complete(job, result)"
            )
        return record

    async def cancel(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Called by the application and by handles."""
        job = self._found(job_id)
        if tenant is not None and job.tenant != tenant:
            raise RecordNotFound(f"no job {job_id!r} was recorded", job_id=job_id)
        request = AccessRequest(action="cancel", job_type=job.type, tenant=job.tenant, user=user)
        await authorized(self._app.stand_ins.authorize, request)
        self._end(self._open(job), "cancelled", reason=reason)
        return job.snapshot()

    def cancel_sync(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """As `cancel`."""
        return without_loop(self.cancel(job_id, reason=reason, user=user, tenant=tenant))
