"""The second act: what users and operators see of a job that failed for good, of one that they no longer want, and of
one that comes back by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection

from taurine.demo.children import Child
from taurine.demo.desk import Desk, Watch
from taurine.demo.display import Display
from taurine.demo.exporting import Exported
from taurine.demo.mailbox import Mailbox
from taurine.demo.mailing import DOMAIN
from taurine.demo.triage import letter_name
from taurine.demo.verdict import Evidence
from taurine.demo.waiting import PATIENCE, until
from taurine.errors import JobCancelled
from taurine.jobs.enqueue.handle import JobHandle

__all__ = ["Mending"]

_A_TICK = 90.0
"""Seconds within which the report's time comes: it is once a minute."""


class Mending:
    """The second act."""

    def __init__(self, desk: Desk, mailbox: Mailbox, display: Display, evidence: Evidence) -> None:
        self._desk = desk
        self._mailbox = mailbox
        self._say = display.say
        self._evidence = evidence

    async def run(self, export: JobHandle[Exported], workers: Collection[Child]) -> str:
        """Returns the id of the watch.

        Raises TaurineError where the application does not answer as it should, Stuck, ChildFailed.
        """
        await self._redrive()
        result = await export.result(timeout=PATIENCE)
        self._say(
            "export",
            f"{result.tickets:,} tickets in CSV; a second worker went on with it at line {result.resumed_at:,}",
        )
        watch_id = await self._cancel(workers)
        await self._until_reported(workers)
        return watch_id

    async def _redrive(self) -> None:
        app, poison, tickets = self._desk.app, self._evidence.poison, self._desk.office.tickets
        record = await app.wait(poison.job_id, timeout=PATIENCE)
        assert record is not None
        poison.status_at_death, poison.team_at_death = record.status, tickets.teams().get(poison.number)
        poison.letters_at_death = self._letters(poison.number)
        (letter,) = await app.dead_letters.list(job_id=poison.job_id)
        self._say("dead", f"{poison.job_id} {record.status} in {record.attempts} attempts")
        self._say("", (await app.why(poison.job_id)).sentence)

        tickets.mend(poison.number)
        await app.dead_letters.redrive(letter, user="demo")
        record = await app.wait(poison.job_id, timeout=PATIENCE)
        assert record is not None
        self._say("redrive", f"the ticket's text is mended, and the dead letter redriven: {record.status}")

    async def _cancel(self, workers: Collection[Child]) -> str:
        handle = await self._desk.watch.enqueue(Watch(name="night"))

        async def running() -> bool | None:
            return (await handle.record()).status == "running" or None

        await until(running, "the watch to begin", needs=workers)
        started = time.monotonic()
        await handle.cancel(reason="it is morning", user="demo")
        with contextlib.suppress(JobCancelled):
            await handle.result(timeout=PATIENCE)
        record = await handle.record()
        self._say(
            "cancel",
            f"a watch that runs for ever heard of it {time.monotonic() - started:.1f} s later, in another process; its {record.output} looks are kept",
        )
        return handle.id

    async def _until_reported(self, workers: Collection[Child]) -> None:
        async def reported() -> str | None:
            name = next(iter(self._desk.office.tickets.reports()), None)
            return name if name and self._mailbox.find(f"{name}@{DOMAIN}") else None

        if await reported() is None:
            self._say("schedule", "waiting for the report's next time, which comes once a minute")
        name = await until(reported, "the report's time", needs=workers, patience=_A_TICK)
        self._say("schedule", f"ticked, and the report went out: {name}")

    def _letters(self, number: int) -> int:
        return sum(letter.message_id == f"{letter_name(number)}@{DOMAIN}" for letter in self._mailbox.letters())
