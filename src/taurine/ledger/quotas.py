"""How many jobs a tenant may have that have not ended: counting them when more are put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, literal, select, text

from taurine.ledger.schema import job, quota
from taurine.ledger.statuses import OPEN

__all__ = ["Limit", "Room", "room_of"]


class Limit(NamedTuple):
    """At most this many unfinished jobs of a tenant. type: '' for all of the tenant's types together."""

    tenant: str
    type: str
    max_open: int


_quotas = (
    select(quota)
    .where(quota.c.tenant.in_(bindparam("tenants", expanding=True)))
    .order_by(quota.c.tenant, quota.c.type)
    .with_for_update()
)
# In the words of the index `taurine_job_unfinished`, as databases compare them.
_open_words = ", ".join(map(repr, OPEN))
_open = text(f"status IN ({_open_words}) AND status <> 'completed'")


class Room:
    """What the quotas leave free for the jobs of one transaction."""

    def __init__(self, connection: Connection, limits: Sequence[Limit]) -> None:
        self._connection = connection
        self._limits = {(limit.tenant, limit.type): limit for limit in limits}
        self._free: dict[Limit, int] = {}

    def __bool__(self) -> bool:
        """False when no quota concerns these jobs."""
        return bool(self._limits)

    def take(self, tenant: str | None, job_type: str) -> Limit | None:
        """Take room for one more job; the quota that forbids it, or None."""
        if tenant is None:
            return None
        limits = [limit for word in (job_type, "") if (limit := self._limits.get((tenant, word))) is not None]
        for limit in limits:
            if self._free_of(limit) <= 0:
                return limit
        for limit in limits:
            self._free[limit] -= 1
        return None

    def _free_of(self, limit: Limit) -> int:
        if limit not in self._free:
            self._free[limit] = limit.max_open - _open_jobs(self._connection, limit)
        return self._free[limit]


def room_of(connection: Connection, tenants: Iterable[str | None]) -> Room:
    """The room that the quotas of these tenants leave; one read, and none for jobs without a tenant.

    On PostgreSQL the tenants' quotas stay locked until the transaction ends, so that two that add jobs at once do not both take the last place.
    """
    named = sorted({tenant for tenant in tenants if tenant is not None})
    if not named:
        return Room(connection, ())
    rows = connection.execute(_quotas, {"tenants": named})
    return Room(connection, [Limit(row.tenant, row.type, row.max_open) for row in rows])


def _open_jobs(connection: Connection, limit: Limit) -> int:
    """How many there are, counted no further than the quota."""
    # An expression, so that no database walks the index of tenants or of types, which have the finished jobs as well: open ones are few beside them.
    mine = select(literal(1).label("one")).where(job.c.tenant.concat("") == limit.tenant, _open)
    if limit.type:
        mine = mine.where(job.c.type.concat("") == limit.type)
    counted = mine.limit(limit.max_open).subquery()
    return connection.execute(select(func.count(counted.c.one))).scalar_one()
