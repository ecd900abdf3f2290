"""Recording what became of an attempt: to the ledger first, fenced, and only then is the queue told.

However long the ledger is away, an outcome waits for it, with its slot and its lease: one that is reported and then
forgotten would be worse than a late one. A worker that is stopped meanwhile hands the job back, and it runs again.

An outcome that the ledger will never take (a constraint or the database's own rules refuse this one, not all) must not
wait for ever: the job is recorded as failed for that reason instead, and if even that is refused, the queue alone is
told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from taurine.clock import Clock, now_ms
from taurine.errors import Cancel, InvalidOption, LedgerError, LedgerRefused, Permanent, Release, Snooze
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.jobs.reporting.failures import Failure, failure_of
from taurine.jobs.reporting.lines import line_fields, log, one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.reporting.tally import OTHER, Tally
from taurine.jobs.runtime.delivery import Delivery
from taurine.jobs.runtime.saving import Saver
from taurine.ledger.completions import Completion, apply_completions
from taurine.ledger.database import Database
from taurine.ledger.dead_letter_entry import DeadLetterReason
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import Granted
from taurine.ledger.group_commit import Apply, GroupCommit
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.statuses import TERMINAL, Status
from taurine.ledger.tallies import Outcome
from taurine.pauses import waited_out
from taurine.queue.attempt import Decided, bounded_delay
from taurine.queue.later import Later
from taurine.queue.wire import Encoded, encode_json
from taurine.telemetry import trace_id_in

__all__ = ["Recorder"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_HAND_BACK_TIME = 0.7
"""Seconds to write that a job waits again: the engine gives a cancelled handler one in all."""


class Recorder:
    """Writes outcomes. Its methods return what the queue is told, or raise what it is to do.

    told: called with the id of each job whose record has ended. tally: where it counts what the record has taken.
    """

    def __init__(
        self,
        *,
        database: Database,
        group: GroupCommit,
        saver: Saver,
        alerts: Alerts,
        told: Callable[[str], None],
        tally: Tally,
        redact: Redact,
        worker: str,
        clock: Clock,
        random: Random,
    ) -> None:
        self._database = database
        self._group = group
        self._saver = saver
        self._alerts = alerts
        self._told = told
        self._tally = tally
        self._redact = redact
        self._worker = worker
        self._clock = clock
        self._random = random

    # Outcomes -----------------------------------------------------------------------------------------------------------------------

    def complete(
        self, delivery: Delivery, context: Context, output: str, *, show: Callable[[], Awaitable[None]] | None
    ) -> Later:
        """The handler returned; `output` is its result as JSON.

        show: called between the record and the queue, whose dashboards show an ended job with its last progress.
        """
        now = now_ms(self._clock)
        self._saver.post_lines(context)
        completion = Completion(
            id=context.job_id,
            fence=delivery.fence,
            attempts=delivery.attempt,
            output=output,
            worker=self._worker,
            started_at=delivery.started,
            at=now,
            progress=encode_json(context.progress_value) if context.progress_changed else None,
        )
        later, of_the_job = Later(), copy_context()

        def heard(granted: Granted | Exception) -> None:
            if granted is not None:
                rest = self._complete_after(granted, delivery, context, completion, show)
                of_the_job.run(later.settle_by, rest)
                return
            answer = of_the_job.run(self._completed, delivery, context, completion)
            if show is None:
                later.settle(answer)
            else:
                of_the_job.run(later.settle_by, _shown(show, answer))

        self._group.hand_in(apply_completions, completion, heard)
        return later

    async def _complete_after(
        self,
        granted: Granted | Exception,
        delivery: Delivery,
        context: Context,
        completion: Completion,
        show: Callable[[], Awaitable[None]] | None,
    ) -> Encoded:
        """The completion was not written in one go."""
        if isinstance(granted, Exception):
            granted = await self._commit(apply_completions, completion, delivery)
        if granted is not None:
            return await self._overruled(delivery, granted, completion.output)
        answer = self._completed(delivery, context, completion)
        return answer if show is None else await _shown(show, answer)

    def _completed(self, delivery: Delivery, context: Context, completion: Completion) -> Encoded:
        """What the queue is told of a completion that the record has."""
        try:
            self._tell_completed(delivery, context, completion)
        except Exception:  # noqa: BLE001 - of whoever counts or logs: the job has completed, and an answer that never comes would keep its lease for ever
            log.exception("job %s has completed, and telling so failed", self._id(delivery))
        return Encoded(completion.output or "null")

    def _tell_completed(self, delivery: Delivery, context: Context, completion: Completion) -> None:
        milliseconds = max(0, completion.at - delivery.started)
        self._tally.completed(delivery.job.queue, context.type, delivery.waited, milliseconds)
        if log.isEnabledFor(logging.INFO):
            duration = milliseconds / 1000
            log.info(
                "job %s (%s) completed in %.3f s",
                context.shown_id,
                context.type,
                duration,
                extra={**self._fields(delivery), "duration": duration},
            )
        self._told(context.job_id)

    async def fail(self, delivery: Delivery, context: Context, error: Exception) -> Encoded:
        """The attempt failed: another one follows if the retry policy has one for this error, else the job is dead."""
        verdict = delivery.retry.classify(error, self._clock)
        pause = delivery.retry.pause(delivery.attempt, error, self._random, self._clock, verdict=verdict)
        if pause is None or delivery.attempt >= delivery.max_attempts:
            reason: DeadLetterReason = "permanent" if verdict.kind == "permanent" else "exhausted"
            return await self.give_up(delivery, error, reason, context=context, denied=verdict.alert)
        failure = failure_of(error, self._redact)
        end = _End("retrying", failure, pause=pause)
        if (overruled := await self._record(delivery, context, end)) is not None:
            return overruled
        log.warning(
            "job %s (%s) failed in attempt %d of %d and is tried again in %.1f s: %s",
            *(self._id(delivery), one_line(delivery.job.name), delivery.attempt, delivery.max_attempts, pause),
            failure.summary,
            extra={**self._fields(delivery), "error": failure.summary, "retry_in": pause},
        )
        if verdict.alert:
            self._alert("denied", delivery, failure)
        raise Decided(failure.shown, pause) from error

    async def give_up(
        self,
        delivery: Delivery,
        error: BaseException,
        reason: DeadLetterReason,
        *,
        context: Context | None = None,
        denied: bool = False,
        attempts: int | None = None,
    ) -> Encoded:
        """No attempt remains, or none is worth it: the job is failed, and has its dead letter.

        attempts: made. Default: this one was the last.
        """
        failure = failure_of(error, self._redact)
        end = _End("failed", failure, dead_letter=reason, attempts=attempts)
        if (overruled := await self._record(delivery, context, end)) is not None:
            return overruled
        log.error(
            "job %s (%s) is dead after %d of %d attempts (%s): %s\n%s",
            *(self._id(delivery), one_line(delivery.job.name), attempts or delivery.attempt, delivery.max_attempts),
            *(reason, failure.summary, failure.trace),
            extra={**self._fields(delivery), "error": failure.summary, "reason": reason},
        )
        self._told(delivery.id)
        if denied:
            self._alert("denied", delivery, failure)
        if reason == "crashed":
            self._alert("poison", delivery, failure)
        self._alert("dead_letter", delivery, failure)
        raise Decided(failure.shown, None) from error

    async def snooze(self, delivery: Delivery, context: Context, error: Snooze) -> Encoded:
        """The handler wants to be called again later, at no charge."""
        end = _End("waiting", pause=bounded_delay(error.delay), charged=False)
        if (overruled := await self._record(delivery, context, end)) is not None:
            return overruled
        raise error

    async def wait(self, delivery: Delivery, context: Context, error: Exception) -> Encoded:
        """The job waits for something that others do, for example its children."""
        if (overruled := await self._record(delivery, context, _End("waiting", charged=False))) is not None:
            return overruled
        raise error

    async def cancel(
        self, delivery: Delivery, context: Context | None, error: Cancel, *, partial: str | None = None
    ) -> Encoded:
        """The job was cancelled, or has cancelled itself. partial: what its handler returned all the same, as JSON."""
        failure = failure_of(error, self._redact)
        end = _End("cancelled", failure, partial=partial)
        if (overruled := await self._record(delivery, context, end)) is not None:
            return overruled
        log.info(
            "job %s (%s) was cancelled: %s",
            *(self._id(delivery), one_line(delivery.job.name), failure.line),
            extra={**self._fields(delivery), "reason": failure.line},
        )
        self._told(delivery.id)
        raise Decided(error, None) from error

    async def expire(self, delivery: Delivery) -> Encoded:
        """The job was to start by a time that has passed."""
        if (overruled := await self._record(delivery, None, _End("expired", charged=False))) is not None:
            return overruled
        log.warning(
            "job %s (%s) expired before it ran",
            *(self._id(delivery), one_line(delivery.job.name)),
            extra=self._fields(delivery),
        )
        self._told(delivery.id)
        raise Decided(Permanent("expired before it ran"), None)

    async def hand_back(self, delivery: Delivery, context: Context, *, shown: bool) -> None:
        """The attempt was cut off for no fault of its own: what it saved stays, and a record that says `running` goes
        back to `queued`, at no charge.

        As far as the ledger answers at once; whoever runs the job next writes its record anyway. Never raises but for a
        cancellation.
        """
        try:
            async with asyncio.timeout(_HAND_BACK_TIME):
                self._saver.post_lines(context)
                await self._save_state(context)
                if shown:
                    await self._group.submit(apply_endings, self._ending(delivery, _End("queued", charged=False)))
        except (TimeoutError, LedgerError, DBAPIError) as error:
            log.debug("job %s is handed back, its record is not: %s", self._id(delivery), error)

    async def read(self, job_id: str) -> JobRecord | None:
        """The record of a job, however long the ledger is away."""
        return await self.waiting_for(lambda: self._database.read(lambda connection: get_record(connection, job_id)))

    async def patiently(self, apply: Apply[ItemT, ResultT], item: ItemT) -> ResultT:
        """Write one item, however long the ledger is away."""
        return await self.waiting_for(lambda: self._group.submit(apply, item))

    # How --------------------------------------------------------------------------------------------------------------------------------

    async def _record(self, delivery: Delivery, context: Context | None, end: _End) -> Encoded | None:
        """Write an end that is no completion. None when the record has it; else what the queue is told instead.

        context: None of a delivery that did not run.
        """
        if context is not None:
            self._saver.post_lines(context)
            await self.waiting_for(lambda: self._save_state(context))
        ending = self._ending(delivery, end, began=context is not None)
        granted = await self._commit(apply_endings, ending, delivery)
        if granted is None:
            self._count(delivery, ending)
        if granted is None or (granted == "cancelled" and end.status == "cancelled"):
            return None
        return await self._overruled(delivery, granted, end.partial, ran=context is not None)

    def _ending(self, delivery: Delivery, end: _End, *, began: bool = True) -> Ending:
        now = now_ms(self._clock)
        reason, error = (end.failure, None) if end.status == "cancelled" else (None, end.failure)
        return Ending(
            id=delivery.id,
            fence=delivery.fence,
            status=end.status,
            attempts=end.attempts or (delivery.attempt if end.charged else delivery.attempt - 1),
            at=now,
            worker=self._worker if began or delivery.record is None else delivery.record.worker or self._worker,
            started_at=delivery.started if began else None,
            output=end.partial,
            error=None if error is None else error.json,
            error_fingerprint=None if error is None else error.fingerprint,
            cancel_reason=None if reason is None else reason.message,
            next_at=None if end.pause is None else now + round(end.pause * 1000),
            charged=end.charged,
            dead_letter=end.dead_letter,
        )

    async def _save_state(self, context: Context) -> None:
        try:
            await self._saver.save_progress(context)
        except InvalidOption as error:
            log.error("job %s: %s", context.shown_id, error, extra=line_fields(context))

    async def _commit(self, apply: Apply[ItemT, Granted], item: ItemT, delivery: Delivery) -> Granted:
        """Write an outcome.

        Raises Decided for one that the ledger refuses; then the record says that, if it can be made to.
        """
        try:
            return await self.patiently(apply, item)
        except Exception as refusal:  # noqa: BLE001 - whatever it is, another try ends in the same way
            error = Permanent(f"the outcome of its attempt {delivery.attempt} cannot be recorded: {refusal}")
        failure = failure_of(error, self._redact)
        log.error("job %s: %s", self._id(delivery), failure.line, extra=self._fields(delivery))
        try:
            ending = self._ending(delivery, _End("failed", failure, dead_letter="permanent"))
            granted = await self.patiently(apply_endings, ending)
        except Exception:  # noqa: BLE001 - as above
            log.exception("nor can it be recorded that job %s has failed for it", self._id(delivery))
        else:
            if granted is not None:
                return granted
            self._count(delivery, ending)
        self._told(delivery.id)
        self._alert("dead_letter", delivery, failure)
        raise Decided(failure.shown, None) from error

    def _count(self, delivery: Delivery, ending: Ending) -> None:
        """Count what is in the record now. A type that nobody declared has a name that anybody may have chosen."""
        kind = (delivery.job.queue, OTHER if delivery.job_type is None else delivery.job_type.name)
        ran = -1 if ending.started_at is None else max(0, ending.at - ending.started_at)
        waited = -1 if ending.started_at is None else delivery.waited
        self._tally.ended(*kind, _OUTCOMES[ending.status], waited, ran)
        if ending.dead_letter == "crashed":
            self._tally.ended(*kind, "crashed")

    async def waiting_for(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """What `call` returns once the ledger takes it.

        Raises what it raises of itself, an item that the ledger refuses included.
        """
        return await waited_out(
            call,
            clock=self._clock,
            passes=lambda error: isinstance(error, LedgerError) and not _is_about_the_item(error),
            told=lambda error: log.warning("jobs wait for the ledger: %s", error),
        )

    async def _overruled(
        self, delivery: Delivery, granted: Granted, output: str | None, *, ran: bool = True
    ) -> Encoded:
        """The record did not take the outcome: something else came first.

        Returns, or raises, what the queue is told then. output: as far as the handler got. ran: False of a delivery
        that was not to run.
        """
        log.warning(
            "job %s (%s): the outcome of attempt %d was refused, the record is %s",
            *(self._id(delivery), one_line(delivery.job.name), delivery.attempt, granted),
            extra=self._fields(delivery),
        )
        if granted == "missing":
            # It came with an envelope. Either its record was purged meanwhile, or the envelope is a forgery.
            error = Permanent("a job ran of which there is no record" if ran else "there is no record of the job")
            self._alert("forged_job", delivery, failure_of(error, self._redact))
            if not ran:
                raise Decided(error, None)
            return Encoded(output or "null")
        if granted == "completed":
            record = await self.read(delivery.id)
            return Encoded((record and record.output_json) or "null")
        if granted in TERMINAL:
            self._told(delivery.id)
            raise Decided(Permanent(f"the record says {granted}"), None)
        raise Release("a later delivery of the job has its record")

    def _alert(self, kind: str, delivery: Delivery, failure: Failure) -> None:
        job = delivery.job
        self._alerts.raise_alert(Alert(kind, delivery.id, job.name, job.queue, delivery.tenant, failure.summary))

    def _id(self, delivery: Delivery) -> str:
        return one_line(self._redact.job_id(delivery.id))

    def _fields(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "job_id": self._id(delivery),
            "job_type": delivery.job.name,
            "queue": delivery.job.queue,
            "attempt": delivery.attempt,
            "tenant": delivery.tenant,
            "trace": trace_id_in(delivery.trace),
        }


_OUTCOMES: dict[Status, Outcome] = {
    "failed": "failed",
    "retrying": "retried",
    "cancelled": "cancelled",
    "expired": "expired",
    "waiting": "snoozed",
}


@dataclass(frozen=True, slots=True)
class _End:
    """How an attempt ended that did not complete its job.

    failure: why, for a cancel its reason. pause: seconds until it is to start again. partial: what the handler of a
    cancelled job returned, as JSON. attempts: made. Default: this one was the last.
    """

    status: Status
    failure: Failure | None = None
    _: KW_ONLY
    pause: float | None = None
    charged: bool = True
    partial: str | None = None
    dead_letter: DeadLetterReason | None = None
    attempts: int | None = None


async def _shown(show: Callable[[], Awaitable[None]], answer: Encoded) -> Encoded:
    # The record has the job's end: a worker that ends meanwhile cuts off the showing, and tells the queue all the same.
    with contextlib.suppress(asyncio.CancelledError):
        await show()
    return answer


_SQLITE_ABOUT_THE_ITEM = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)


def _is_about_the_item(error: LedgerError) -> bool:
    """True for a refusal of this one write: another may well be taken.

    A full disk and their like refuse all of them, and pass.
    """
    cause = error.__cause__
    if not isinstance(error, LedgerRefused) or not isinstance(cause, DBAPIError):
        return False
    code: int = getattr(cause.orig, "sqlite_errorcode", 0)
    state = str(getattr(cause.orig, "sqlstate", None) or "")
    return code & 0xFF in _SQLITE_ABOUT_THE_ITEM or state[:2] in ("22", "23")
