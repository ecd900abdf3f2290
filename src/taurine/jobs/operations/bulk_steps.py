"""One step of a bulk operation: up to a hundred jobs or dead letters, changed in one transaction.

A step may be repeated, after a crash between its commit and the saving of the place: what was changed is not changed a second time, since it no longer has the status, or no longer
ended before the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from taurine.errors import AccessError, RecordError, RecordNotFound, TransitionRefused
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.operations.bulk_orders import BulkOrder
from taurine.jobs.operations.cancelling import cancel_together
from taurine.jobs.operations.dead_letters import DeadLetters
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.dead_letters import get_dead_letters, list_dead_letters
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.listing import Position
from taurine.ledger.records import JobRecord
from taurine.ledger.selecting import Chosen, choose, chosen_of, lock_chosen

__all__ = ["STEP", "BulkStep", "Taken"]

STEP = 100
"""Jobs or entries of one step."""


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

    async def take(self, place: Any, most: int) -> Taken:
        """The next step from a place on, None for the first; at most `most` of them. Raises LedgerUnavailable, LedgerRefused, PayloadError."""
        if self._order.action in ("redrive", "discard"):
            return await self._take_entries(place, most)
        return await self._take_jobs(place, most)

    # Dead letters ---------------------------------------------------------------------------------------------------------------------

    async def _take_entries(self, place: Any, most: int) -> Taken:
        entries, taken = await self._entries(place, most)
        allowed = await self._allowed(entries, taken, lambda entry: (entry.id, entry.type, entry.tenant))
        if allowed:
            change = (
                self._dead_letters.redrive_together
                if self._order.action == "redrive"
                else self._dead_letters.discard_together
            )
            answers = await change(allowed, self._user)
            taken.add(answers, [entry.id for entry in allowed])
        return taken

    async def _entries(self, place: Any, most: int) -> tuple[Sequence[DeadLetter], Taken]:
        order = self._order
        if order.ids is not None:
            ids, taken = self._named(order.ids, place, most)
            found = await self._read(lambda connection: get_dead_letters(connection, ids))
            mine = [entry for entry in found if order.tenant is None or entry.tenant == order.tenant]
            taken.skipped += len(ids) - len(mine)
            return mine, taken
        wanted = order.where.entries(before=order.before, tenant=order.tenant)
        page = await self._read(lambda connection: list_dead_letters(connection, wanted, cursor=place, limit=most))
        return page.entries, Taken(page.next_cursor)

    # Jobs -----------------------------------------------------------------------------------------------------------------------------

    async def _take_jobs(self, place: Any, most: int) -> Taken:
        jobs, taken = await self._jobs(place, most)
        allowed = await self._allowed(jobs, taken, lambda job: (job.id, job.type, job.tenant))
        if not allowed:
            return taken
        if self._order.action == "retry":
            await self._retry(allowed, taken)
        else:
            ids = [job.id for job in allowed]
            outcome = await cancel_together(self._backend, ids, reason=self._order.reason, user=self._user)
            taken.done += len(outcome.at_once) + len(outcome.told)
            taken.skipped += len(outcome.refused)
        return taken

    async def _jobs(self, place: Any, most: int) -> tuple[Sequence[Chosen], Taken]:
        order = self._order
        if order.ids is not None:
            ids, taken = self._named(order.ids, place, most)
            jobs = await self._read(lambda connection: chosen_of(connection, ids, order.tenant))
            taken.skipped += len(ids) - len(jobs)
            return jobs, taken
        selection = order.where.selection(order.action, before=order.before, tenant=order.tenant)
        after = None if place is None else Position(*place)
        jobs = await self._read(lambda connection: choose(connection, selection, after, most))
        return jobs, Taken(None if len(jobs) < most else [*jobs[-1].position])

    async def _retry(self, jobs: Sequence[Chosen], taken: Taken) -> None:
        order, catalog = self._order, self._backend.catalog
        statuses = (
            order.where.statuses("retry") if order.ids is None else ("cancelled", "completed", "expired", "failed")
        )
        now = round(self._backend.clock.now() * 1000)
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

    def _named(self, ids: Sequence[str], place: Any, most: int) -> tuple[Sequence[str], Taken]:
        first = place or 0
        step = ids[first : first + most]
        following = first + len(step)
        return step, Taken(following if following < len(ids) else None)

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
