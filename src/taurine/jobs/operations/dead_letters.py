"""Dead letters: looking at jobs that failed for good, running them again, putting them aside, and hearing when there
are too many.

The entries are written with the final status of their jobs, in one transaction; nothing here makes any.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar, overload

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import InvalidOption, RecordError, RecordNotFound
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.operations.mirror import remove_mirrored
from taurine.jobs.operations.operating import checked_payload
from taurine.ledger.attempts import Attempt, latest_attempts
from taurine.ledger.audit import AuditEntry, actions_on
from taurine.ledger.dead_letter_entry import DeadLetter, DeadLetterStatus
from taurine.ledger.dead_letters import (
    DeadLetterFilter,
    Discard,
    Redrive,
    depth,
    discard,
    find_dead_letter,
    get_dead_letter,
    list_dead_letters,
    redrive,
)
from taurine.ledger.job_logs import NumberedLine, read_lines
from taurine.ledger.records import JobRecord, get_record
from taurine.options import require_count, to_seconds
from taurine.paging import Listing

__all__ = ["DeadLetters", "Examination", "Outcomes", "Selection"]

log = logging.getLogger("taurine.jobs")

ResultT = TypeVar("ResultT")
DoneT = TypeVar("DoneT", JobRecord, DeadLetter)

Entry: TypeAlias = "str | DeadLetter"
Selection: TypeAlias = "Entry | Sequence[Entry] | DeadLetterFilter"
"""Which entries: one by its id or itself, several, or all that a filter lets through."""

_STEP = 100
"""Entries that are dealt with in one transaction."""

_EXAMINED = 1000
"""Attempts, lines and actions that are read of one job, the latest of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything that is known of a dead letter, to judge it by.

    entry: the dead letter itself: why and when the job failed for good, and whether somebody has dealt with it.
    record: of its job, as it is now; None when it is no longer kept, and then attempts and lines are gone with it.
    attempts: of its generation and those before, oldest first. lines: what its handler wrote. actions: who did what to
    the job. Of each the latest 1,000.
    """

    entry: DeadLetter
    record: JobRecord | None
    attempts: Sequence[Attempt]
    lines: Sequence[NumberedLine]
    actions: Sequence[AuditEntry]


@dataclass(frozen=True)
class Outcomes(Generic[DoneT]):
    """What became of many entries.

    done: the jobs that run again, or the entries that were put aside. refused: why others were not.
    """

    done: list[DoneT] = field(default_factory=list[Any])
    refused: list[RecordError] = field(default_factory=list[RecordError])


class DeadLetters:
    """Jobs that failed for good: `Taurine.dead_letters`.

    Everything that names an entry takes `tenant`: another tenant's entry is none then.
    """

    def __init__(self, backend: Callable[[], Backend], authorize: Authorize | None) -> None:
        self._backend_here = backend
        self._authorize = authorize

    # Looking ------------------------------------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        status: DeadLetterStatus | None = "open",
        queue: str | None = None,
        type: str | None = None,  # noqa: A002 - what it is called everywhere
        tenant: str | None = None,
        fingerprint: str | None = None,
        job_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Listing[DeadLetter]:
        """Entries, the latest failure first: `await` gives one page, `async for` goes over all.

        status: "open" (default), "redriven", "discarded", or None for all. fingerprint: of the error, to find all of
        one cause.
        cursor: `next_cursor` of the page before. limit: entries of a page, 1 to 500. Default: 50.
        Raises InvalidOption, LedgerUnavailable.
        """
        wanted = DeadLetterFilter(
            status=status, queue=queue, type=type, tenant=tenant, error_fingerprint=fingerprint, job_id=job_id
        )

        async def fetch(position: str | None) -> tuple[Sequence[DeadLetter], str | None]:
            return await self._read(
                lambda connection: list_dead_letters(connection, wanted, cursor=position, limit=limit)
            )

        return Listing(fetch, cursor)

    async def get(self, entry_or_job_id: str, *, tenant: str | None = None) -> DeadLetter | None:
        """The entry of this id, or else the latest one of the job of this id, whatever became of it; None where there
        is none.

        Raises LedgerUnavailable.
        """
        entry = await self._read(lambda connection: find_dead_letter(connection, entry_or_job_id))
        return None if entry is None or (tenant is not None and entry.tenant != tenant) else entry

    async def examine(self, which: Entry, *, tenant: str | None = None) -> Examination:
        """The entry with the attempts of its job, their errors and times, the log lines, and who did what, the latest
        1,000 of each. One consistent view.

        Raises RecordNotFound, LedgerUnavailable.
        """
        return await self._read(lambda connection: _examine(connection, _id_of(which), tenant))

    async def depth(self) -> dict[str, int]:
        """How many entries of each queue nobody has dealt with; queues without one are left out."""
        return await self._read(depth)

    # Dealing with them ----------------------------------------------------------------------------------------------------------------

    @overload
    async def redrive(
        self, which: Entry, *, payload: Any = None, user: str | None = None, tenant: str | None = None
    ) -> JobRecord: ...
    @overload
    async def redrive(
        self,
        which: Sequence[Entry] | DeadLetterFilter,
        *,
        user: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        rate: float | None = None,
    ) -> Outcomes[JobRecord]: ...
    async def redrive(
        self,
        which: Selection,
        *,
        payload: Any = None,
        user: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        rate: float | None = None,
    ) -> JobRecord | Outcomes[JobRecord]:
        """Run jobs of entries again, each as a new generation with all its attempts.

        One entry: returns the job's new record. payload: in place of the one that failed, checked against the job type;
        None for the same.
        Several, or a filter: returns `Outcomes`. limit: most entries, so that a cure can be tried on a few first; of a
        filter those that failed last.
        Default: all. rate: jobs a second at most. Default: as fast as it goes. Jobs that fail again meanwhile are not
        taken a second time.

        Entry, record and audit change together; up to 100 entries are one transaction, and those of a call that was cut
        short stay as they are.
        The queue is told as by an enqueue, so that a server of queues that is down delays the jobs and nothing else.
        user: who asks for it.

        Raises, for one entry, RecordNotFound, and TransitionRefused when it was dealt with, or when its job runs or has
        completed meanwhile; for several such errors are in `refused`. Raises NotAuthorized, UnknownJobType,
        PayloadInvalid, TenantMismatch, InvalidOption, LedgerUnavailable.
        """
        if isinstance(which, str | DeadLetter):
            outcomes = await self._redrive([await self._entry(which, tenant)], user, payload)
            return _only(outcomes)
        if payload is not None:
            raise InvalidOption("an edited payload can be of one entry only; redrive it by its id")
        outcomes = Outcomes[JobRecord]()
        async for entries in self._steps(which, tenant, limit, rate, outcomes.refused):
            _add(outcomes, await self._redrive(entries, user, None))
        return outcomes

    @overload
    async def discard(self, which: Entry, *, user: str | None = None, tenant: str | None = None) -> DeadLetter: ...
    @overload
    async def discard(
        self,
        which: Sequence[Entry] | DeadLetterFilter,
        *,
        user: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
    ) -> Outcomes[DeadLetter]: ...
    async def discard(
        self, which: Selection, *, user: str | None = None, tenant: str | None = None, limit: int | None = None
    ) -> DeadLetter | Outcomes[DeadLetter]:
        """Put entries aside: their jobs stay failed, and nobody need look at them any more.

        They are kept, and can be listed.

        Takes and returns what `redrive` does, with entries in place of records, and raises as it does.
        """
        if isinstance(which, str | DeadLetter):
            return _only(await self._discard([await self._entry(which, tenant)], user))
        outcomes = Outcomes[DeadLetter]()
        async for entries in self._steps(which, tenant, limit, None, outcomes.refused):
            _add(outcomes, await self._discard(entries, user))
        return outcomes

    async def _redrive(
        self, entries: Sequence[DeadLetter], user: str | None, payload: Any
    ) -> Sequence[JobRecord | RecordError]:
        await self._allow("redrive", entries, user, payload)
        return await self.redrive_together(entries, user, payload)

    async def redrive_together(
        self, entries: Sequence[DeadLetter], user: str | None, payload: Any = None
    ) -> Sequence[JobRecord | RecordError]:
        """Redrive up to 100 entries in one transaction, without asking whether `user` may; returns for each its job's
        record, or what forbids it.
        """
        backend = self._backend_here()
        texts = [
            None if payload is None else checked_payload(backend, entry.type, entry.tenant, payload)
            for entry in entries
        ]
        now = now_ms(self._backend_here().clock)
        declared = [backend.catalog.find(entry.type) for entry in entries]
        items = [
            Redrive(entry.id, now, user, text, queue=job_type and job_type.queue)
            for entry, text, job_type in zip(entries, texts, declared, strict=True)
        ]
        answers = await backend.database.write(lambda connection: redrive(connection, items))
        await backend.prompt.hand_over(again=[answer for answer in answers if isinstance(answer, JobRecord)])
        await self._forget_mirrored(entries, answers)
        return answers

    async def _discard(self, entries: Sequence[DeadLetter], user: str | None) -> Sequence[DeadLetter | RecordError]:
        await self._allow("discard", entries, user, None)
        return await self.discard_together(entries, user)

    async def discard_together(
        self, entries: Sequence[DeadLetter], user: str | None
    ) -> Sequence[DeadLetter | RecordError]:
        """Discard up to 100 entries in one transaction, without asking whether `user` may; returns each as it is then,
        or what forbids it.
        """
        items = [Discard(entry.id, now_ms(self._backend_here().clock), user) for entry in entries]
        answers = await self._backend_here().database.write(lambda connection: discard(connection, items))
        await self._forget_mirrored(entries, answers)
        return answers

    async def _forget_mirrored(
        self, entries: Sequence[DeadLetter], answers: Sequence[JobRecord | DeadLetter | RecordError]
    ) -> None:
        dealt_with = [
            entry for entry, answer in zip(entries, answers, strict=True) if not isinstance(answer, RecordError)
        ]
        await remove_mirrored(self._backend_here(), dealt_with)

    async def _allow(self, action: str, entries: Sequence[DeadLetter], user: str | None, payload: Any) -> None:
        for entry in entries:
            request = AccessRequest(action=action, job_type=entry.type, tenant=entry.tenant, user=user, payload=payload)
            await authorized(self._authorize, request)

    # Choosing -------------------------------------------------------------------------------------------------------------------------

    async def _steps(
        self,
        which: Sequence[Entry] | DeadLetterFilter,
        tenant: str | None,
        limit: int | None,
        rate: float | None,
        refused: MutableSequence[RecordError],
    ) -> AsyncIterator[Sequence[DeadLetter]]:
        """The chosen entries in steps, no faster than `rate`; ids that name none are noted in `refused`."""
        most = None if limit is None else require_count(limit, "limit", minimum=0)
        if rate is not None and to_seconds(rate, "rate") <= 0:
            raise InvalidOption(f"expected rate to be jobs a second above 0, got {rate!r:.40}")
        clock = self._backend_here().clock
        # At a low rate a step is what a second allows, so that it is a stream and not a burst now and then.
        size = _STEP if rate is None else max(1, min(_STEP, int(rate)))
        step: list[DeadLetter] = []
        taken = 0
        async for entry in self._chosen(which, tenant, refused):
            if most is not None and taken == most:
                break
            step.append(entry)
            taken += 1
            if len(step) == size:
                started = clock.monotonic()
                yield step
                if rate is not None:
                    await clock.sleep(len(step) / rate - (clock.monotonic() - started))
                step = []
        if step:
            yield step

    async def _chosen(
        self, which: Sequence[Entry] | DeadLetterFilter, tenant: str | None, refused: MutableSequence[RecordError]
    ) -> AsyncIterator[DeadLetter]:
        if isinstance(which, DeadLetterFilter):
            async for entry in self._matching(which if tenant is None else replace(which, tenant=tenant)):
                yield entry
            return
        for one in which:
            try:
                yield await self._entry(one, tenant)
            except RecordNotFound as error:
                refused.append(error)

    def _matching(self, wanted: DeadLetterFilter) -> Listing[DeadLetter]:
        async def fetch(position: str | None) -> tuple[Sequence[DeadLetter], str | None]:
            return await self._read(
                lambda connection: list_dead_letters(connection, wanted, cursor=position, limit=_STEP)
            )

        return Listing(fetch, None)

    async def _entry(self, which: Entry, tenant: str | None) -> DeadLetter:
        """The entry as it is now: what a caller holds may be old, or another tenant's."""
        found = await self.get(_id_of(which), tenant=tenant)
        if found is None:
            raise _not_found(_id_of(which))
        return found

    async def _read(self, work: Callable[[Connection], ResultT]) -> ResultT:
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.read(work)


def _examine(connection: Connection, entry_id: str, tenant: str | None) -> Examination:
    entry = get_dead_letter(connection, entry_id)
    if entry is None or (tenant is not None and entry.tenant != tenant):
        raise _not_found(entry_id)
    record = get_record(connection, entry.job_id)
    if record is not None and record.tenant != entry.tenant:
        record = None  # entries outlive records: another tenant has a job of this id by now
    lines = [] if record is None else read_lines(connection, entry.job_id, limit=_EXAMINED, newest_first=True)[::-1]
    return Examination(
        entry=entry,
        record=record,
        attempts=[]
        if record is None
        else latest_attempts(connection, record, generation=entry.generation, limit=_EXAMINED),
        lines=lines,
        actions=[
            action for action in actions_on(connection, entry.job_id, limit=_EXAMINED) if action.tenant == entry.tenant
        ],
    )


def _id_of(which: Entry) -> str:
    return which if isinstance(which, str) else which.id


def _not_found(entry_id: str) -> RecordNotFound:
    return RecordNotFound(f"the ledger holds no dead letter {entry_id!r:.80}", job_id=entry_id)


def _only(answers: Sequence[DoneT | RecordError]) -> DoneT:
    (answer,) = answers
    if isinstance(answer, RecordError):
        raise answer
    return answer


def _add(outcomes: Outcomes[DoneT], answers: Sequence[DoneT | RecordError]) -> None:
    for answer in answers:
        if isinstance(answer, RecordError):
            outcomes.refused.append(answer)
        else:
            outcomes.done.append(answer)
