"""Operations that must happen once: the intent is written before, the result after.

    nothing ──begin──► intent ──finish──► done
       ▲                 │  ▲               ▲
       └─────forget──────┘  │               │
                 retake: it did not happen  │
                 resolve: it did ───────────┘

An intent whose attempt is over says that nobody knows whether the operation happened. It is never begun again by
itself: someone looks it up, and says.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, delete, select, update

from taurine.ledger.rows import insert_ignore
from taurine.ledger.schema import effect, job, status_beside_id
from taurine.ledger.statuses import OPEN, TERMINAL

__all__ = [
    "EffectClaim",
    "EffectState",
    "EffectStatus",
    "begin_effect",
    "finish_effect",
    "forget_effect",
    "resolve_effect",
    "retake_effect",
]

EffectStatus: TypeAlias = Literal["begun", "done", "unknown", "in_progress", "superseded"]
"""begun: it is the caller's to do now. done: `result` is its result. unknown: an earlier attempt meant to do it and is
over. in_progress: another attempt or job
is at it. superseded: a later attempt of the caller's own job has begun, or the job has ended; the caller must stop."""


class EffectClaim(NamedTuple):
    """An operation and the attempt that wants it. scope: the tenant, or '' for none. key: unique within it."""

    scope: str
    key: str
    job_id: str
    fence: int


class EffectState(NamedTuple):
    """Where an operation stands. result: JSON text. job_id, fence: of the attempt that holds it."""

    status: EffectStatus
    result: str | None
    job_id: str
    fence: int


def begin_effect(connection: Connection, claim: EffectClaim, at: int) -> EffectState:
    """Write the intent to do an operation, unless it was written before; says what the caller is to do.

    at: now, ms since the epoch.

    Of all that begin one operation at once, in whatever processes, exactly one is told `begun`. The transaction must be
    committed before the operation starts. A caller who never learned the answer, as the database was unavailable, finds
    the operation `in_progress`, and its next attempt finds it `unknown`.
    """
    if not _hold_job(connection, claim):
        return EffectState("superseded", None, claim.job_id, claim.fence)
    intent = {**claim._asdict(), "status": "intent", "created_at": at}
    if connection.execute(insert_ignore(connection, effect), intent).rowcount:
        return EffectState("begun", None, claim.job_id, claim.fence)
    row = connection.execute(select(effect).where(_is(claim)).with_for_update()).one_or_none()
    if row is None:
        # Its attempt has just failed cleanly and forgotten it.
        return begin_effect(connection, claim, at)
    return EffectState(_status_for(connection, row, claim), row.result, row.job_id, row.fence)


def _hold_job(connection: Connection, claim: EffectClaim) -> bool:
    """Keep earlier attempts of the job from writing; False when this is one. A job without a record has nobody to ask."""
    mine = (job.c.id == claim.job_id) & (job.c.fence <= claim.fence) & status_beside_id.in_(OPEN)
    if connection.execute(update(job).where(mine).values(fence=claim.fence)).rowcount:
        return True
    return connection.execute(select(job.c.id).where(job.c.id == claim.job_id)).one_or_none() is None


def _status_for(connection: Connection, row: Any, claim: EffectClaim) -> EffectStatus:
    if row.status == "done":
        return "done"
    if row.job_id == claim.job_id:
        return "unknown" if row.fence < claim.fence else "in_progress"
    holder = connection.execute(select(job.c.status).where(job.c.id == row.job_id)).scalar_one_or_none()
    # An open job that holds it comes back to it in its own next attempt.
    return "unknown" if holder is None or holder in TERMINAL else "in_progress"


def finish_effect(connection: Connection, claim: EffectClaim, at: int, result: str | None) -> bool:
    """Write the result of an operation that this attempt began, JSON text.

    False when it is not this attempt's any more. Safe to repeat.
    """
    done = update(effect).where(_is(claim), _is_of(claim)).values(status="done", result=result, finished_at=at)
    return bool(connection.execute(done).rowcount)


def forget_effect(connection: Connection, claim: EffectClaim) -> bool:
    """Take back the intent of this attempt, since the operation certainly did not happen; whoever comes next begins it.

    False when there was none of it.
    """
    intent = effect.c.status == "intent"
    return bool(connection.execute(delete(effect).where(_is(claim), _is_of(claim), intent)).rowcount)


def resolve_effect(connection: Connection, claim: EffectClaim, seen: EffectState, at: int, result: str | None) -> bool:
    """Write that an operation of which nobody knew did happen, with its result as it was looked up, JSON text.

    seen: the answer of `begin_effect` that said `unknown`. False when another was first to resolve or to retake it.
    """
    done = update(effect).where(_is(claim), _unchanged(seen)).values(status="done", result=result, finished_at=at)
    return bool(connection.execute(done).rowcount)


def retake_effect(connection: Connection, claim: EffectClaim, seen: EffectState, at: int) -> EffectState:
    """Begin an operation of which nobody knew, as a look-up said that it did not happen.

    Says what the caller is to do, as `begin_effect` does.

    seen: the answer of `begin_effect` that said `unknown`. Of all that retake one operation at once exactly one is told
    `begun`.
    """
    if not _hold_job(connection, claim):
        return EffectState("superseded", None, claim.job_id, claim.fence)
    mine = {"job_id": claim.job_id, "fence": claim.fence, "created_at": at}
    if connection.execute(update(effect).where(_is(claim), _unchanged(seen)).values(mine)).rowcount:
        return EffectState("begun", None, claim.job_id, claim.fence)
    return begin_effect(connection, claim, at)


def _is(claim: EffectClaim) -> Any:
    return (effect.c.scope == claim.scope) & (effect.c.key == claim.key)


def _is_of(holder: EffectClaim | EffectState) -> Any:
    return (effect.c.job_id == holder.job_id) & (effect.c.fence == holder.fence)


def _unchanged(seen: EffectState) -> Any:
    return _is_of(seen) & (effect.c.status == "intent")
