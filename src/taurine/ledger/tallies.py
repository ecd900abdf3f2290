"""Counts of what jobs came to: by the minute, and for all time.

Each row is a sum that many processes add to. Nothing is ever set, so that no process needs to know of the others, and a
restart loses no total. A distribution is a row for each bucket, and one with the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import BigInteger, Connection, bindparam, delete, func, select

from taurine.ledger.retention import PurgeStep
from taurine.ledger.rows import upsert
from taurine.ledger.schema import job, tally
from taurine.ledger.statuses import OPEN

__all__ = [
    "ABOVE_ALL",
    "BOUNDS",
    "MINUTE",
    "Kind",
    "Measure",
    "Outcome",
    "TallyCount",
    "add_outcomes",
    "add_tallies",
    "open_kinds",
    "purge_tallies",
    "tallies_since",
]

Outcome: TypeAlias = Literal[
    "completed", "failed", "retried", "cancelled", "expired", "snoozed", "crashed", "lease_lost"
]
"""What became of an attempt. "failed": the job is dead. "crashed": of those, the ones whose workers died under them.
"retried": another attempt follows.
"snoozed": called again later, at no charge. "lease_lost": another worker had the job by then, and this attempt counted for nothing."""

Measure: TypeAlias = Literal[Outcome, "wait", "wait_sum", "run", "run_sum"]
"""An outcome, or a distribution: of the milliseconds from when a job was due to its first start, and of those that an
attempt ran.
"""

BOUNDS: tuple[int, ...] = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1000, 2500, 5000, 10_000, 30_000, 60_000),
    *(300_000, 900_000, 3_600_000, 21_600_000),
)
"""The most milliseconds that each bucket of a distribution holds: from 5 ms to 6 hours. They are what the rows are kept
under, so none of them is ever changed.
"""

ABOVE_ALL = -1
"""The bucket of those above the last bound."""

MINUTE = 60_000

_ALL_TIME = 0

_PURGED_AT_ONCE = 60 * MINUTE

Kind: TypeAlias = tuple[str, str]
"""Queue and type of a job."""


class TallyCount(NamedTuple):
    """So many of one measure. bucket: one of BOUNDS, or ABOVE_ALL, of a distribution; 0 for an outcome or a sum."""

    queue: str
    type: str
    measure: Measure
    bucket: int
    number: int


def add_tallies(connection: Connection, counts: Iterable[TallyCount], at: int) -> None:
    """Add counts to those of the minute of `at`, ms since the epoch, and to those of all time.

    It is no write that may be repeated: each call adds. To be the last of its transaction, or two that count the same
    may wait for each other's jobs.
    """
    # In one order, so that two processes cannot wait for each other's rows.
    rows = sorted(entry for entry in counts if entry.number)
    if not rows:
        return
    statement = upsert(connection, tally)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(tally.primary_key.columns), set_={"count": tally.c.count + statement.excluded.count}
        ),
        [_values(minute, row) for minute in (_ALL_TIME, at - at % MINUTE) for row in rows],
    )


def _values(minute: int, row: TallyCount) -> dict[str, Any]:
    return {
        "minute": minute,
        "queue": row.queue,
        "type": row.type,
        "measure": row.measure,
        "bucket": row.bucket,
        "count": row.number,
    }


def add_outcomes(connection: Connection, outcomes: Iterable[tuple[Kind, Outcome]], at: int) -> None:
    """Count ends that are brought about in this transaction, as `add_tallies` does."""
    found = Counter(outcomes)
    add_tallies(connection, (TallyCount(*kind, outcome, 0, number) for (kind, outcome), number in found.items()), at)


_open = (
    select(job.c.id, job.c.queue, job.c.type)
    .where(job.c.id.in_(bindparam("ids", expanding=True)), job.c.status.in_(OPEN))
    .order_by(job.c.id)
    .with_for_update()
)


def open_kinds(connection: Connection, ids: Sequence[str]) -> dict[str, Kind]:
    """Queue and type of those jobs that have not ended, and of no other: a job that two write the same end of is
    counted by the first.

    They stay as they are until the transaction ends, but for what it does itself. At most some hundreds.
    """
    if not ids:
        return {}
    return {row.id: (row.queue, row.type) for row in connection.execute(_open, {"ids": list(ids)})}


_since = (
    select(tally.c.queue, tally.c.type, tally.c.measure, tally.c.bucket, func.sum(tally.c.count))
    .where(tally.c.minute >= bindparam("first", type_=BigInteger), tally.c.minute != _ALL_TIME)
    .group_by(tally.c.queue, tally.c.type, tally.c.measure, tally.c.bucket)
)
_ever = select(tally.c.queue, tally.c.type, tally.c.measure, tally.c.bucket, tally.c.count).where(
    tally.c.minute == _ALL_TIME
)


def tallies_since(connection: Connection, since: int | None) -> list[TallyCount]:
    """What was counted in the minute of `since`, ms since the epoch, and after it; None for all that ever was."""
    if since is None:
        rows = connection.execute(_ever)
    else:
        rows = connection.execute(_since, {"first": max(1, since - since % MINUTE)})
    # A sum of PostgreSQL's is a decimal.
    return [TallyCount(*row[:4], int(row[4])) for row in rows]


def purge_tallies(connection: Connection, before: int) -> PurgeStep:
    """Remove the counts of minutes that began before `before`, ms since the epoch, those of one hour at a time.

    Those of all time stay.
    """
    first = connection.scalar(select(func.min(tally.c.minute)).where(tally.c.minute > _ALL_TIME))
    if first is None or first >= before:
        return PurgeStep(0, None)
    until = min(first + _PURGED_AT_ONCE, before)
    removed = connection.execute(delete(tally).where(tally.c.minute >= first, tally.c.minute < until)).rowcount
    return PurgeStep(removed, () if until < before else None)
