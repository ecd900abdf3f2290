"""What became of attempts, as it is written to the record: fenced, and each with everything that must change with it.

A worker's write counts only while no later claim of the job has written: the row's fence is not above its own, and the job has not ended.
The fence is `generation << 32 | attempts started`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Subquery,
    Update,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    update,
)

from taurine.ids import sortable_id
from taurine.ledger.rows import OverRows, insert_ignore, later, upsert
from taurine.ledger.schema import attempt, dead_letter, job, status_beside_id
from taurine.ledger.statuses import OPEN, TERMINAL, Status, allowed_from

__all__ = [
    "Completion",
    "DeadLetterReason",
    "Ending",
    "Granted",
    "Start",
    "apply_completions",
    "apply_endings",
    "apply_starts",
    "fence_of",
]

DeadLetterReason: TypeAlias = Literal["exhausted", "permanent", "crashed", "unknown_type"]

Granted: TypeAlias = "Status | Literal['missing'] | None"
"""None when the write was granted; else the status of the record that refused it, `missing` for none at all."""


_ItemT = TypeVar("_ItemT", "Ending", "Start")


def fence_of(generation: int, attempts_started: int) -> int:
    """The number that orders all claims of a job: a later one's is higher, whatever Redis lost in between."""
    return generation << 32 | attempts_started


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A handler returned. output, progress: JSON text. at: now, ms."""

    id: str
    fence: int
    attempts: int
    output: str | None
    worker: str | None
    started_at: int
    at: int
    progress: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Any other end of an attempt: the status that follows, and what is told of the attempt.

    output: a partial result, of a cancelled job. error: JSON text. next_at: when it is to start again, ms; None for when there is room.
    charged: False for a snooze. dead_letter: why the job is given up, with status `failed` only.
    """

    id: str
    fence: int
    status: Status
    attempts: int
    at: int
    worker: str | None = None
    started_at: int | None = None
    output: str | None = None
    error: str | None = None
    error_fingerprint: str | None = None
    next_at: int | None = None
    progress: str | None = None
    cancel_reason: str | None = None
    charged: bool = True
    dead_letter: DeadLetterReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A handler has begun and is likely to run for a while."""

    id: str
    fence: int
    attempts: int
    worker: str | None
    started_at: int
    at: int


def _granted(id_: Any, fence: Any, status: Status) -> Any:
    # Literals, since a list that is bound cannot be in a statement that runs for many rows.
    before: list[Any] = [literal_column(repr(word)) for word in allowed_from(status)]
    return (job.c.id == id_) & (job.c.fence <= fence) & status_beside_id.in_(before)


def _bound(name: str) -> Any:
    return bindparam(f"{name}_value", type_=job.c[name].type)


# Completing: the hot one ------------------------------------------------------------------------------------------------------

_COMPLETION = ("id", "fence", "attempts", "output", "worker", "started_at", "finished_at", "progress")


def _completing(given: Subquery) -> Update:
    done = given.c
    return (
        update(job)
        .where(_granted(done.id, done.fence, "completed"))
        .values(
            {
                job.c.status: "completed",
                job.c.fence: done.fence,
                job.c.attempts: done.attempts,
                job.c.output: done.output,
                job.c.error: None,
                job.c.error_fingerprint: None,
                job.c.worker: done.worker,
                job.c.started_at: done.started_at,
                job.c.finished_at: done.finished_at,
                job.c.updated_at: later(job.c.updated_at, done.finished_at),
                job.c.progress: func.coalesce(done.progress, job.c.progress),
                job.c.state: None,
            }
        )
    )


_complete = OverRows(job, _COMPLETION, _completing)
_standings = select(job.c.id, job.c.status, job.c.fence, job.c.finished_at).where(
    job.c.id.in_(bindparam("ids", expanding=True))
)


def apply_completions(connection: Connection, items: Sequence[Completion]) -> list[Granted]:
    """Write that jobs completed. A job that had ended, or has a later claim, is left as it is; its status is returned."""
    rows = [
        (item.id, item.fence, item.attempts, item.output, item.worker, item.started_at, item.at, item.progress)
        for item in items
    ]
    granted = _complete.execute(connection, rows)
    if granted == len(items):
        return [None] * len(items)
    return _refusals(connection, items)


def _refusals(connection: Connection, items: Sequence[Completion]) -> list[Granted]:
    """Some were refused: the records tell which. One that holds just this completion was granted, now or when it was written before."""
    found = {row.id: row for row in connection.execute(_standings, {"ids": [item.id for item in items]})}
    refusals: list[Granted] = []
    for item in items:
        row = found.get(item.id)
        if row is None:
            refusals.append("missing")
        else:
            same = (row.status, row.fence, row.finished_at) == ("completed", item.fence, item.at)
            refusals.append(None if same else row.status)
    return refusals


# Every other end ----------------------------------------------------------------------------------------------------------------

_end = (
    update(job)
    .where(
        job.c.id == bindparam("id_value"),
        job.c.fence <= bindparam("fence_value"),
        status_beside_id.in_(bindparam("before", expanding=True)),
    )
    .values(
        status=_bound("status"),
        fence=_bound("fence"),
        attempts=_bound("attempts"),
        output=_bound("output"),
        error=func.coalesce(_bound("error"), job.c.error),
        error_fingerprint=func.coalesce(_bound("error_fingerprint"), job.c.error_fingerprint),
        worker=func.coalesce(_bound("worker"), job.c.worker),
        started_at=func.coalesce(_bound("started_at"), job.c.started_at),
        finished_at=_bound("finished_at"),
        scheduled_for=_bound("scheduled_for"),
        updated_at=later(job.c.updated_at, _bound("updated_at")),
        progress=func.coalesce(_bound("progress"), job.c.progress),
        cancel_reason=func.coalesce(job.c.cancel_reason, _bound("cancel_reason")),
    )
)


_end_unless_cancelled = _end.where(job.c.cancel_requested_at.is_(None))


def apply_endings(connection: Connection, items: Sequence[Ending]) -> list[Granted]:
    """Write ends of attempts that did not complete their job: the status, the attempt's row, and the dead letter if it is one.

    All three or none: who sees a job failed finds its dead letter. Granted as completions are; one that is refused writes nothing. An end after which the job would
    go on, though it was asked to stop, is written as `cancelled`, and that is returned.
    """
    answers: dict[int, Granted] = {number: _apply_ending(connection, item) for number, item in _in_order(items)}
    return [answers[number] for number in range(len(items))]


def _in_order(items: Sequence[_ItemT]) -> list[tuple[int, _ItemT]]:
    """The items with their numbers, by their jobs: two transactions that write the same ones cannot wait for each other."""
    return sorted(enumerate(items), key=lambda pair: pair[1].id)


def _apply_ending(connection: Connection, item: Ending) -> Granted:
    ended = item.status in TERMINAL
    done = connection.execute(
        _end if ended else _end_unless_cancelled,
        {
            "id_value": item.id,
            "fence_value": item.fence,
            "before": allowed_from(item.status),
            "status_value": item.status,
            "attempts_value": item.attempts,
            "output_value": item.output,
            "error_value": item.error,
            "error_fingerprint_value": item.error_fingerprint,
            "worker_value": item.worker,
            "started_at_value": item.started_at,
            "finished_at_value": item.at if ended else None,
            "scheduled_for_value": item.next_at,
            "updated_at_value": item.at,
            "progress_value": item.progress,
            "cancel_reason_value": item.cancel_reason,
        },
    )
    if done.rowcount == 0:
        standing = _standing_against(connection, item)
        if not ended and standing in OPEN and _cancelled_instead(connection, item):
            return "cancelled"
        return standing
    if item.status != "expired":
        _insert_attempt(connection, item)
    if item.dead_letter is not None:
        _insert_dead_letter(connection, item, item.dead_letter)
    return None


def _cancelled_instead(connection: Connection, item: Ending) -> bool:
    """Whether a job that was to go on is cancelled now: its worker was asked to stop it, and the attempt ended before it heard."""
    asked = select(job.c.id).where(job.c.id == item.id, job.c.cancel_requested_at.is_not(None))
    if connection.execute(asked).one_or_none() is None:
        return False
    return _apply_ending(connection, replace(item, status="cancelled", next_at=None)) is None


def _standing_against(connection: Connection, item: Ending) -> Granted:
    row = connection.execute(_standings, {"ids": [item.id]}).one_or_none()
    if row is None:
        return "missing"
    # The same end, written before; its answer never came. Somebody else may have ended the job under the same fence, at another time.
    same = (row.fence, row.status) == (item.fence, item.status) and row.finished_at in (None, item.at)
    return None if same else row.status


_OUTCOMES: dict[Status, str] = {
    "failed": "failed",
    "cancelled": "cancelled",
    "retrying": "retried",
    "queued": "snoozed",
    "waiting": "snoozed",
}


def _insert_attempt(connection: Connection, item: Ending) -> None:
    row = {
        "job_id": item.id,
        "fence": item.fence,
        "number": item.attempts,
        "outcome": _OUTCOMES[item.status] if item.charged or item.status in TERMINAL else "snoozed",
        "worker": item.worker,
        "started_at": item.started_at,
        "finished_at": item.at,
        "error": item.error,
        "error_fingerprint": item.error_fingerprint,
        "next_at": item.next_at,
    }
    connection.execute(insert_ignore(connection, attempt), row)


def _insert_dead_letter(connection: Connection, item: Ending, reason: DeadLetterReason) -> None:
    source = select(
        literal(sortable_id(item.at / 1000)),
        job.c.id,
        job.c.generation,
        job.c.type,
        job.c.queue,
        job.c.tenant,
        job.c.payload,
        job.c.error,
        job.c.error_fingerprint,
        literal(reason),
        job.c.attempts,
        literal(item.at, BigInteger()),
    ).where(job.c.id == item.id)
    columns = [
        *("id", "job_id", "generation", "type", "queue", "tenant", "payload", "error", "error_fingerprint", "reason"),
        *("attempts", "failed_at"),
    ]
    entry = upsert(connection, dead_letter).from_select(columns, source)
    # The entry of an earlier life of the id may still be kept though that record was purged: this one is the one to look at.
    fresh = {name: entry.excluded[name] for name in columns} | dict.fromkeys(_RESOLUTION) | {"status": "open"}
    connection.execute(entry.on_conflict_do_update(index_elements=["job_id", "generation"], set_=fresh))


_RESOLUTION = ("resolved_at", "resolved_by", "redriven_as", "mirrored_at")


# Beginning ----------------------------------------------------------------------------------------------------------------------

_start = (
    update(job)
    .where(_granted(bindparam("id_value"), _bound("fence"), "running"))
    .values(
        status="running",
        fence=_bound("fence"),
        attempts=_bound("attempts"),
        worker=_bound("worker"),
        started_at=_bound("started_at"),
        updated_at=later(job.c.updated_at, _bound("updated_at")),
    )
)


def apply_starts(connection: Connection, items: Sequence[Start]) -> list[Granted]:
    """Write that handlers run. Granted as completions are."""
    standings: dict[int, Granted] = {}
    for number, item in _in_order(items):
        done = connection.execute(
            _start,
            {
                "id_value": item.id,
                "fence_value": item.fence,
                "attempts_value": item.attempts,
                "worker_value": item.worker,
                "started_at_value": item.started_at,
                "updated_at_value": item.at,
            },
        )
        standings[number] = None if done.rowcount else _status_of(connection, item.id)
    return [standings[number] for number in range(len(items))]


def _status_of(connection: Connection, job_id: str) -> Granted:
    row = connection.execute(_standings, {"ids": [job_id]}).one_or_none()
    return "missing" if row is None else row.status
