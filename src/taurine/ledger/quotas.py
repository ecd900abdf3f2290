"""How many jobs a tenant may have that have not ended, and how many it may put in in a time: setting it, and counting
them when more are put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, case, delete, func, literal, null, select, text, update

from taurine.ledger.buckets import Bucket
from taurine.ledger.rows import upsert
from taurine.ledger.schema import job, quota
from taurine.ledger.statuses import TERMINAL
from taurine.options import RateLimit, to_milliseconds

__all__ = ["Quota", "Refused", "Room", "quotas_of", "remove_quota", "room_of", "set_quota"]


class Quota(NamedTuple):
    """At most this many unfinished jobs of a tenant, and at most so many put in in a time; None for any number.

    type: of that job type; None for all of the tenant's types together. max_rate: so many at once, and as many again,
    evenly, in each `duration`.
    """

    tenant: str
    max_open: int | None
    type: str | None = None
    max_rate: RateLimit | None = None


class Refused(NamedTuple):
    """Why there is no room for a job.

    wait_ms: when there is again, as far as the rate is concerned; None where it is the number of open jobs.
    """

    quota: Quota
    wait_ms: int | None = None


_quotas = (
    select(quota)
    .where(quota.c.tenant.in_(bindparam("tenants", expanding=True)))
    .order_by(quota.c.tenant, quota.c.type)
    .with_for_update()
)
# Word for word the condition of the index `taurine_job_open_by_tenant`: SQLite takes a partial index only then. That there is a tenant both know by themselves.
_terminal = ", ".join(map(repr, sorted(TERMINAL)))
_open = text(f"NOT (status IN ({_terminal}))")


class Room:
    """What the quotas leave free for the jobs of one transaction. now: ms since the epoch."""

    def __init__(self, connection: Connection, rows: Sequence[Any], now: int) -> None:
        self._connection = connection
        self._now = now
        quotas = [(_quota(row), row) for row in rows]
        self._quotas = {(one.tenant, one.type): one for one, _ in quotas}
        self._free: dict[Quota, int] = {}
        self._full_at: dict[Quota, int | None] = {
            one: row.rate_full_at for one, row in quotas if one.max_rate is not None
        }
        self._taken: set[Quota] = set()

    def __bool__(self) -> bool:
        """False when no quota concerns these jobs."""
        return bool(self._quotas)

    def take(self, tenant: str | None, job_type: str) -> Refused | None:
        """Take room for one more job; what forbids it, or None."""
        if tenant is None:
            return None
        mine = [one for word in (job_type, None) if (one := self._quotas.get((tenant, word))) is not None]
        for one in mine:
            if one.max_open is not None and self._free_of(one, one.max_open) <= 0:
                return Refused(one)
        rated = {
            one: _bucket(one.max_rate).take(self._full_at[one], self._now) for one in mine if one.max_rate is not None
        }
        for one, (_, wait) in rated.items():
            if wait:
                return Refused(one, wait)
        for one in mine:
            if one.max_open is not None:
                self._free[one] -= 1
        for one, (full_at, _) in rated.items():
            self._full_at[one] = full_at
            self._taken.add(one)
        return None

    def note(self) -> None:
        """Write down what was taken of rates, in the transaction of the jobs: if they are not stored, nothing was
        taken.
        """
        for one in self._taken:
            mine = (quota.c.tenant == one.tenant) & (quota.c.type == (one.type or ""))
            self._connection.execute(update(quota).where(mine).values(rate_full_at=self._full_at[one]))

    def _free_of(self, one: Quota, max_open: int) -> int:
        if one not in self._free:
            self._free[one] = max_open - _open_jobs(self._connection, one)
        return self._free[one]


def room_of(connection: Connection, tenants: Iterable[str | None], now: int) -> Room:
    """The room that the quotas of these tenants leave; one read, and none for jobs without a tenant.

    now: ms since the epoch.

    On PostgreSQL the tenants' quotas stay locked until the transaction ends, so that two that add jobs at once do not
    both take the last place.
    """
    named = sorted({tenant for tenant in tenants if tenant is not None})
    if not named:
        return Room(connection, (), now)
    return Room(connection, connection.execute(_quotas, {"tenants": named}).all(), now)


def quotas_of(connection: Connection, tenant: str) -> list[Quota]:
    """The quotas of a tenant: the one of all its types first, then by type."""
    rows = connection.execute(select(quota).where(quota.c.tenant == tenant).order_by(quota.c.type))
    return [_quota(row) for row in rows]


def set_quota(connection: Connection, wanted: Quota) -> None:
    """Set a quota, in place of the one that is there. Jobs that are there stay, however many there are."""
    rate = wanted.max_rate
    row = {
        "tenant": wanted.tenant,
        "type": wanted.type or "",
        "max_open": wanted.max_open,
        "rate_max": None if rate is None else rate.max,
        "rate_ms": None if rate is None else to_milliseconds(rate.duration, "max_rate"),
    }
    statement = upsert(connection, quota)
    given = statement.excluded
    # What was put in counts on, unless it is counted otherwise now.
    same = quota.c.rate_max.is_not_distinct_from(given.rate_max) & quota.c.rate_ms.is_not_distinct_from(given.rate_ms)
    kept = case((same, quota.c.rate_full_at), else_=null())
    changes = {"max_open": given.max_open, "rate_max": given.rate_max, "rate_ms": given.rate_ms, "rate_full_at": kept}
    connection.execute(
        statement.on_conflict_do_update(index_elements=[quota.c.tenant, quota.c.type], set_=changes), row
    )


def remove_quota(connection: Connection, tenant: str, job_type: str | None) -> None:
    """Take a quota away, if it is there."""
    connection.execute(delete(quota).where(quota.c.tenant == tenant, quota.c.type == (job_type or "")))


def _quota(row: Any) -> Quota:
    rate = None if row.rate_max is None else RateLimit(row.rate_max, row.rate_ms / 1000)
    return Quota(row.tenant, row.max_open, row.type or None, rate)


def _bucket(rate: RateLimit) -> Bucket:
    return Bucket(rate.max, to_milliseconds(rate.duration, "max_rate"))


def _open_jobs(connection: Connection, limit: Quota) -> int:
    """How many there are, counted no further than the quota."""
    return connection.execute(_count_open(limit)).scalar_one()


def _count_open(limit: Quota) -> Select[int]:
    mine = select(literal(1).label("one")).where(job.c.tenant == limit.tenant, _open)
    # Any type is one from "" on. Said so, SQLite has two columns for its index of open jobs, and takes it though it may have no statistics; it walks all jobs that the
    # tenant ever had else, by the index of changes.
    mine = mine.where(job.c.type == limit.type if limit.type else job.c.type >= "")
    counted = mine.limit(limit.max_open).subquery()
    return select(func.count(counted.c.one))
