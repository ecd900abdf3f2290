"""Choosing records for a change of many: a bounded count of them, and their ids in pages.

What is chosen is a snapshot: only records that were there, and for those that ended only such as had ended, before a
moment. So a change that takes long, or that is gone on with after a crash, does not take up what it has itself brought
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select

from taurine.ledger.dead_letters import DeadLetterFilter
from taurine.ledger.dead_letters import conditions_of as conditions_of_entries
from taurine.ledger.listing import Count, Position, RecordFilter, first_of, query_of
from taurine.ledger.schema import dead_letter, job
from taurine.ledger.statuses import Status

__all__ = ["Chosen", "RecordSelection", "choose", "chosen_of", "count_chosen", "count_entries", "lock_chosen"]

_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSelection:
    """Which records. Times in ms since the epoch.

    wanted: the filter, whose own status and phase are not looked at. statuses: one of these. before: created before
    this. ended: True for records that have also ended before it. not_type: of other types than this.
    """

    wanted: RecordFilter
    statuses: tuple[Status, ...]
    before: int
    ended: bool
    not_type: str


class Chosen(NamedTuple):
    """A record, with what is asked of it before it is changed."""

    created_at: int
    id: str
    type: str
    tenant: str | None

    @property
    def position(self) -> Position:
        return Position(self.created_at, self.id)


def count_chosen(connection: Connection, selection: RecordSelection, most: int) -> Count:
    """How many records that is. most: rows to count, of all statuses together; a count is exact below that many."""
    number = 0
    for status in selection.statuses:
        rows = _query(connection, selection, status, None).order_by(None).limit(most - number).subquery("chosen")
        number += connection.execute(select(func.count()).select_from(rows)).scalar_one()
        if number >= most:
            break
    return Count(number, number < most)


def choose(connection: Connection, selection: RecordSelection, after: Position | None, limit: int) -> list[Chosen]:
    """A page of them, the oldest first. after: the position of the last one of the page before."""
    queries = [_query(connection, selection, status, after) for status in selection.statuses]
    return [_chosen(row) for row in first_of(connection, queries, limit, newest_first=False)]


def chosen_of(
    connection: Connection, ids: Sequence[str], tenant: str | None, statuses: Sequence[Status] | None = None
) -> list[Chosen]:
    """The records of these ids, in their order; left out are those that are not there, with `tenant` another tenant's,
    and with `statuses` those that have none of them.
    """
    found: dict[str, Chosen] = {}
    for first in range(0, len(ids), _IDS_AT_ONCE):
        query = select(*_columns).where(job.c.id.in_(ids[first : first + _IDS_AT_ONCE]))
        if statuses is not None:
            query = query.where(job.c.status.in_(list(statuses)))
        rows = connection.execute(query)
        found |= {row.id: _chosen(row) for row in rows}
    chosen = [found[one] for one in dict.fromkeys(ids) if one in found]
    return [one for one in chosen if tenant is None or one.tenant == tenant]


def lock_chosen(connection: Connection, ids: Sequence[str], statuses: Sequence[Status], before: int) -> list[str]:
    """Of these, the ids of the records that have one of `statuses` and have ended before `before`, ms; they stay as
    they are until the transaction ends.
    """
    rows = connection.execute(
        select(job.c.id)
        .where(job.c.id.in_(list(ids)), job.c.status.in_(list(statuses)), job.c.finished_at < before)
        .order_by(job.c.id)
        .with_for_update()
    )
    return [row.id for row in rows]


def count_entries(connection: Connection, wanted: DeadLetterFilter, most: int) -> Count:
    """How many dead letters a filter lets through. most: rows to count; a count is exact below that many."""
    rows = select(dead_letter.c.id).where(*conditions_of_entries(wanted)).limit(most).subquery("chosen")
    number = connection.execute(select(func.count()).select_from(rows)).scalar_one()
    return Count(number, number < most)


_columns = (job.c.created_at, job.c.id, job.c.type, job.c.tenant)


def _query(
    connection: Connection, selection: RecordSelection, status: Status, after: Position | None
) -> Select[Any, Any, Any, Any]:
    query = query_of(connection, selection.wanted, status, after, newest_first=False)
    query = query.where(job.c.created_at < selection.before, job.c.type != selection.not_type)
    if selection.ended:
        query = query.where(job.c.finished_at < selection.before)
    return query.with_only_columns(*_columns)


def _chosen(row: Row[Any, Any, Any, Any]) -> Chosen:
    return Chosen(row.created_at, row.id, row.type, row.tenant)
