"""Many records by their ids, as many as one answer has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from taurine.ledger.page_room import AT_ONCE, fill
from taurine.ledger.records import JobRecord, get_records

__all__ = ["Lookup", "look_up"]


class Lookup(NamedTuple):
    """What there is of some ids. missing: those that there is no job of. left_out: those that were not looked at, since
    the payloads of the others are large; ask for them again.
    """

    records: list[JobRecord]
    missing: list[str]
    left_out: list[str]


def look_up(connection: Connection, job_ids: Sequence[str], *, tenant: str | None) -> Lookup:
    """The records of these ids, in their order; each once. tenant: another tenant's are missing."""
    wanted = list(dict.fromkeys(job_ids))
    found, _ = fill(_each(connection, wanted, tenant), len(wanted), _size)
    return Lookup(
        [record for record in found if record is not None],
        [job_id for job_id, record in zip(wanted, found, strict=False) if record is None],
        wanted[len(found) :],
    )


def _each(connection: Connection, wanted: Sequence[str], tenant: str | None) -> Iterator[JobRecord | None]:
    for first in range(0, len(wanted), AT_ONCE):
        some = wanted[first : first + AT_ONCE]
        found = get_records(connection, some)
        for job_id in some:
            record = found.get(job_id)
            yield record if record is not None and tenant in (None, record.tenant) else None


def _size(record: JobRecord | None) -> int:
    return 0 if record is None else record.text_size
