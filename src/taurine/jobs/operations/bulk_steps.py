"""One step of a bulk operation: up to a hundred jobs or dead letters, changed in one transaction.

Which they are is chosen first and saved, and they are changed after that. A step may be repeated, after a crash between
its commit and the saving of its result: it has the same ids then, so that it is counted once. What was changed is not
changed a second time, since it no longer has the status, or no longer ended before the snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import AccessError, RecordError, RecordNotFound, TransitionRefused
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.operations.bulk_orders import BulkOrder
from taurine.jobs.operations.cancelling import cancel_together
from taurine.jobs.operations.dead_letters import DeadLetters
from taurine.ledger.dead_letters import get_dead_letters, list_dead_letters
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.listing import Position
from taurine.ledger.records import JobRecord
from taurine.ledger.selecting import Chosen, choose, chosen_of, lock_chosen

__all__ = ["STEP", "BulkStep", "Reach", "Taken"]

STEP = 100
"""Jobs or entries of one step."""

_CHARACTERS = 32 * 1024
"""Of the ids of one step, as JSON: the state of a job, where they are kept, takes twice that. Ids may be long."""


class Reach(NamedTuple):
    """What a step is to change, as JSON can keep it.

    ids: of jobs or entries. place: where the next step begins; None when there is none.
    """

    ids: Sequence[str]
    place: Any


@dataclass
class Taken:
    """What a step came to. place: where the next one begins; None when there is none."""

    place: Any
    done: int = 0
    skipped: int = 0
    refused: list[tuple[str, Exception]] = field(default_factory=list[tuple[str, Exception]])

    def add(self, answers: Sequence[object], ids: Sequence[str]) -> None:
        """Count answers: what was done, or an error."""
        for one, answer in zip(ids, answers, strict=True):
            if isinstance(answer, TransitionRefused | RecordNotFound):
                self.skipped += 1
            elif isinstance(answer, RecordError):
                self.refused.append((one, answer))
            else:
                self.done += 1


class BulkStep:
    """The steps of one order, for whoever asked for it. user: who that was."""

    def __init__(self, order: BulkOrder, *, backend: Backend, authorize: Authorize | None, user: str | None) -> None:
        self._order = order
        self._backend = backend
        self._authorize = authorize
        self._user = user
        self._dead_letters = DeadLetters(lambda: backend, authorize)

    async def choose(self, place: Any, most: int) -> Reach:
        """What the next step changes, from a place on, None for the first; at most `most` of them.

        Raises LedgerUnavailable.
        """
        order = self._order
        if order.ids is not None:
            first = place or 0
            ids = _short_enough(order.ids[first : first + most])
            following = first + len(ids)
            return Reach(ids, following if following < len(order.ids) else None)
        if self._about_entries:
            wanted = order.where.entries(before=order.before, tenant=order.tenant)
            page = await self._read(lambda connection: list_dead_letters(connection, wanted, cursor=place, limit=most))
            return Reach([entry.id for entry in page.entries], page.next_cursor)
        selection = order.where.selection(order.action, before=order.before, tenant=order.tenant)
        after = None if place is None else Position(*place)
        jobs = await self._read(lambda connection: choose(connection, selection, after, most))
        ids = _short_enough([job.id for job in jobs])
        is_last = len(ids) == len(jobs) < most
        return Reach(ids, None if is_last else [*jobs[len(ids) - 1].position])

    async def take(self, reach: Reach) -> Taken:
        """Change them, those of them that still are as they were chosen.

        Raises LedgerUnavailable, LedgerRefused, PayloadError.
        """
        taken = Taken(reach.place)
        if self._about_entries:
            await self._take_entries(reach.ids, taken)
        else:
            await self._take_jobs(reach.ids, taken)
        return taken

    @property
    def _about_entries(self) -> bool:
        return self._order.action in ("redrive", "discard")

    # Dead letters ---------------------------------------------------------------------------------------------------------------------

    async def _take_entries(self, ids: Sequence[str], taken: Taken) -> None:
        order = self._order
        found = await self._read(lambda connection: get_dead_letters(connection, ids))
        mine = [entry for entry in found if order.tenant is None or entry.tenant == order.tenant]
        taken.skipped += len(ids) - len(mine)
        allowed = await self._allowed(mine, taken, lambda entry: (entry.id, entry.type, entry.tenant))
        if allowed:
            change = (
                self._dead_letters.redrive_together
                if order.action == "redrive"
                else self._dead_letters.discard_together
            )
            answers = await change(allowed, self._user)
            taken.add(answers, [entry.id for entry in allowed])

    # Jobs -----------------------------------------------------------------------------------------------------------------------------

    async def _take_jobs(self, ids: Sequence[str], taken: Taken) -> None:
        order = self._order
        # A retry looks at the status under its lock.
        statuses = order.where.statuses("cancel") if order.action == "cancel" and order.ids is None else None
        jobs = await self._read(lambda connection: chosen_of(connection, ids, order.tenant, statuses))
        taken.skipped += len(ids) - len(jobs)
        allowed = await self._allowed(jobs, taken, lambda job: (job.id, job.type, job.tenant))
        if not allowed:
            return
        if order.action == "retry":
            await self._retry(allowed, taken)
        else:
            outcome = await cancel_together(
                self._backend, [job.id for job in allowed], reason=order.reason, user=self._user
            )
            taken.done += len(outcome.at_once) + len(outcome.told)
            taken.skipped += len(outcome.refused)

    async def _retry(self, jobs: Sequence[Chosen], taken: Taken) -> None:
        order, catalog = self._order, self._backend.catalog
        statuses = (
            order.where.statuses("retry") if order.ids is None else ("cancelled", "completed", "expired", "failed")
        )
        now = now_ms(self._backend.clock)
        queues = {job.id: declared.queue for job in jobs if (declared := catalog.find(job.type)) is not None}

        def retry(connection: Connection) -> list[JobRecord | None]:
            ids = lock_chosen(connection, [job.id for job in jobs], statuses, order.before)
            items = [
                NewGeneration(id=one, at=now, action="retry", actor=self._user, queue=queues.get(one)) for one in ids
            ]
            return start_generation(connection, items)

        answers = await self._backend.database.write(retry)
        started = [record for record in answers if record is not None]
        taken.done += len(started)
        taken.skipped += len(jobs) - len(started)
        await self._backend.prompt.hand_over(again=started)

    # Both -----------------------------------------------------------------------------------------------------------------------------

    async def _allowed(
        self, found: Sequence[Any], taken: Taken, words: Callable[[Any], tuple[str, str, str | None]]
    ) -> list[Any]:
        """Those that the hook lets through. What it does not is refused by itself, and the others go on."""
        if self._authorize is None:
            return list(found)
        allowed: list[Any] = []
        for one in found:
            name, job_type, tenant = words(one)
            request = AccessRequest(action=self._order.action, job_type=job_type, tenant=tenant, user=self._user)
            try:
                await authorized(self._authorize, request)
            except AccessError as error:
                taken.refused.append((name, error))
            else:
                allowed.append(one)
        return allowed

    async def _read(self, work: Callable[[Connection], Any]) -> Any:
        await self._backend.ready()
        return await self._backend.database.read(work)


def _short_enough(ids: Sequence[str]) -> Sequence[str]:
    """The first of these ids, as many as may be kept together; at least one where there is one."""
    length = 0
    for number, one in enumerate(ids):
        length += len(json.dumps(one)) + 1
        if number and length > _CHARACTERS:
            return ids[:number]
    return ids
