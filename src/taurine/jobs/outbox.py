"""The outbox: the loop that hands accepted jobs to the queue which were not handed over in the call that accepted them.

Several may run at once, in any processes: adding is idempotent by id, and each adds a queue's jobs in the order of their acceptance.
"""

from __future__ import annotations

import asyncio
from random import Random

from taurine.clock import Clock
from taurine.jobs.catalog import Catalog
from taurine.jobs.dispatch import Dispatcher
from taurine.ledger.database import Database
from taurine.ledger.outbox import take_undispatched
from taurine.ledger.records import JobRecord
from taurine.service import Service

__all__ = ["Outbox"]

_BATCH = 500
"""Jobs of each queue that one pass hands over."""

_YOUNG_MS = 1000
"""Age from which a record is the outbox's affair: the call that accepted a younger one is about to hand it over itself."""


class Outbox(Service[int]):
    """The service. A pass returns how many jobs it handed over.

    rate: jobs a second at most, so that a backlog that an outage has left does not fall upon a server that has just come back. Default: 5,000.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        clock: Clock,
        random: Random,
        interval: float = 1.0,
        rate: float = 5000.0,
    ) -> None:
        super().__init__(name="outbox", interval=interval, clock=clock, random=random)
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._rate = rate
        self._asked = asyncio.Event()

    async def run_once(self) -> int:
        handed_over, before = 0, set[str]()
        while True:
            records = await self._next()
            ids = {record.id for record in records}
            if ids <= before:  # none, or none that could be stamped: what is left is another pass's
                return handed_over
            started, before = self._clock.monotonic(), ids
            handed_over += await self._dispatcher.dispatch(records)
            await self._clock.sleep(max(0.0, len(records) / self._rate - (self._clock.monotonic() - started)))

    async def _next(self) -> list[JobRecord]:
        age = 0 if self._asked.is_set() else _YOUNG_MS
        self._asked.clear()
        until = round(self._clock.now() * 1000) - age
        return await self._database.read(
            lambda connection: take_undispatched(connection, self._catalog.queues, _BATCH, until)
        )

    def ask(self) -> None:
        """Something was recorded that was not handed over: look soon, also at what is young."""
        self._asked.set()
        self.start()

    async def rest(self, seconds: float) -> None:
        await self._clock.wait(self._asked, seconds)
