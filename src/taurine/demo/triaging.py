"""The first act: all tickets are triaged and exported, and one of two workers is killed half-way."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from taurine.demo.children import Child
from taurine.demo.desk import EXPORTS, LEASE, LOOKS, REPORTS, TRIAGE, WATCHES, Desk
from taurine.demo.display import Display, Show
from taurine.demo.exporting import Export, Exported
from taurine.demo.mailbox import Mailbox
from taurine.demo.mailing import DOMAIN
from taurine.demo.triage import TicketNumber, letter_name
from taurine.demo.verdict import Evidence
from taurine.demo.waiting import until
from taurine.jobs.enqueue.handle import JobHandle
from taurine.queue import Connection, Queue

__all__ = ["Triaging"]

_TWICE = 100
"""Tickets that are enqueued a second time, at most."""

_PAGES = 40
"""Pages of the export."""

_SHOWN = 3


class Triaging:
    """The first act. connection: to the queues themselves, to see who is connected to them and what each holds."""

    def __init__(
        self, desk: Desk, mailbox: Mailbox, connection: Connection, display: Display, evidence: Evidence
    ) -> None:
        self._desk = desk
        self._mailbox = mailbox
        prefix = desk.app.settings.prefix
        self._queues = {name: Queue(name, connection, prefix=prefix) for name in (TRIAGE, EXPORTS, REPORTS, WATCHES)}
        self._display = display
        self._evidence = evidence
        self._triaged = 0

    async def run(self, survivors: list[Child]) -> JobHandle[Exported]:
        """Returns the export, which waits for one more ticket.

        survivors: the workers; the one that is killed is taken out.

        Raises Stuck, ChildFailed, TaurineError.
        """
        await self._until_connected(survivors)
        say = self._display.say
        say("workers", f"{' and '.join(f'{worker.name} (process {worker.pid})' for worker in survivors)}")
        say(
            "",
            f"leases of {LEASE:g} s, looked at every {LOOKS:g} s, so that one sees the recovery; by default 30 s both",
        )
        export = await self._enqueue()
        total = len(self._evidence.tickets)
        with self._display.progress({"triage": total, "export": total}) as show:
            await self._kill_one(survivors, export, show)
            await until(
                lambda: self._all_ended(total, export, show),
                "all tickets to be triaged",
                needs=survivors,
                moved=lambda: self._triaged,
            )
        return export

    async def _until_connected(self, expected: Collection[Child]) -> None:
        """Wait until the server has these workers and no other."""
        names = {child.name for child in expected}

        async def found() -> bool | None:
            return {worker.name for worker in await self._queues[TRIAGE].workers() or ()} == names or None

        await until(found, f"the workers {', '.join(sorted(names))}", needs=expected)

    async def _enqueue(self) -> JobHandle[Exported]:
        numbers, say = list(self._evidence.tickets), self._display.say
        handles = await self._desk.triage.enqueue_many([TicketNumber(number=number) for number in numbers])
        again = numbers[:_TWICE]
        duplicates = await self._desk.triage.enqueue_many([TicketNumber(number=number) for number in again])
        page = max(1, min(50, len(numbers) // _PAGES))
        export = await self._desk.export.enqueue(Export(name="all-tickets", page=page))
        self._evidence.enqueued_again = again
        self._evidence.duplicates = sum(handle.duplicate for handle in duplicates)
        say(
            "accepted",
            f"{sum(not handle.duplicate for handle in handles):,} tickets for triage, and an export of them all",
        )
        say(
            "duplicates",
            f"{len(again):,} tickets enqueued again: {self._evidence.duplicates:,} refused, nothing runs twice",
        )
        return export

    # Killing ----------------------------------------------------------------------------------------------------------------------

    async def _kill_one(self, workers: list[Child], export: JobHandle[Exported], show: Show) -> None:
        """Kill the worker of the export, when letters of its own are taken by the mail server and it does not know."""
        before: list[str] = []

        async def to_die() -> Child | None:
            nonlocal before
            await self._show_progress(export, show)
            names = {job.processed_by for job in await self._queues[EXPORTS].get_jobs("active")}
            victim = next((worker for worker in workers if worker.name in names), None)
            if victim is None or not await _written(export):
                return None
            in_doubt = self._in_doubt(await self._held_by(victim.name))
            still, before = in_doubt == before, in_doubt
            return victim if in_doubt and still else None

        victim = await until(
            to_die, "the mail server to be slow with half of the letters", needs=workers, moved=lambda: self._triaged
        )
        await victim.kill()
        workers.remove(victim)
        # Until its connections are gone, what it had sent before its death may still run.
        await self._until_connected(workers)
        killed = self._evidence.killed
        killed.name, killed.held = victim.name, await self._held_by(victim.name)
        killed.in_doubt = self._in_doubt(killed.held)
        self._desk.office.places.mail_goes_on.touch()
        shown = ", ".join(itertools.islice(killed.held, _SHOWN))
        self._display.say(
            "kill -9", f"{victim.name} after {self._triaged:,} tickets; it held {len(killed.held)} jobs: {shown}, …"
        )
        self._display.say("", f"the mail server had taken {len(killed.in_doubt)} of their letters, and not said so yet")

    async def _held_by(self, name: str) -> list[str]:
        jobs = [job for queue in self._queues.values() for job in await queue.get_jobs("active")]
        return sorted(job.id for job in jobs if job.processed_by == name)

    def _in_doubt(self, held: Collection[str]) -> list[str]:
        unanswered = self._mailbox.unanswered()
        numbers = {job_id: job_id.removeprefix("triage:") for job_id in held if job_id.startswith("triage:")}
        return [job_id for job_id, number in numbers.items() if f"{letter_name(int(number))}@{DOMAIN}" in unanswered]

    # Looking on -------------------------------------------------------------------------------------------------------------------

    async def _all_ended(self, total: int, export: JobHandle[Exported], show: Show) -> bool | None:
        counts = await self._show_progress(export, show)
        return counts.get("completed", 0) + counts.get("failed", 0) == total or None

    async def _show_progress(self, export: JobHandle[Exported], show: Show) -> dict[str, int]:
        counts = {status: count.number for status, count in (await self._desk.app.counts(queue=TRIAGE)).items()}
        self._triaged = counts.get("completed", 0)
        show("triage", self._triaged)
        show("export", await _written(export))
        return counts


async def _written(export: JobHandle[Exported]) -> int:
    """The tickets that the export's record says are written."""
    progress: dict[str, Any] | None = (await export.record()).progress
    return 0 if progress is None else round(progress["done"])
