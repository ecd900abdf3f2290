"""Accepting jobs: idempotency keys, quotas, and ids that are taken, in the transaction that puts the records in.

What decides, in turn: a key that an earlier request holds; a quota; a record that has the id already; else the record
is put in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from taurine.errors import IdempotencyConflict, QuotaExceeded, RecordError
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.idempotency import KeyClaim, KeyHolder, release_keys, take_keys
from taurine.ledger.quotas import Refused, room_of
from taurine.ledger.records import Inserted, JobRecord, NewRecord, get_records, insert_records
from taurine.ledger.statuses import TERMINAL
from taurine.options import to_seconds

__all__ = ["accept_records"]


def accept_records(connection: Connection, records: Sequence[NewRecord]) -> list[Inserted | RecordError]:
    """Put in what was asked for; returns for each what became of it, or the error that its caller is to get.

    Of two requests with one id, or one key, the first counts, whether they come in one call or in two transactions. An
    error is IdempotencyConflict or QuotaExceeded, and concerns its own request only. Atomic with whatever else the
    transaction holds.
    """
    answers: dict[int, Inserted | RecordError] = {}
    requests = dict(enumerate(records))
    keys = _Keys(connection, requests)
    asking = {number: record for number, record in requests.items() if not keys.settles(number, record)}
    refused = _refused_by_quota(connection, asking)
    put_in = _put_in(connection, {number: record for number, record in asking.items() if number not in refused})
    # A key that stood for another tenant's job would go on to say what becomes of that.
    others = {number for number, answer in put_in.items() if _is_of_another_tenant(requests[number], answer)}
    keys.release({*refused, *others})
    answers |= refused
    answers |= put_in
    answers |= keys.answers(answers)
    return [answers[number] for number in requests]


class _Keys:
    """The idempotency keys of some requests: who took them, and what that says of the others."""

    def __init__(self, connection: Connection, requests: dict[int, NewRecord]) -> None:
        self._connection = connection
        self._claims: dict[tuple[str, str], tuple[int, KeyClaim]] = {}
        for number, record in requests.items():
            if record.idempotency is not None:
                claim = KeyClaim(record.idempotency, record.id, record.created_at)
                self._claims.setdefault(record.idempotency.name, (number, claim))
        claims = [claim for _, claim in self._claims.values()]
        self._holders = take_keys(connection, claims) if claims else {}
        self._settled: dict[int, NewRecord] = {}

    def settles(self, number: int, record: NewRecord) -> bool:
        """True for a request whose key another one holds; `answers` has its answer."""
        if record.idempotency is None:
            return False
        name = record.idempotency.name
        if self._holders[name].taken and self._claims[name][0] == number:
            return False
        self._settled[number] = record
        return True

    def release(self, numbers: Collection[int]) -> None:
        """Give back the keys of requests of which nothing comes."""
        release_keys(self._connection, [claim for number, claim in self._claims.values() if number in numbers])

    def answers(self, others: dict[int, Inserted | RecordError]) -> dict[int, Inserted | RecordError]:
        """The answers of the requests that keys settle. others: those of the requests that took their keys here."""
        if not self._settled:
            return {}
        found = get_records(self._connection, list({holder.job_id for holder in self._holders.values()}))
        return {
            number: self._answer(record, others, Inserted(found.get(self._holder(record).job_id)))
            for number, record in self._settled.items()
        }

    def _holder(self, record: NewRecord) -> KeyHolder:
        assert record.idempotency is not None
        return self._holders[record.idempotency.name]

    def _answer(
        self, record: NewRecord, others: dict[int, Inserted | RecordError], inserted: Inserted
    ) -> Inserted | RecordError:
        assert record.idempotency is not None
        holder = self._holder(record)
        if holder.request_hash != record.idempotency.request_hash:
            return IdempotencyConflict(
                f"the idempotency key {record.idempotency.key!r:.80} was used for a request with other data, which became "
                f"job {holder.job_id!r}; use a key of its own for each request",
                job_id=holder.job_id,
            )
        first = others.get(self._claims[record.idempotency.name][0])
        if isinstance(first, QuotaExceeded):
            return _again(record, first)
        return inserted if inserted.existing is not None else Inserted(None, purged=holder.job_id)


def _refused_by_quota(connection: Connection, requests: dict[int, NewRecord]) -> dict[int, QuotaExceeded]:
    """The requests for which there is no room; those that would open no further job need none."""
    now = max((record.created_at for record in requests.values()), default=0)
    room = room_of(connection, (record.tenant for record in requests.values()), now)
    if not room:
        return {}
    there = get_records(connection, [record.id for record in requests.values() if not record.fresh])
    opened = {record.id for record in there.values() if record.status not in TERMINAL}
    refused: dict[int, QuotaExceeded] = {}
    for number, record in requests.items():
        if record.id in opened or (record.id in there and record.on_taken == "return"):
            continue
        limit = room.take(record.tenant, record.type)
        if limit is None:
            opened.add(record.id)
        else:
            refused[number] = _over_quota(record, limit)
    room.note()
    return refused


def _over_quota(record: NewRecord, refused: Refused) -> QuotaExceeded:
    limit, wait_ms = refused
    of_type = f" of type {limit.type!r}" if limit.type else ""
    if wait_ms is None or limit.max_rate is None:
        message = f"tenant {limit.tenant!r} may have {limit.max_open} unfinished jobs{of_type}; try again when some have ended"
    else:
        rate = limit.max_rate
        message = (
            f"tenant {limit.tenant!r} may add {rate.max} jobs{of_type} in {to_seconds(rate.duration, 'max_rate'):g} s; "
            f"try again in {wait_ms / 1000:g} s"
        )
    return QuotaExceeded(
        message,
        job_id=record.id,
        tenant=limit.tenant,
        max_open=limit.max_open,
        max_rate=limit.max_rate,
        job_type=limit.type,
        retry_after=None if wait_ms is None else wait_ms / 1000,
    )


def _again(record: NewRecord, first: QuotaExceeded) -> QuotaExceeded:
    """The same refusal, for a request whose key another one holds."""
    return QuotaExceeded(
        str(first),
        job_id=record.id,
        tenant=first.tenant,
        max_open=first.max_open,
        max_rate=first.max_rate,
        job_type=first.job_type,
        retry_after=first.retry_after,
    )


def _put_in(connection: Connection, requests: dict[int, NewRecord]) -> dict[int, Inserted | RecordError]:
    if not requests:
        return {}
    answers = dict(zip(requests, insert_records(connection, list(requests.values())), strict=True))
    ended = {
        number: requests[number]
        for number, answer in answers.items()
        if requests[number].on_taken == "rerun" and _may_run_again(requests[number], answer.existing)
    }
    return {**answers, **_run_again(connection, ended)}


def _is_of_another_tenant(request: NewRecord, answer: Inserted | RecordError) -> bool:
    existing = None if isinstance(answer, RecordError) else answer.existing
    return existing is not None and existing.tenant != request.tenant


def _may_run_again(request: NewRecord, existing: JobRecord | None) -> bool:
    """Whether a record has ended and is the request's own: an id may be taken by a job of another type or tenant, which
    must not be replaced.
    """
    if existing is None or existing.status not in TERMINAL:
        return False
    return existing.type == request.type and existing.tenant == request.tenant


def _run_again(connection: Connection, requests: dict[int, NewRecord]) -> Mapping[int, Inserted | RecordError]:
    if not requests:
        return {}
    records = start_generation(connection, [_new_generation(record) for record in requests.values()])
    # One that is open already: another request was first, here or elsewhere.
    missed = [request.id for request, record in zip(requests.values(), records, strict=True) if record is None]
    there = get_records(connection, missed)
    answers = {
        number: Inserted(there.get(request.id)) if record is None else Inserted(record, rerun=True)
        for (number, request), record in zip(requests.items(), records, strict=True)
    }
    # One that was purged since it was read is a new one after all.
    freed = {number: requests[number] for number, answer in answers.items() if answer.existing is None}
    return {**answers, **_put_in(connection, freed)}


def _new_generation(record: NewRecord) -> NewGeneration:
    return NewGeneration(
        id=record.id,
        at=record.created_at,
        action="rerun",
        actor=record.created_by,
        queue=record.queue,
        payload=record.payload,
        max_attempts=record.max_attempts,
        priority=record.priority,
        options=record.options or {},  # none is what this request says
        tags=record.tags,
        metadata=record.metadata,
        trace=record.trace,
        scheduled_for=record.scheduled_for,
        expires_at=record.expires_at,
    )
