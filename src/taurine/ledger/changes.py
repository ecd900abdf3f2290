"""What has changed among some jobs: cheap enough to be asked several times a second.

A change is seen by its row's version. That a row has another one than before is certain; rows are found by
`updated_at`, which is the time of who wrote and not of the commit, so whoever reads on from a time reads again what is
a little older (`OVERLAP_MS`), and passes over the versions that it has seen.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, Select, Text, any_, bindparam, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from taurine.ledger.rows import is_postgresql
from taurine.ledger.schema import job, job_tag

__all__ = [
    "OVERLAP_MS",
    "Version",
    "changed_of_tag",
    "changed_of_tag_in_tenant",
    "changed_of_tenant",
    "version_of",
    "versions_of",
]

OVERLAP_MS = 2000
"""A write that is committed later than this after its time is seen with the job's next change."""

NEWEST_OF_TAG = 1000
"""Of a tag, so many of the jobs that were created last are looked at."""

_VERSION = (
    *(job.c.id, job.c.tenant, job.c.updated_at, job.c.status, job.c.generation, job.c.fence, job.c.attempts),
    *(job.c.cancel_requested_at, job.c.progress),
)


class Version(NamedTuple):
    """What a job's record was at a time. mark: tells two versions of the same millisecond apart."""

    id: str
    updated_at: int
    mark: int
    status: str


# One value, however many ids: a statement with a thousand of them would be made anew each time.
_given = func.json_each(bindparam("ids", type_=Text())).table_valued("value", name="given")
_since = job.c.updated_at >= bindparam("since", type_=BigInteger)
_among_json = select(*_VERSION).where(job.c.id.in_(select(_given.c.value)), _since)
_among_array = select(*_VERSION).where(job.c.id == any_(bindparam("ids", type_=ARRAY(Text))), _since)


def _page(wanted: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    place = tuple_(job.c.updated_at, job.c.id)
    return (
        wanted.where(place > tuple_(bindparam("since", type_=BigInteger), bindparam("after_id", type_=Text)))
        .order_by(job.c.updated_at, job.c.id)
        .limit(bindparam("limit"))
    )


_of_tenant = _page(select(*_VERSION).where(job.c.tenant == bindparam("tenant"), job.c.tenant.is_not(None)))
_tag_of_it = select(job_tag.c.created_at).where(job_tag.c.job_id == job.c.id, job_tag.c.tag == bindparam("tag"))
"""A value and no condition: the row is looked up by its key for each job of the page, whatever the planner thinks of
the tag.
"""

_of_tag_in_tenant = _page(
    select(*_VERSION, _tag_of_it.scalar_subquery().label("tagged")).where(
        job.c.tenant == bindparam("tenant"), job.c.tenant.is_not(None)
    )
)
_newest_of_tag = (
    select(job_tag.c.job_id)
    .where(job_tag.c.tag == bindparam("tag"))
    .order_by(job_tag.c.created_at.desc(), job_tag.c.job_id.desc())
    .limit(NEWEST_OF_TAG)
    .subquery()
)
_of_tag = _page(select(*_VERSION).join(_newest_of_tag, _newest_of_tag.c.job_id == job.c.id))


def version_of(row: Row[*tuple[Any, ...]]) -> Version:
    """The version of a row that begins with the columns of one."""
    rest = (row.id, *tuple(row)[3 : len(_VERSION)])  # behind the tenant, which stays, and the time
    return Version(row.id, row.updated_at, zlib.crc32(repr(rest).encode(errors="surrogatepass")), row.status)


def versions_of(connection: Connection, job_ids: Sequence[str], since: int = 0) -> list[Version]:
    """The versions of these jobs as they are, of those that were written at `since`, ms, or later.

    Those that are gone are left out. Default: all.
    """
    if not job_ids:
        return []
    if is_postgresql(connection):
        rows = connection.execute(_among_array, {"ids": list(job_ids), "since": since})
    else:
        rows = connection.execute(_among_json, {"ids": json.dumps(list(job_ids)), "since": since})
    return [version_of(row) for row in rows]


def changed_of_tenant(
    connection: Connection, tenant: str, since: int, limit: int, *, after_id: str = ""
) -> list[Version]:
    """A tenant's jobs that were written at `since`, ms, or later: the first `limit` of them in the order of that time.

    after_id: of those written at `since` only the ones behind this id. Default: all of them.
    """
    place = {"tenant": tenant, "since": since, "after_id": after_id, "limit": limit}
    return [version_of(row) for row in connection.execute(_of_tenant, place)]


def changed_of_tag(connection: Connection, tag: str, since: int, limit: int, *, after_id: str = "") -> list[Version]:
    """The same of a tag, for all tenants, among its 1,000 newest jobs."""
    place = {"tag": tag, "since": since, "after_id": after_id, "limit": limit}
    return [version_of(row) for row in connection.execute(_of_tag, place)]


def changed_of_tag_in_tenant(
    connection: Connection, tag: str, tenant: str, since: int, limit: int, *, after_id: str = ""
) -> tuple[list[Version], list[Version]]:
    """Those of a tenant as `changed_of_tenant` has them, and which of them have the tag.

    Only the tenant's own jobs are looked at: it costs the same whatever others have of that tag.
    """
    place = {"tag": tag, "tenant": tenant, "since": since, "after_id": after_id, "limit": limit}
    rows = connection.execute(_of_tag_in_tenant, place).all()
    versions = [version_of(row) for row in rows]
    return versions, [version for version, row in zip(versions, rows, strict=True) if row.tagged is not None]
