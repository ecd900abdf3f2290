"""The outbox: the loop that hands accepted jobs to the queue which were not handed over in the call that accepted them.

Several may run at once, in any processes: adding is idempotent by id, and each adds a queue's jobs in the order of their acceptance. It looks every second, and at
once when this process has recorded something that the queue did not take. There is no NOTIFY between processes: each commit would pay for it, on a lock
that all commits of a PostgreSQL server share, to save a second in the rare case that a process died between its commit and its handing over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from taurine.clock import Clock
from taurine.errors import InvalidOption, JobError, StoreError
from taurine.jobs.catalog import Catalog
from taurine.jobs.dispatch import Dispatcher
from taurine.ledger.database import Database
from taurine.ledger.outbox import take_undispatched
from taurine.ledger.reconciliation import standings_of
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import TERMINAL
from taurine.service import Service

__all__ = ["Outbox"]

log = logging.getLogger("taurine.jobs")

_BATCH = 500
"""Jobs of each queue that one transaction of a pass reads."""

_YOUNG_MS = 1000
"""Age from which a record is the outbox's affair: the call that accepted a younger one is about to hand it over itself."""

_FIRST_PAUSE = 0.1
"""Seconds after a failed pass in which nothing is tried, however many jobs are recorded meanwhile; twice as long after each further one, up to the interval."""


class Outbox(Service[int]):
    """The service. A pass returns how many jobs it handed over.

    take_out: takes jobs out of their queues that have ended in the ledger while they were handed over.
    interval: seconds from one pass to the next. Default: 1.
    rate: jobs a second at most, so that a backlog that an outage has left does not fall upon a server that has just come back. Default: 5,000.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        take_out: Callable[[Sequence[JobRecord]], Awaitable[object]],
        clock: Clock,
        random: Random,
        interval: float = 1.0,
        rate: float = 5000.0,
    ) -> None:
        super().__init__(name="outbox", interval=interval, clock=clock, random=random)
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._take_out = take_out
        self._rate = rate
        self._asked = asyncio.Event()
        self._pause = 0.0

    async def run_once(self) -> int:
        age = 0 if self._asked.is_set() else _YOUNG_MS
        self._asked.clear()
        handed_over, before = 0, set[str]()
        try:
            while True:
                records = await self._next(age)
                ids = {record.id for record in records}
                if ids <= before:  # none, or none that could be handed over or stamped: what is left is another pass's
                    self._pause = 0.0
                    return handed_over
                started, before = self._clock.monotonic(), ids
                handed_over += await self._hand_over(records)
                await self._clock.sleep(max(0.0, len(records) / self._rate - (self._clock.monotonic() - started)))
        except Exception:
            self._pause = min(self.interval, self._pause * 2 or _FIRST_PAUSE)
            raise

    async def _next(self, age: int) -> list[JobRecord]:
        until = round(self._clock.now() * 1000) - age
        queues, types = self._catalog.queues, [job_type.name for job_type in self._catalog]
        return await self._database.read(
            lambda connection: take_undispatched(connection, queues, _BATCH, until, types=types)
        )

    async def _hand_over(self, records: Sequence[JobRecord]) -> int:
        try:
            handed_over = await self._dispatcher.dispatch(records)
        except (JobError, InvalidOption):
            handed_over = await self._hand_over_singly(records)
        await self._take_back(records)
        return handed_over

    async def _hand_over_singly(self, records: Sequence[JobRecord]) -> int:
        """One of them cannot be stored: it must not keep the others waiting."""
        handed_over = 0
        for record in records:
            try:
                handed_over += await self._dispatcher.dispatch([record])
            except (JobError, InvalidOption) as error:
                log.error("job %s (%s) is accepted and cannot be queued: %s", record.id, record.type, error)
        return handed_over

    async def _take_back(self, records: Sequence[JobRecord]) -> None:
        """Those that were cancelled, or expired, after they were read here must not wait in the queue."""
        ids = [record.id for record in records]
        standings = await self._database.read(lambda connection: standings_of(connection, ids))
        unwanted = {
            record.id
            for record in records
            if (now := standings.get(record.id)) and now.status in TERMINAL and now.status != "completed"
        }
        if unwanted:
            try:
                await self._take_out([record for record in records if record.id in unwanted])
            except StoreError as error:
                log.debug("jobs that have ended wait for the reconciler to take them out: %s", error)

    def ask(self) -> None:
        """Something was recorded that was not handed over: look soon, also at what is young."""
        self._asked.set()
        self.start()

    async def rest(self, seconds: float) -> None:
        if self._pause:
            await self._clock.sleep(self._pause)
            self._asked.set()
        await self._clock.wait(self._asked, seconds)
