"""What becomes of records that a Recorder is given: the rules of `taurine.ledger.requests` in memory, and jobs that
join a session's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from taurine.errors import DuplicateJob, IdempotencyConflict, RecordError
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.records import Inserted, NewRecord
from taurine.testing.recorded import RecordedJob

__all__ = ["Acceptance", "joined_to"]


class Acceptance:
    """Records that are accepted together: `jobs` and `keys` are what holds if all of them are. Quotas are not asked.

    jobs, keys: those that are there; they are not changed.
    """

    def __init__(
        self,
        job_type: JobType[Any, Any],
        jobs: dict[str, RecordedJob],
        keys: dict[tuple[str, str], tuple[IdempotencyKey, str]],
    ) -> None:
        self._job_type = job_type
        self.jobs = dict(jobs)
        self.keys = dict(keys)
        self.accepted: list[RecordedJob] = []

    def answer(self, record: NewRecord) -> Inserted | RecordError:
        """What becomes of a record."""
        key = record.idempotency
        if key is not None and (held := self._held(key, record.created_at)) is not None:
            return self._repeated(key, *held)
        if key is not None:
            self.keys[key.name] = (key, record.id)
        existing = self.jobs.get(record.id)
        if existing is None:
            self._put(RecordedJob(job_type=self._job_type, record=record))
            return Inserted(None)
        same = (existing.type, existing.tenant) == (record.type, record.tenant)
        if record.on_taken != "rerun" or not existing.has_ended or not same:
            return Inserted(existing.snapshot())
        again = RecordedJob(job_type=self._job_type, record=record, generation=existing.generation + 1)
        del self.jobs[record.id]  # it is the latest now
        self._put(again)
        return Inserted(again.snapshot(), rerun=True)

    def _held(self, key: IdempotencyKey, now: int) -> tuple[IdempotencyKey, str] | None:
        held = self.keys.get(key.name)
        return None if held is None or held[0].expires_at <= now else held

    def _repeated(self, key: IdempotencyKey, holder: IdempotencyKey, job_id: str) -> Inserted | RecordError:
        if holder.request_hash != key.request_hash:
            return IdempotencyConflict(
                f"the idempotency key {key.key!r:.80} was used for a request with other data, which became job {job_id!r}; use a key of its own for each request",
                job_id=job_id,
            )
        existing = self.jobs.get(job_id)
        if existing is None:
            return DuplicateJob(f"the idempotency key was used for job {job_id!r}", job_id=job_id)
        return Inserted(existing.snapshot())

    def _put(self, job: RecordedJob) -> None:
        self.jobs[job.id] = job
        self.accepted.append(job)


class _Joined:
    """The jobs of one session: firm when its transaction is committed, and dropped when that, or a savepoint that they
    stand in, is not.
    """

    def __init__(self, session: Session, dropped: Callable[[Sequence[RecordedJob]], None]) -> None:
        self._session = session
        self._dropped = dropped
        self._jobs: list[tuple[RecordedJob, Sequence[SessionTransaction]]] = []
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_soft_rollback", self._rolled_back)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, jobs: Sequence[RecordedJob]) -> None:
        """These join what the session is in now."""
        session = self._session
        if not session.in_transaction():
            session.begin()  # as production's first statement does
        around = tuple(_around(session.get_nested_transaction() or session.get_transaction()))
        self._jobs += [(job, around) for job in jobs]

    def _committed(self, session: Session) -> None:
        if (
            not session.in_nested_transaction()
        ):  # else a savepoint was released, and what is around it may still be rolled back
            self._jobs = []

    def _rolled_back(self, _: Session, transaction: SessionTransaction) -> None:
        gone = [job for job, around in self._jobs if transaction in around]
        self._jobs = [(job, around) for job, around in self._jobs if transaction not in around]
        self._dropped(gone)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:  # a session that is closed rolls back without a word
            self._rolled_back(session, transaction)


def joined_to(session: Session, dropped: Callable[[Sequence[RecordedJob]], None]) -> _Joined:
    """What joins this session's transaction. dropped: told of the jobs that were rolled back."""
    # By what is told, since one session may outlive several recorders.
    hooks: dict[Any, _Joined] = session.info.setdefault("taurine.testing", {})
    if dropped not in hooks:
        hooks[dropped] = _Joined(session, dropped)
    return hooks[dropped]


def _around(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    """A transaction and those that it stands in."""
    while transaction is not None:
        yield transaction
        transaction = transaction.parent
