"""Whether a delivery runs.

A first delivery goes straight to its handler. Any other (delivered again, of a later generation, handed over late,
from a server that may have forgotten, of a job that somebody has lately acted on, a tick of a schedule, or without the
envelope that Taurine gives each job) asks the ledger first, and takes the record in the same transaction: from then on
nothing counts that an earlier delivery still writes.

A job whose type goes to another queue by now is sent there, whichever delivery it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import Connection

from taurine.clock import Clock, ms_of, now_ms
from taurine.errors import Cancel, Permanent, Release, Snooze, UnknownJobType, WorkerLost
from taurine.ids import run_of
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.envelope import Envelope, retry_from_json
from taurine.jobs.handover.adoption import record_id_of, tick_of, trace_of
from taurine.jobs.handover.dispatch import envelope_now
from taurine.jobs.handover.prompt import PromptHandOver
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.jobs.reporting.failures import failure_of
from taurine.jobs.reporting.lines import log, one_line, unrun_fields
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.runtime.delivery import Delivery
from taurine.jobs.runtime.recording import Recorder
from taurine.ledger.fences import Granted, fence_of
from taurine.ledger.generations import Seen, raise_fence, raise_generation
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.starts import Lost, Start, apply_starts, record_lost
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Job
from taurine.queue.attempt import Decided
from taurine.queue.stored_options import APPLICATION_MEMBER
from taurine.queue.wire import Encoded, decode_json
from taurine.retry import Retry

__all__ = ["Acknowledged", "Admission", "Adopt", "envelope_of"]

_UNKNOWN_FOR_MS = 10 * 60_000
"""How long after its time a job of an unknown type is handed back: while workers are replaced one by one, another may
know it already.
"""

_UNKNOWN_TIMES = 12
"""How often it is handed back at least: one that stood in a long line, or was handed over late, is old when a worker
first sees it.
"""

_PAUSE = 5.0
"""Seconds until the next worker sees a job that this one has handed back."""

_MOST_TOLD = 100
"""Names that are kept so that each is told of once: anybody may make them up."""

Adopt = Callable[[Job, JobType[Any, Any] | None], Awaitable[JobRecord | None]]
"""Makes a record for a job that somebody else put into the queue; None where that is not allowed."""


class Acknowledged(NamedTuple):
    """A delivery that is not to run: what the queue is told of it."""

    value: Encoded


class Admission:
    """Decides for each claimed job, and records why one does not run."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        recorder: Recorder,
        alerts: Alerts,
        adopt: Adopt,
        prompt: PromptHandOver,
        is_doubtful: Callable[[Job], bool],
        acted_on: Container[str],
        redact: Redact,
        worker: str,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._recorder = recorder
        self._alerts = alerts
        self._adopt = adopt
        self._prompt = prompt
        self._is_doubtful = is_doubtful
        self._acted_on = acted_on
        self._redact = redact
        self._worker = worker
        self._clock = clock
        self._told_of: set[str] = set()

    async def admit(self, job: Job) -> Delivery | Acknowledged:
        """What is known of a delivery that is to run.

        For one that is not: Acknowledged, or raised what the queue is to do with it.
        """
        tick = None if job.scheduler_id is None else tick_of(job, self._catalog)
        envelope = tick or envelope_of(job)
        job_type = self._catalog.find(job.name)
        goes_elsewhere = job_type is not None and job_type.queue != job.queue
        has_handler = job_type is not None and job_type.has_handler and not goes_elsewhere
        if goes_elsewhere:
            self._let_rest_between_moves(job, envelope)
        elif not has_handler:
            self._leave_to_others(job, job_type, envelope)
        if (
            goes_elsewhere
            or envelope is None
            or job.attempts_started > 1
            or envelope.generation
            or envelope.late
            or self._is_doubtful(job)
            or job.id in self._acted_on
        ):
            delivery = await self._take(job, job_type, envelope)
            if isinstance(delivery, Acknowledged):
                return delivery
        else:
            delivery = self._delivery(job, job_type, envelope, None, now_ms(self._clock))
        if not has_handler:
            return Acknowledged(await self._recorder.give_up(delivery, self._unknown(job), "unknown_type"))
        if _has_expired(job, delivery.envelope, delivery.record, delivery.started):
            return Acknowledged(await self._recorder.expire(delivery))
        return delivery

    def _leave_to_others(self, job: Job, job_type: JobType[Any, Any] | None, envelope: Envelope | None) -> None:
        """Raise Snooze for a job without a handler here, where another worker may have one.

        Its type is declared, or may be so new that this worker is the older one.
        """
        if job_type is None:
            if envelope is None:
                return  # somebody else's, who may call it anything
            due_at = max(job.created_at * 1000, envelope.scheduled_for or 0)
            if job.attempts_started > _UNKNOWN_TIMES and now_ms(self._clock) >= due_at + _UNKNOWN_FOR_MS:
                return
        if job.name not in self._told_of and len(self._told_of) < _MOST_TOLD:
            self._told_of.add(job.name)
            log.warning("jobs are handed back for other workers: %s", one_line(str(self._unknown(job))))
        raise Snooze(_PAUSE)

    def _let_rest_between_moves(self, job: Job, envelope: Envelope | None) -> None:
        """Raise Snooze for a job that may have been sent here lately, by a worker that knows another queue for its
        type.

        While workers are replaced one by one, two versions could send it to and fro as fast as they can.
        """
        if envelope is not None and envelope.generation and job.attempts_started == 1:
            raise Snooze(_PAUSE)

    async def _take(
        self, job: Job, job_type: JobType[Any, Any] | None, envelope: Envelope | None
    ) -> Delivery | Acknowledged:
        now = now_ms(self._clock)
        goes_to = None if job_type is None or job_type.queue == job.queue else job_type.queue
        taking = _Taking(_record_id(job, envelope), job, envelope or Envelope(), goes_to, self._worker, now)
        record, granted = await self._recorder.patiently(_take_records, taking)
        made_by_queue = envelope is None or job.scheduler_id is not None
        if record is None and made_by_queue and await self._recorder.waiting_for(lambda: self._adopt(job, job_type)):
            record, granted = await self._recorder.patiently(_take_records, taking)
        if record is None:
            self._refuse_forged(job)
        if record.queue != job.queue:
            return await self._acknowledge_moved(job, record)
        if record.status in TERMINAL:
            return self._acknowledge(job, record)
        delivery = self._delivery(job, job_type, envelope or Envelope(), record, now)
        if record.cancel_requested_at is not None:
            reason = Cancel(record.cancel_reason or "cancelled")
            return Acknowledged(await self._recorder.cancel(delivery, None, reason))
        if goes_to is not None:
            raise Snooze(_PAUSE)  # another has written to the record just now
        rest_ms = _rest_ms(taking, record)
        if rest_ms > 0:
            raise Snooze(rest_ms / 1000)
        if granted is not None:
            raise Release(f"the record of job {job.id!r} is {granted}, of a later delivery")
        delivery.shown = True
        if _is_lost(record, delivery.fence):
            self._tell_of_lost(job, record)
        return delivery

    def _tell_of_lost(self, job: Job, record: JobRecord) -> None:
        job_id = one_line(self._redact.job_id(job.id))
        log.warning(
            "job %s (%s) runs again: worker %s began it at %s and told no end; it died, or lost its lease",
            *(job_id, one_line(job.name), one_line(record.worker or "unknown")),
            "an unknown time" if record.started_at is None else f"{record.started_at:%Y-%m-%d %H:%M:%S} UTC",
            extra=unrun_fields(job_id, job_type=job.name, queue=job.queue, tenant=record.tenant),
        )

    def delivery_of(self, job: Job, envelope: Envelope, record: JobRecord) -> Delivery:
        """A delivery that was not admitted, for who records why."""
        return self._delivery(job, self._catalog.find(job.name), envelope, record, now_ms(self._clock))

    def _delivery(
        self,
        job: Job,
        job_type: JobType[Any, Any] | None,
        envelope: Envelope,
        record: JobRecord | None,
        started: int,
    ) -> Delivery:
        max_attempts, payload = envelope.attempts + job.options.attempts, job.data_json
        attempts = _attempts(job, envelope, record)
        fence = _fence(job, envelope, record)
        if record is not None and record.generation > envelope.generation:
            envelope, max_attempts, payload = envelope_now(record), record.max_attempts, record.payload_json
        retry = Retry.NONE if job_type is None else job_type.options.retry
        if envelope.retry is not None:
            retry = retry_from_json(envelope.retry, retry)
        return Delivery(
            id=job.id if record is None else record.id,
            job=job,
            job_type=job_type,
            envelope=envelope,
            record=record,
            tenant=envelope.tenant if record is None else record.tenant,
            fence=fence,
            attempt=attempts + 1,
            max_attempts=max_attempts,
            retry=retry,
            payload_json=payload,
            started=started,
            shown=False,
            trace=trace_of(job) if record is None else record.trace or trace_of(job),
        )

    def _acknowledge(self, job: Job, record: JobRecord) -> Acknowledged:
        job_id = one_line(self._redact.job_id(job.id))
        log.info(
            "job %s (%s) was delivered again and is %s: not run",
            job_id,
            one_line(job.name),
            record.status,
            extra=unrun_fields(job_id, job_type=job.name, queue=job.queue, tenant=record.tenant),
        )
        if record.status == "completed":
            return Acknowledged(Encoded(record.output_json or "null"))
        raise Decided(Permanent(f"the record says {record.status}"), None)

    async def _acknowledge_moved(self, job: Job, record: JobRecord) -> Acknowledged:
        """Let go of a job that has its record in another queue by now, and see to it that it is there."""
        job_id = one_line(self._redact.job_id(job.id))
        log.info(
            "job %s (%s) goes to queue %s by now: not run",
            job_id,
            one_line(job.name),
            record.queue,
            extra=unrun_fields(job_id, job_type=job.name, queue=job.queue, tenant=record.tenant),
        )
        if record.dispatched_at is None:
            await self._prompt.hand_over(again=[record])
        return Acknowledged(Encoded(record.output_json or "null"))

    def _refuse_forged(self, job: Job) -> NoReturn:
        job_id = one_line(self._redact.job_id(job.id))
        error = Permanent(f"no record is kept of job {job_id!r}: it was not accepted by this application")
        log.error("%s", error, extra=unrun_fields(job_id, job_type=job.name, queue=job.queue))
        self._alerts.raise_alert(Alert("forged_job", job.id, job.name, job.queue, None, str(error)))
        raise Decided(error, None)

    def _unknown(self, job: Job) -> UnknownJobType:
        return UnknownJobType(f"the job type {job.name!r:.80} has no handler on queue {job.queue!r} in this worker")


class _Taking(NamedTuple):
    """A delivery that asks for its record.

    goes_to: another queue, to which jobs of its type go. at: now, ms since the epoch.
    """

    id: str
    job: Job
    envelope: Envelope
    goes_to: str | None
    worker: str
    at: int


def _take_records(connection: Connection, items: Sequence[_Taking]) -> list[tuple[JobRecord | None, Granted]]:
    """The records of these jobs as they stand, each with what became of making it this delivery's; one that is not to
    run is only read.
    """
    records = get_records(connection, [item.id for item in items])
    return [_taken(connection, item, records.get(item.id)) for item in items]


def _taken(connection: Connection, item: _Taking, record: JobRecord | None) -> tuple[JobRecord | None, Granted]:
    job, envelope = item.job, item.envelope
    if record is None:
        return None, None
    if not _is_record_of(record, job):
        return record if _has_moved(record, job, envelope) else None, None
    if record.status in TERMINAL or record.cancel_requested_at is not None:
        return record, None
    if item.goes_to is not None:
        seen = Seen(record.id, record.generation, record.fence, item.goes_to)
        return raise_generation(connection, [seen], item.at)[0] or record, None
    if _rest_ms(item, record) > 0 or _has_expired(job, envelope, record, item.at):
        return record, None
    before = record
    if _is_held_by_another(record, item):
        record = raise_fence(connection, record)
    start = Start(
        id=item.id,
        fence=_fence(job, envelope, record),
        attempts=_attempts(job, envelope, record),
        worker=item.worker,
        started_at=item.at,
        at=item.at,
    )
    granted = apply_starts(connection, [start])[0]
    if granted is None and _is_lost(before, start.fence):
        record_lost(connection, _lost(before, item.at))
    return record, granted


def _is_lost(record: JobRecord, fence: int) -> bool:
    """True for a record that an earlier delivery left running."""
    return record.status == "running" and record.fence < fence


def _lost(record: JobRecord, at: int) -> Lost:
    failure = failure_of(WorkerLost(f"worker {record.worker} told no end of it: it died, or lost its lease"))
    return Lost(
        id=record.id,
        fence=record.fence,
        number=record.attempts + 1,
        worker=record.worker,
        started_at=ms_of(record.started_at),
        at=at,
        error=failure.json,
        error_fingerprint=failure.fingerprint,
    )


def _is_held_by_another(record: JobRecord, item: _Taking) -> bool:
    """True for a record that a delivery with the same fence has: the queue's server has forgotten its claim, in a
    failover perhaps.
    """
    if record.status != "running" or record.fence != _fence(item.job, item.envelope, record):
        return False
    # The same worker and moment is this taking itself, written before; its answer never came.
    return (record.worker, ms_of(record.started_at)) != (item.worker, item.at)


def _is_record_of(record: JobRecord, job: Job) -> bool:
    """False for a record whose id a foreign job has borrowed."""
    return (record.type, record.queue) == (job.name, job.queue)


def _has_moved(record: JobRecord, job: Job, envelope: Envelope) -> bool:
    """True for a job whose record is in another queue: it was sent there as a later generation, or both queues of a
    moved schedule had the same tick.
    """
    is_tick = job.scheduler_id is not None and run_of(job.stored_id) is not None
    is_later = record.generation > envelope.generation
    return record.type == job.name and record.queue != job.queue and (is_tick or is_later)


def _record_id(job: Job, envelope: Envelope | None) -> str:
    return job.id if envelope is not None else record_id_of(job)


def _fence(job: Job, envelope: Envelope, record: JobRecord | None) -> int:
    # A record of a later generation than the copy in the queue says that the copy was dispatched for it and found itself there already.
    generation = envelope.generation if record is None else max(envelope.generation, record.generation)
    return fence_of(generation, job.attempts_started)


def _attempts(job: Job, envelope: Envelope, record: JobRecord | None) -> int:
    """Attempts that have ended. A worker that died between the record and the queue has told the record alone."""
    told = envelope.attempts + job.attempts_made
    if record is None:
        return told
    return record.attempts if record.generation > envelope.generation else max(record.attempts, told)


def _rest_ms(item: _Taking, record: JobRecord) -> int:
    """How long the job is still to rest, ms: its worker died after it had recorded a pause, and the queue never heard
    of that.

    A job that somebody has promoted in the queue does not rest: there its attempt is counted, and no worker had died.
    """
    job, next_at = item.job, ms_of(record.next_attempt_at)
    if next_at is None or record.generation > item.envelope.generation:
        return 0
    unheard = record.attempts > item.envelope.attempts + job.attempts_made
    if (record.status == "retrying" and unheard) or (record.status == "waiting" and job.stalled_count > 0):
        return next_at - item.at
    return 0


def _has_expired(job: Job, envelope: Envelope, record: JobRecord | None, now: int) -> bool:
    """True for a job whose time to start has passed, and that has not begun in time."""
    if record is not None and record.generation > envelope.generation:
        envelope = envelope_now(record)
    elif job.attempts_started > 1:
        return False
    begun = record is not None and record.started_at is not None
    return not begun and envelope.expires_at is not None and now > envelope.expires_at


def envelope_of(job: Job) -> Envelope | None:
    """The envelope of a claimed job. None for one without, and for one whose options cannot be read.

    Taurine's own member stands last in the options that it writes, and few differ in it; so it is read by itself, once
    for all that have the same.
    """
    if job.corrupt:
        return None
    text = job.options_json
    _, mark, last = (text if isinstance(text, bytes) else text.encode()).rpartition(_MARK)
    envelope = _envelope_in(last[:-1]) if mark else None
    return envelope or Envelope.of(job.stored_options())


_MARK = f',"{APPLICATION_MEMBER}":'.encode()


@lru_cache(maxsize=1024)
def _envelope_in(member: bytes) -> Envelope | None:
    """None for bytes that are no whole member: the mark stood inside of another one."""
    try:
        return Envelope.of({APPLICATION_MEMBER: decode_json(member)})
    except ValueError:
        return None
