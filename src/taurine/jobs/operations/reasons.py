"""From what is known of a job to the reasons why it is not running; pure, so that each reason can be looked at by
itself.

| code | the job |
|---|---|
| not_found | has no record |
| finished | has ended |
| running, cancelling | runs now; or is to stop, and has not yet |
| stalled | was claimed by a worker that does not renew its lease: it is gone, or blocked |
| outbox | was accepted, and the queue has not been told |
| delayed, retrying, snoozed | is not due yet |
| children | waits for jobs that it depends on |
| expired | was to start by a time that has passed |
| paused, no_worker, concurrency, rate_limit | could start, and something holds its whole queue |
| slots_taken | could start, and the workers of its queue have no slot left |
| in_line | is in line behind others |
| unknown_type | is of a type not declared in this process, and perhaps in none; or was handed back for that |
| lost | is no longer in the queue, though its record says so |
| settling | has ended for the queue, and its record has yet to hear |
| store_unavailable, ledger_unavailable | cannot be seen: one of the two servers does not answer |

A job may have several: the first is what it waits for now, the others will hold it, or are not known, after that.

A tenant is told the same codes, and nothing that it could learn of others by: no figures of a queue, which they share,
and no names of workers, servers or other jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from taurine.jobs.operations.slots import at_work, late_loops_of, slots_of
from taurine.jobs.operations.workers import LATE_AFTER, WorkerView
from taurine.jobs.reporting.durations import seconds_text, short_text
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.outbox import OutboxLag
from taurine.ledger.records import JobRecord
from taurine.ledger.running import Run
from taurine.ledger.statuses import TERMINAL
from taurine.queue import Job
from taurine.queue.children import DependencyCounts
from taurine.queue.reading import WorkerInfo
from taurine.queue.whereabouts import Whereabouts

__all__ = ["Facts", "Reason", "WhyCode", "explain"]

WhyCode: TypeAlias = Literal[
    "not_found",
    "finished",
    "running",
    "cancelling",
    "stalled",
    "outbox",
    "delayed",
    "retrying",
    "snoozed",
    "children",
    "expired",
    "paused",
    "no_worker",
    "concurrency",
    "rate_limit",
    "slots_taken",
    "in_line",
    "unknown_type",
    "lost",
    "settling",
    "store_unavailable",
    "ledger_unavailable",
]

_LATE_OUTBOX_MS = 10_000
"""A record that waits so long for a queue that answers has no outbox that looks after it."""

_HEARD_WITHIN = 1.0
"""Seconds in which a worker hears of a cancellation."""

_HANDED_BACK_LATER, _HANDED_BACK_FOR = 1.0, 10.0
"""A job that a worker leaves to others is put off by 5 seconds: so it is to start later than its record says, by the
first at least, and from now in less than the second.
"""

HANDED_BACK_PAUSE = 5.0
"""Seconds until the next worker sees a job that one has handed back."""

GIVEN_UP_AFTER, GIVEN_UP_TIMES = 600.0, 12
"""A job is handed back until it has been due for so many seconds, and so many times at least; the next worker that does
not declare its type gives it up.
"""

_YOUNG = 10.0
"""Seconds for which the only job that runs may have begun after the last end, without being a sign that none ends."""

_RUNS_NAMED = 3
"""Of the jobs that hold slots, so many are named: those that run for longest."""

_LONGEST_QUOTE = 200

_TAKEN = "a worker of the queue takes it"

_NO_ANSWER = "the server does not answer"
"""In the place of an error, which may name a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason.

    text: goes on from "the job". next_event: what will change it, and `at`: when that is expected; None where nobody
    can tell.
    """

    code: WhyCode
    text: str
    next_event: str | None = None
    at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found out about a job at `now`, wall seconds. None stands for what was not asked, or not answered."""

    job_id: str
    now: float
    tenant: str | None
    """Whose job it must be; None for anybody's."""
    whole: bool
    """Whether everything is told, as to operators."""
    lease: float
    """Seconds for which this application's workers claim jobs."""
    queue: str | None = None
    record: JobRecord | None = None
    ledger_error: str | None = None
    place: Whereabouts | None = None
    store_error: str | None = None
    workers: Sequence[WorkerInfo] | None = None
    lag: OutboxLag | None = None
    reports: Sequence[WorkerView] = ()
    """What workers told of themselves last, those that were heard of last first."""
    runs: Sequence[Run] = ()
    """Other jobs of its queue whose records say that they run: those that run for longest, the first of them first."""
    last_end: float | None = None
    """When the last job of its queue ended that is still kept, wall seconds."""
    children: DependencyCounts | None = None
    dead_letter: DeadLetter | None = None
    declared: bool | None = None
    """True when the job's type is declared in this process; None when none is."""


def explain(facts: Facts) -> list[Reason]:
    """The reasons, the one that holds now first; at least one."""
    record = facts.record
    if record is None and (facts.ledger_error is None or facts.place is None or facts.place.job is None):
        return list(_nothing_known(facts))
    if record is not None and record.status in TERMINAL:
        return [_finished(facts, record)]
    reasons = [*_of_record(facts), *_of_place(facts)]
    if facts.ledger_error is not None:
        reasons.append(_ledger_unavailable(facts, facts.ledger_error))
    return reasons


def _nothing_known(facts: Facts) -> Iterator[Reason]:
    if facts.ledger_error is None:
        yield Reason(code="not_found", text="has no record: it was never accepted, or its record is no longer kept")
        return
    yield _ledger_unavailable(facts, facts.ledger_error)
    if facts.store_error is not None:
        yield _store_unavailable(facts, facts.store_error)


# What the record alone tells ------------------------------------------------------------------------------------------------------


def _finished(facts: Facts, record: JobRecord) -> Reason:
    details: dict[str, Any] = {"status": record.status, "attempts": record.attempts}
    ended = _when(record.finished_at, facts.now)
    if record.status == "completed":
        took = "" if record.started_at is None or record.finished_at is None else _took(record)
        return Reason(code="finished", text=f"completed {ended}{took}", details=details)
    if record.status == "failed":
        text = (
            f"failed for good {ended}, after {record.attempts} of {record.max_attempts} attempts: {_error_of(record)}"
        )
        if facts.dead_letter is not None:
            details["dead_letter"] = facts.dead_letter.id
            details["dead_letter_reason"] = facts.dead_letter.reason
            text += f"; its dead letter is {facts.dead_letter.id}"
        return Reason(code="finished", text=text, next_event="somebody redrives or retries it", details=details)
    if record.status == "cancelled":
        text = f"was cancelled {ended}: {record.cancel_reason or 'no reason was given'}"
        return Reason(code="finished", text=text, details=details)
    return Reason(code="finished", text=f"expired {ended}: it had not started in time", details=details)


def _took(record: JobRecord) -> str:
    assert record.started_at is not None and record.finished_at is not None  # noqa: PT018 - the caller has looked
    return f", after {short_text((record.finished_at - record.started_at).total_seconds())}"


def _of_record(facts: Facts) -> Iterator[Reason]:
    record = facts.record
    if record is None:
        return
    if record.cancel_requested_at is not None:
        yield Reason(
            code="cancelling",
            text=f"was cancelled {_when(record.cancel_requested_at, facts.now)}, and has not stopped yet",
            next_event="its worker hears of it and stops the handler",
            at=_time(record.cancel_requested_at.timestamp() + _HEARD_WITHIN),
            details=_for_operators(facts, worker=record.worker) | {"reason": record.cancel_reason},
        )
    if record.status == "queued" and record.expires_at is not None and record.expires_at.timestamp() <= facts.now:
        yield Reason(
            code="expired",
            text=f"was to start by {_when(record.expires_at, facts.now)} and has not",
            next_event="it expires as soon as a worker or the reconciler meets it",
            details={"expires_at": record.expires_at.isoformat()},
        )


# What the queue tells -------------------------------------------------------------------------------------------------------------


def _of_place(facts: Facts) -> Iterator[Reason]:
    place, record = facts.place, facts.record
    if place is None:
        yield from _unseen(facts)
    elif place.job is None:
        yield _outbox(facts) if record is not None and record.dispatched_at is None else _lost(facts, stored=False)
        yield from _held_queue(facts, place)
    elif place.state == "active":
        yield _running(facts, place.lease_left) if place.lease_left is not None else _stalled(facts)
        return
    elif place.state == "delayed" and _is_handed_back(facts):
        yield _handed_back(facts, place.due_at)
        yield from _held_queue(facts, place)
        return
    elif place.state == "delayed":
        # What is due waits for what holds its queue.
        reasons = [_not_due(facts, place.due_at), *_held_queue(facts, place)]
        yield from reasons if not _is_past(place.due_at, facts) else [*reasons[1:], reasons[0]]
    elif place.state == "waiting-children":
        yield _children(facts)
        yield from _held_queue(facts, place)
    elif place.state in ("waiting", "prioritized"):
        held = list(_held_queue(facts, place))
        yield from held
        yield from _behind_others(facts, place, held=any(reason.code != "concurrency" for reason in held))
    elif place.state in ("completed", "failed"):
        yield _settling(facts, place.state)
        return
    else:
        yield _lost(facts, stored=True)
    if facts.declared is False:
        yield _unknown_type(facts)


def _unseen(facts: Facts) -> Iterator[Reason]:
    """The server of queues does not answer: what the record tells is all there is."""
    record, error = facts.record, facts.store_error or "it was not asked"
    if record is not None and record.status == "running":
        yield _running(facts, None)
    elif record is not None and record.dispatched_at is None:
        yield _outbox(facts)
    elif record is not None and record.due_at is not None and record.due_at.timestamp() > facts.now:
        yield _not_due(facts, record.due_at.timestamp())
    yield _store_unavailable(facts, error)


def _running(facts: Facts, lease_left: float | None) -> Reason:
    record = facts.record
    job = None if facts.place is None else facts.place.job
    worker = _claimed_by(facts)
    since = record.started_at if record is not None and record.status == "running" else None
    if since is None and job is not None:
        since = _time(job.processed_at)
    details = _for_operators(facts, worker=worker) | {"since": None if since is None else since.isoformat()}
    if record is not None:
        details |= {"attempt": record.attempts + 1, "max_attempts": record.max_attempts, "progress": record.progress}
    place = f" on {worker or 'a worker without a name'}" if facts.whole else ""
    text = f"runs{place} since {_when(since, facts.now)}"
    if lease_left is not None:
        details["lease_left"] = lease_left
        if lease_left <= facts.lease:
            details["renewed_at"] = _iso(facts.now - (facts.lease - lease_left))
            text += f"; its worker was last heard of {seconds_text(facts.lease - lease_left)} ago"
    return Reason(code="running", text=text, next_event="its handler ends", details=details)


def _stalled(facts: Facts) -> Reason:
    name = _claimed_by(facts)
    view = next((view for view in facts.reports if view.name == name), None)
    details = _for_operators(facts, workers=None if facts.workers is None else len(facts.workers), worker=name)
    text, is_gone = "has a lease that has run out: ", False
    if not facts.whole or name is None:
        text += "its worker"
    else:
        text += f"its worker {name}"
        is_gone = view is not None and view.stopped_at is not None
        is_gone |= facts.workers is not None and all(worker.name != name for worker in facts.workers)
    text += f" has not renewed it for {seconds_text(facts.lease)} or more"
    if facts.whole and view is not None:
        details |= {"seen_at": view.seen_at.isoformat(), "late_loops": late_loops_of(view)}
        text += f", and last told of itself {_distance(view.seen_at.timestamp(), facts.now)}"
    text += "; it is gone" if is_gone else "; it is gone, or its event loop is blocked"
    return Reason(
        code="stalled",
        text=text,
        next_event="a worker of the queue puts it back at its next look for such jobs, every 30 s by default",
        details=details,
    )


def _claimed_by(facts: Facts) -> str | None:
    record = facts.record
    job = None if facts.place is None else facts.place.job
    worker = record.worker if record is not None and record.status == "running" else None
    return worker or (None if job is None else job.processed_by)


def _outbox(facts: Facts) -> Reason:
    record, lag = facts.record, facts.lag
    assert record is not None
    details = _for_operators(
        facts, lag=None if lag is None else lag.lag_ms / 1000, waiting=None if lag is None else lag.waiting
    )
    text = f"is recorded, and queue {facts.queue!r} has not been told of it yet"
    if facts.store_error is not None:
        text += ": the server of queues does not answer"
        return Reason(
            code="outbox", text=text, next_event="the outbox hands it over when the server is back", details=details
        )
    if facts.declared is False:
        text += ", and this process does not know its type"
    if lag is not None and lag.lag_ms > _LATE_OUTBOX_MS:
        if facts.whole:
            first = "it" if lag.waiting == 1 else f"the first of {lag.waiting:,} such jobs"
            text += f"; {first} waits for {seconds_text(lag.lag_ms / 1000)}, so no outbox seems to run: start a worker"
        return Reason(code="outbox", text=text, next_event="an outbox starts", details=details)
    return Reason(
        code="outbox", text=text, next_event="the outbox hands it over", at=_time(facts.now + 1), details=details
    )


def _not_due(facts: Facts, due_at: float | None) -> Reason:
    record, due, past = facts.record, _time(due_at), _is_past(due_at, facts)
    when = _when(due, facts.now) + (", and is not handed out yet" if past else "")
    at = None if past else due
    attempts = record.attempts if record is not None else _attempts_made(facts)
    status = record.status if record is not None else ("retrying" if attempts else "queued")
    if status == "retrying":
        details: dict[str, Any] = {"attempt": attempts + 1}
        of = ""
        if record is not None:
            details |= {"max_attempts": record.max_attempts, "error": record.error}
            of = f" of {record.max_attempts}"
        attempt = f"attempt {attempts + 1}{of}"
        text = f"was due for {attempt} at {when}" if past else f"waits for {attempt} until {when}"
        if record is not None:
            text += f"; the last one failed: {_error_of(record)}"
        return Reason(
            code="retrying", text=text, next_event=_TAKEN if past else "its next attempt", at=at, details=details
        )
    if status == "waiting":
        text = f"was to sleep until {when}" if past else f"has put itself to sleep until {when}"
        return Reason(code="snoozed", text=text, next_event=_TAKEN if past else "it runs again", at=at)
    text = f"was due at {when}" if past else f"is not to start before {when}"
    return Reason(code="delayed", text=text, next_event=_TAKEN if past else "it is due", at=at)


def _is_past(due_at: float | None, facts: Facts) -> bool:
    return due_at is not None and due_at <= facts.now


def _is_handed_back(facts: Facts) -> bool:
    """Whether a worker has put a delayed job off that was due, since it has no handler for its type.

    Nothing is recorded of that. But the job was claimed, has not begun, and is to start later than its record knows.
    """
    record, place = facts.record, facts.place
    if record is None or place is None or place.job is None or place.due_at is None:
        return False
    if record.status not in ("queued", "retrying", "waiting") or not place.job.attempts_started:
        return False
    if record.generation and place.job.attempts_started == 1:
        return False  # it may merely rest between two queues
    if place.due_at > facts.now + _HANDED_BACK_FOR:
        return False
    return record.due_at is None or place.due_at >= record.due_at.timestamp() + _HANDED_BACK_LATER


def _attempts_made(facts: Facts) -> int:
    return 0 if facts.place is None or facts.place.job is None else facts.place.job.attempts_made


def _children(facts: Facts) -> Reason:
    counts = facts.children
    if counts is None:
        return Reason(code="children", text="waits for its children", next_event="its last child ends")
    return Reason(
        code="children",
        text=f"waits for {counts.unprocessed} of its children; {counts.processed} have completed",
        next_event="its last child ends",
        details={"unprocessed": counts.unprocessed, "processed": counts.processed, "failed": counts.failed},
    )


def _settling(facts: Facts, state: str) -> Reason:
    return Reason(
        code="settling",
        text=f"has {state} as the queue knows it, and its record has yet to hear of it",
        next_event="the reconciler settles the record",
    )


def _lost(facts: Facts, *, stored: bool) -> Reason:
    where = "stands in no line of" if stored else "is no longer in"
    return Reason(
        code="lost",
        text=f"{where} queue {facts.queue!r}: the server has lost it, or somebody removed it there",
        next_event="the reconciler puts it back",
    )


def _unknown_type(facts: Facts) -> Reason:
    name = None if facts.record is None else facts.record.type
    return Reason(
        code="unknown_type",
        text=f"is of type {name!r}, which is not declared in this process; whether a worker declares it cannot be seen from here",
        next_event="a worker that does not declare it hands it back for ten minutes, and then gives it up as a dead letter",
        details={"type": name},
    )


def _handed_back(facts: Facts, due_at: float | None) -> Reason:
    assert facts.record is not None
    assert facts.place is not None
    assert facts.place.job is not None
    name, times = facts.record.type, facts.place.job.attempts_started
    here = "; nor is it declared in this process" if facts.declared is False else ""
    text = f"is of type {name!r}, and was handed back by a worker that has no handler for it{here}"
    if not _is_past(due_at, facts):
        text += f"; the next worker may take it {_distance(due_at, facts.now)}"
    given_up = _given_up_at(facts.record, facts.place.job, facts.now if due_at is None else max(due_at, facts.now))
    text += f"; where none declares it, it becomes a dead letter about {_when(given_up, facts.now)}"
    return Reason(
        code="unknown_type",
        text=text,
        next_event="a worker that declares the type starts; if none does, it becomes a dead letter",
        at=given_up,
        details={"type": name, "handed_back": times, "dead_letter_at": given_up.isoformat()},
    )


def _given_up_at(record: JobRecord, job: Job, next_at: float) -> datetime:
    """next_at: when the next worker sees it, wall seconds."""
    due_at = max(job.created_at, 0.0 if record.scheduled_for is None else record.scheduled_for.timestamp())
    pauses = max(0, GIVEN_UP_TIMES - job.attempts_started)
    return datetime.fromtimestamp(max(due_at + GIVEN_UP_AFTER, next_at + pauses * HANDED_BACK_PAUSE), UTC)


# What holds a whole queue ---------------------------------------------------------------------------------------------------------


def _held_queue(facts: Facts, place: Whereabouts) -> Iterator[Reason]:
    queue = facts.queue
    if place.paused:
        yield Reason(
            code="paused", text=f"cannot start: queue {queue!r} is paused", next_event="somebody resumes the queue"
        )
    if facts.workers is not None and not facts.workers:
        yield Reason(
            code="no_worker",
            text=f"cannot start: no worker of queue {queue!r} is connected",
            next_event="a worker of the queue starts",
        )
    if place.maxed:
        yield Reason(
            code="concurrency",
            text=f"cannot start: as many jobs of queue {queue!r} run as may"
            if not facts.whole
            else f"cannot start: {_jobs(place.active)} of queue {queue!r} {'runs' if place.active == 1 else 'run'}, "
            f"and no more than {place.concurrency} may",
            next_event="one of the running jobs ends",
            details=_for_operators(facts, active=place.active, concurrency=place.concurrency),
        )
    if place.limited_for:
        until = _time(facts.now + place.limited_for)
        yield Reason(
            code="rate_limit",
            text=f"cannot start: queue {queue!r} has reached its rate limit, until {_when(until, facts.now)}",
            next_event="the rate limit lets jobs start again",
            at=until,
        )


def _behind_others(facts: Facts, place: Whereabouts, *, held: bool) -> Iterator[Reason]:
    """That its queue's slots are taken, if they are, and its place in line; the one first that it is for.

    held: something else holds the job, so that it is not known when it starts.
    """
    working = at_work(facts.reports, facts.queue or "", facts.workers)
    names = {view.name for view in working or ()}
    # The record of a job whose worker is gone says for a while that it runs.
    runs = [run for run in facts.runs if run.worker in names] if names else facts.runs
    first_run = _first_of_stuck(facts, place, runs)
    taken = _slots_taken(facts, place, working or (), runs, are_stuck=first_run is not None)
    line = _in_line(facts, place, held=held, first_run=first_run, tells_of_run=taken is None)
    if taken is None:
        yield line
    elif first_run is None and place.rate and not held:
        yield from (line, taken)
    else:
        yield from (taken, line)


def _first_of_stuck(facts: Facts, place: Whereabouts, runs: Sequence[Run]) -> Run | None:
    """The first of the running jobs to begin, where nothing that is kept has ended since: the rate is that of other
    jobs, and says nothing of these.
    """
    if not runs or not place.active:
        return None
    first = runs[0]
    began = first.started_at / 1000
    if facts.last_end is not None and facts.last_end >= began:
        return None
    # One that runs alone has always begun after the last end.
    patience = max(_YOUNG, 1 / place.rate if place.rate else 0.0) if place.active == 1 else 0.0
    return first if facts.now - began >= patience else None


def _slots_taken(
    facts: Facts, place: Whereabouts, working: Sequence[WorkerView], runs: Sequence[Run], *, are_stuck: bool
) -> Reason | None:
    """are_stuck: no running job has ended since the first of them began."""
    slots = slots_of(working)
    if not slots or place.active < slots:
        return None
    next_event = "one of the running jobs ends, or is cancelled"
    if not facts.whole:
        text = f"cannot start: the workers of queue {facts.queue!r} run as many jobs as they can"
        return Reason(code="slots_taken", text=text, next_event=next_event)
    of = "its only worker" if len(working) == 1 else f"its {len(working)} workers"
    number = "the only slot" if slots == 1 else f"all {slots:,} slots"
    text = f"cannot start: {number} of queue {facts.queue!r} at {of} {'is' if slots == 1 else 'are'} taken"
    longest = runs[:_RUNS_NAMED]
    if longest:
        named = ", ".join(f"{run.id} since {_when(_time(run.started_at / 1000), facts.now)}" for run in longest)
        text += f"; longest by {named}"
    if are_stuck:
        text += "; cancel those that hang, give their types a `timeout=`, or raise the concurrency"
    details = {
        "slots": slots,
        "active": place.active,
        "workers": [view.name for view in working],
        "longest": [{"id": run.id, "worker": run.worker, "since": _iso(run.started_at / 1000)} for run in longest],
    }
    return Reason(code="slots_taken", text=text, next_event=next_event, details=details)


def _in_line(facts: Facts, place: Whereabouts, *, held: bool, first_run: Run | None, tells_of_run: bool) -> Reason:
    """held: something else holds the job, so that it is not known when it starts. first_run: see `_first_of_stuck`.

    tells_of_run: whether to name it.
    """
    if not facts.whole:
        text = "is next in line" if place.ahead == 0 else "is in line behind others"
        return Reason(code="in_line", text=text, next_event="a worker takes it")
    details: dict[str, Any] = {
        "ahead": place.ahead,
        "waiting": place.waiting,
        "rate": place.rate,
        "active": place.active,
    }
    if facts.workers is not None:
        details["workers"] = [worker.name for worker in facts.workers]
    if place.ahead is None:
        text = "is in line, further back than is counted"
    else:
        text = "is next in line" if place.ahead == 0 else f"is in line behind {_others(place.ahead)}"
    at = None
    if place.ahead is not None and place.rate and not held and first_run is None:
        at = _time(facts.now + (place.ahead + 1) / place.rate)
        text += f"; {_rate(place.rate)} here, so it starts about {_when(at, facts.now)}"
    if first_run is not None and tells_of_run:
        text += f"; nothing that is kept has ended here since {first_run.id} began, {_when(_time(first_run.started_at / 1000), facts.now)}"
    if (silent_for := _silent_for(facts)) is not None:
        details["silent_for"] = silent_for
        text += f"; none of its workers has told of itself for {seconds_text(silent_for)}: a blocked event loop, or a database out of reach"
    if place.window_left:
        details["window_left"] = place.window_left
        text += f"; should a worker's own rate limit be reached, that ends in {seconds_text(place.window_left)}"
    return Reason(code="in_line", text=text, next_event="a worker takes it", at=at, details=details)


def _silent_for(facts: Facts) -> float | None:
    """Seconds since a worker of the queue was heard of, where all that are connected are late to tell of themselves."""
    connected = {worker.name for worker in facts.workers or ()}
    heard = [view for view in facts.reports if view.name in connected and facts.queue in view.queues]
    if not heard or connected != {view.name for view in heard}:
        return None
    silent_for = facts.now - max(view.seen_at for view in heard).timestamp()
    return silent_for if silent_for > LATE_AFTER else None


# What cannot be seen --------------------------------------------------------------------------------------------------------------


def _store_unavailable(facts: Facts, error: str) -> Reason:
    return Reason(
        code="store_unavailable",
        text=f"cannot be looked for in its queue: {error if facts.whole else _NO_ANSWER}",
        next_event="the server of queues answers again",
    )


def _ledger_unavailable(facts: Facts, error: str) -> Reason:
    return Reason(
        code="ledger_unavailable",
        text=f"has a record that cannot be read: {error if facts.whole else _NO_ANSWER}",
        next_event="the database answers again",
    )


# Words ----------------------------------------------------------------------------------------------------------------------------


def _for_operators(facts: Facts, **details: Any) -> dict[str, Any]:
    """Details that no tenant is told."""
    return details if facts.whole else {}


def _error_of(record: JobRecord) -> str:
    error = record.error or {}
    words = f"{error.get('type', 'unknown')}: {error.get('message', '')}"
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"


def _when(time: datetime | None, now: float) -> str:
    if time is None:
        return "an unknown time"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({_distance(time.timestamp(), now)})"


def _distance(time: float | None, now: float) -> str:
    if time is None:
        return "at an unknown time"
    return f"in {seconds_text(time - now)}" if time >= now else f"{seconds_text(now - time)} ago"


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number:,} jobs"


def _others(number: int) -> str:
    return "1 other" if number == 1 else f"{number:,} others"


def _rate(a_second: float) -> str:
    """In the larger unit where a figure in the smaller one says nothing."""
    if a_second >= 1:
        return f"{a_second:,.1f} jobs a second end"
    return f"{a_second * 60:,.1f} jobs a minute end"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
