"""Writing the ends of attempts that did not complete their job: each with the attempt's own row, and with the dead
letter of a job that is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, func, select, update

from taurine.ledger.dead_letter_entry import DeadLetterReason, write_entry
from taurine.ledger.fences import Granted, standings_against
from taurine.ledger.rows import bound, insert_ignore, later
from taurine.ledger.schema import attempt, job, status_beside_id
from taurine.ledger.statuses import OPEN, TERMINAL, Status, allowed_from
from taurine.ledger.tallies import Kind, add_outcomes

__all__ = ["Ending", "apply_endings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Any other end of an attempt: the status that follows, and what is told of the attempt.

    output: a partial result, of a cancelled job. error: JSON text. next_at: when it is to start again, ms; None for
    when there is room.
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


_end = (
    update(job)
    .where(
        job.c.id == bindparam("id_value"),
        job.c.fence <= bindparam("fence_value"),
        status_beside_id.in_(bindparam("before", expanding=True)),
    )
    .values(
        status=bound(job.c.status),
        fence=bound(job.c.fence),
        attempts=bound(job.c.attempts),
        output=bound(job.c.output),
        error=func.coalesce(bound(job.c.error), job.c.error),
        error_fingerprint=func.coalesce(bound(job.c.error_fingerprint), job.c.error_fingerprint),
        worker=func.coalesce(bound(job.c.worker), job.c.worker),
        started_at=func.coalesce(bound(job.c.started_at), job.c.started_at),
        finished_at=bound(job.c.finished_at),
        next_attempt_at=bound(job.c.next_attempt_at),
        updated_at=later(job.c.updated_at, bound(job.c.updated_at)),
        progress=func.coalesce(bound(job.c.progress), job.c.progress),
        cancel_reason=func.coalesce(job.c.cancel_reason, bound(job.c.cancel_reason)),
    )
)


_end_unless_cancelled = _end.where(job.c.cancel_requested_at.is_(None))


def apply_endings(connection: Connection, items: Sequence[Ending]) -> list[Granted]:
    """Write ends of attempts that did not complete their job: the status, the attempt's row, and the dead letter if it
    is one.

    All three or none: who sees a job failed finds its dead letter. Granted as completions are; one that is refused
    writes nothing. An end after which the job would go on, though it was asked to stop, is written as `cancelled`, and
    that is returned.
    """
    # By their jobs: two transactions that write the same ones cannot wait for each other.
    in_order = sorted(enumerate(items), key=lambda pair: pair[1].id)
    cancelled: list[tuple[Kind, int]] = []
    answers: dict[int, Granted] = {number: _apply_ending(connection, item, cancelled) for number, item in in_order}
    if cancelled:
        # Behind all of the jobs: whoever holds the counts must wait for no job any more.
        add_outcomes(connection, [(kind, "cancelled") for kind, _ in cancelled], max(at for _, at in cancelled))
    return [answers[number] for number in range(len(items))]


def _apply_ending(connection: Connection, item: Ending, cancelled: list[tuple[Kind, int]]) -> Granted:
    """cancelled: what it ends as cancelled in its place is added there, with the time."""
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
            "next_attempt_at_value": item.next_at,
            "updated_at_value": item.at,
            "progress_value": item.progress,
            "cancel_reason_value": item.cancel_reason,
        },
    )
    if done.rowcount == 0:
        standing = _standing_against(connection, item)
        if not ended and standing in OPEN and _cancelled_instead(connection, item, cancelled):
            return "cancelled"
        return standing
    if item.status != "expired":
        _insert_attempt(connection, item)
    if item.dead_letter is not None:
        write_entry(connection, item.id, item.dead_letter, item.at)
    return None


def _cancelled_instead(connection: Connection, item: Ending, cancelled: list[tuple[Kind, int]]) -> bool:
    """Whether a job that was to go on is cancelled now: its worker was asked to stop it, and the attempt ended before
    it heard.
    """
    asked = select(job.c.queue, job.c.type).where(job.c.id == item.id, job.c.cancel_requested_at.is_not(None))
    row = connection.execute(asked).one_or_none()
    if row is None or _apply_ending(connection, replace(item, status="cancelled", next_at=None), cancelled) is not None:
        return False
    # Counted here, since whoever gets this answer cannot tell it from that of a job which had been cancelled before.
    cancelled.append(((row.queue, row.type), item.at))
    return True


def _standing_against(connection: Connection, item: Ending) -> Granted:
    row = standings_against(connection, [item.id]).get(item.id)
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
