"""New generations of a job: running one again that has ended, and putting one back that the queue lost.

A generation's fence is above all fences of those before it, so nothing that an earlier one still writes is granted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    update,
)

from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.records import JobRecord, record_of
from taurine.ledger.rows import later
from taurine.ledger.schema import dead_letter, job, job_tag, status_beside_id
from taurine.ledger.statuses import OPEN, TERMINAL

__all__ = ["NewGeneration", "Seen", "raise_fence", "raise_generation", "redriven_as", "start_generation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGeneration:
    """A job that has ended is to run again. Times in ms since the epoch; JSON as text.

    queue, payload, max_attempts, priority, options, tags, metadata, trace: None keeps what the record has. Without a
    new payload the state that the handler saved is kept as well.
    scheduled_for, expires_at: None is none; those of the earlier generation are over.
    actor, action, cause: who asked, for what, and why, for the audit.
    """

    id: str
    at: int
    action: str
    actor: str | None = None
    cause: str | None = None
    queue: str | None = None
    payload: str | None = None
    max_attempts: int | None = None
    priority: int | None = None
    options: Mapping[str, Any] | None = None
    tags: tuple[str, ...] | None = None
    metadata: str | None = None
    trace: str | None = None
    scheduled_for: int | None = None
    expires_at: int | None = None


class Seen(NamedTuple):
    """An open record as it was seen, for a write that is to find it so.

    queue: where its job goes from now on; None for where it went before.
    """

    id: str
    generation: int
    fence: int
    queue: str | None = None


_next_fence = (cast(job.c.generation, BigInteger) + 1) * literal_column(str(1 << 32))


def start_generation(connection: Connection, items: Sequence[NewGeneration]) -> list[JobRecord | None]:
    """Put jobs that have ended back to queued, as a new generation that needs a dispatch; returns their new records.

    None for a job that is open, so runs anyway, and for one without a record. What earlier generations left stays:
    attempts, audit, and dead letters, which count as redriven. Of two that
    start the same generation at once one gets None.
    """
    records: dict[int, JobRecord | None] = {}
    # In one order, so that two who start the same ones cannot wait for each other.
    for number, item in sorted(enumerate(items), key=lambda pair: pair[1].id):
        records[number] = _start(connection, item)
    return [records[number] for number in range(len(items))]


def _start(connection: Connection, item: NewGeneration) -> JobRecord | None:
    row = connection.execute(
        update(job)
        .where(job.c.id == item.id, job.c.status.in_(sorted(TERMINAL)))
        .values(
            status="queued",
            generation=job.c.generation + 1,
            fence=_next_fence,
            attempts=0,
            output=None,
            error=None,
            error_fingerprint=None,
            progress=None,
            worker=None,
            started_at=None,
            finished_at=None,
            dispatched_at=None,
            cancel_requested_at=None,
            cancel_reason=None,
            scheduled_for=item.scheduled_for,
            next_attempt_at=None,
            expires_at=item.expires_at,
            updated_at=later(job.c.updated_at, literal(item.at, BigInteger)),
            **_given(item),
        )
        .returning(job)
    ).one_or_none()
    if row is None:
        return None
    record = record_of(row)
    _resolve_dead_letters(connection, item, record)
    if item.tags is not None:
        _replace_tags(connection, record.id, item.tags, row.created_at)
    record_actions(connection, [_audit_of(item, record)])
    return record


def _given(item: NewGeneration) -> dict[str, Any]:
    names = ("queue", "payload", "max_attempts", "priority", "metadata", "trace")
    given = {name: getattr(item, name) for name in names if getattr(item, name) is not None}
    if item.options is not None:
        given["options"] = json.dumps(item.options)
    if item.payload is not None:
        given["state"] = None
    return given


def _resolve_dead_letters(connection: Connection, item: NewGeneration, record: JobRecord) -> None:
    """Whatever way a failed job is run again, nobody need look at its failure any more; the entry tells what became of
    it.
    """
    connection.execute(
        update(dead_letter)
        .where(dead_letter.c.job_id == record.id, dead_letter.c.status == "open")
        .values(
            status="redriven",
            resolved_at=item.at,
            resolved_by=item.actor,
            redriven_as=redriven_as(record.id, record.generation),
        )
    )


def redriven_as(job_id: str, generation: int) -> str:
    """How a dead letter names the job and its generation that it became."""
    return f"{job_id}#{generation}"


def _audit_of(item: NewGeneration, record: JobRecord) -> AuditEntry:
    detail: dict[str, Any] = {"generation": record.generation}
    if item.cause is not None:
        detail["cause"] = item.cause
    return AuditEntry(item.at, item.actor, item.action, record.id, record.tenant, json.dumps(detail))


def _replace_tags(connection: Connection, job_id: str, tags: Sequence[str], created_at: int) -> None:
    connection.execute(delete(job_tag).where(job_tag.c.job_id == job_id))
    rows = [{"job_id": job_id, "tag": tag, "created_at": created_at} for tag in dict.fromkeys(tags)]
    if rows:
        connection.execute(insert(job_tag), rows)


_at = bindparam("at", type_=BigInteger)
_raise = (
    update(job)
    .where(
        job.c.id == bindparam("id_value"),
        job.c.generation == bindparam("generation_value"),
        job.c.fence == bindparam("fence_value"),
        status_beside_id.in_(OPEN),
    )
    .values(
        # Who waits for the next attempt waits on: it can be hastened, and is not taken for a job that is due.
        status=case(
            (and_(job.c.status.in_(("retrying", "waiting")), job.c.next_attempt_at > _at), job.c.status), else_="queued"
        ),
        queue=func.coalesce(bindparam("queue_value", type_=Text), job.c.queue),
        generation=job.c.generation + 1,
        fence=_next_fence,
        dispatched_at=None,
        updated_at=later(job.c.updated_at, _at),
    )
    .returning(job)
)


def raise_generation(connection: Connection, seen: Sequence[Seen], at: int) -> list[JobRecord | None]:
    """Put open jobs that their queue does not have, or is to have no longer, into a new generation that needs a
    dispatch.

    Returns their new records; None for one that is no longer as it was seen: a worker has written to it, it has ended,
    or another reconciler was first. at: now, ms since the epoch.
    They are queued, but for those whose time is still to come: those stay `retrying`, or `waiting`. Attempts, saved
    state and the time of the next attempt are kept.
    """
    records: list[JobRecord | None] = []
    # In one order, so that two reconcilers cannot wait for each other.
    for item in sorted(seen):
        values = {f"{name}_value": value for name, value in item._asdict().items()}
        row = connection.execute(_raise, {**values, "at": at}).one_or_none()
        records.append(None if row is None else record_of(row))
    raised = {record.id: record for record in records if record is not None}
    record_actions(
        connection,
        [
            AuditEntry(at, None, "put_back", record.id, record.tenant, json.dumps({"generation": record.generation}))
            for record in raised.values()
        ],
    )
    return [raised.get(item.id) for item in seen]


def raise_fence(connection: Connection, seen: JobRecord) -> JobRecord:
    """Put a job that runs into a new generation as it stands, so that what another delivery with the same fence still
    writes is refused; returns its record.

    Nothing is dispatched: the delivery that asks for it is the one that runs. A record that is no longer as it was seen
    is left alone.
    """
    row = connection.execute(
        update(job)
        .where(job.c.id == seen.id, job.c.fence == seen.fence, job.c.status == "running")
        .values(generation=job.c.generation + 1, fence=_next_fence)
        .returning(job)
    ).one_or_none()
    return seen if row is None else record_of(row)
