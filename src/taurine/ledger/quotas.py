"""How many jobs a tenant may have that have not ended: setting it, and counting them when more are put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, func, literal, select, text

from taurine.ledger.rows import upsert
from taurine.ledger.schema import job, quota
from taurine.ledger.statuses import TERMINAL

__all__ = ["Quota", "Room", "quotas_of", "remove_quota", "room_of", "set_quota"]


class Quota(NamedTuple):
    """At most this many unfinished jobs of a tenant. type: of that job type; None for all of the tenant's types together."""

    tenant: str
    max_open: int
    type: str | None = None


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
    """What the quotas leave free for the jobs of one transaction."""

    def __init__(self, connection: Connection, quotas: Sequence[Quota]) -> None:
        self._connection = connection
        self._quotas = {(one.tenant, one.type): one for one in quotas}
        self._free: dict[Quota, int] = {}

    def __bool__(self) -> bool:
        """False when no quota concerns these jobs."""
        return bool(self._quotas)

    def take(self, tenant: str | None, job_type: str) -> Quota | None:
        """Take room for one more job; the quota that forbids it, or None."""
        if tenant is None:
            return None
        mine = [one for word in (job_type, None) if (one := self._quotas.get((tenant, word))) is not None]
        for one in mine:
            if self._free_of(one) <= 0:
                return one
        for one in mine:
            self._free[one] -= 1
        return None

    def _free_of(self, one: Quota) -> int:
        if one not in self._free:
            self._free[one] = one.max_open - _open_jobs(self._connection, one)
        return self._free[one]


def room_of(connection: Connection, tenants: Iterable[str | None]) -> Room:
    """The room that the quotas of these tenants leave; one read, and none for jobs without a tenant.

    On PostgreSQL the tenants' quotas stay locked until the transaction ends, so that two that add jobs at once do not both take the last place.
    """
    named = sorted({tenant for tenant in tenants if tenant is not None})
    if not named:
        return Room(connection, ())
    rows = connection.execute(_quotas, {"tenants": named})
    return Room(connection, [Quota(row.tenant, row.max_open, row.type or None) for row in rows])


def quotas_of(connection: Connection, tenant: str) -> list[Quota]:
    """The quotas of a tenant: the one of all its types first, then by type."""
    rows = connection.execute(select(quota).where(quota.c.tenant == tenant).order_by(quota.c.type))
    return [Quota(row.tenant, row.max_open, row.type or None) for row in rows]


def set_quota(connection: Connection, wanted: Quota) -> None:
    """Set a quota, in place of the one that is there. Jobs that are there stay, however many there are."""
    statement = upsert(connection, quota)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[quota.c.tenant, quota.c.type], set_={"max_open": statement.excluded.max_open}
        ),
        {"tenant": wanted.tenant, "type": wanted.type or "", "max_open": wanted.max_open},
    )


def remove_quota(connection: Connection, tenant: str, job_type: str | None) -> None:
    """Take a quota away, if it is there."""
    connection.execute(delete(quota).where(quota.c.tenant == tenant, quota.c.type == (job_type or "")))


def _open_jobs(connection: Connection, limit: Quota) -> int:
    """How many there are, counted no further than the quota."""
    return connection.execute(_count_open(limit)).scalar_one()


def _count_open(limit: Quota) -> Select[int]:
    mine = select(literal(1).label("one")).where(job.c.tenant == limit.tenant, _open)
    if limit.type:
        mine = mine.where(job.c.type == limit.type)
    counted = mine.limit(limit.max_open).subquery()
    return select(func.count(counted.c.one))
