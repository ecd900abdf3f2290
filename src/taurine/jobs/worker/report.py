"""What a worker tells the ledger every few seconds: how it is, and what its jobs came to.

Both go in one transaction, and that is what makes the counts exact: a report whose commit may or may not have happened
is found, or not, by the time that the worker's row shows, and is added once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random

from sqlalchemy import Connection

from taurine.clock import Clock
from taurine.errors import LedgerError
from taurine.jobs.reporting.tally import Tally
from taurine.ledger.database import Database
from taurine.ledger.tallies import TallyCount, add_tallies
from taurine.ledger.workers import WorkerRow, write_worker
from taurine.service import Service

__all__ = ["WorkerReport"]

log = logging.getLogger("taurine.jobs")

_LAST_WORD = 2.0
"""Seconds that the last report of a worker that stops may take."""


class WorkerReport(Service[int]):
    """The service. A pass returns how many rows of counts it has added.

    look: the worker as it is now. Its counts are kept until the ledger has taken them, however long it is away.
    interval: seconds from one report to the next.
    """

    def __init__(
        self,
        *,
        database: Database,
        tally: Tally,
        look: Callable[[], WorkerRow],
        clock: Clock,
        random: Random,
        interval: float,
    ) -> None:
        super().__init__(name="report", interval=interval, clock=clock, random=random)
        self._database = database
        self._tally = tally
        self._look = look
        self._pending: tuple[WorkerRow, list[TallyCount]] | None = None
        self._latest = 0

    async def run_once(self) -> int:
        return await self._report()

    async def stop(self) -> None:
        """End the loop, and tell that the worker has stopped and what is not told yet, if the ledger answers within two
        seconds.
        """
        was_running = self.running
        await super().stop()
        if not was_running:
            return
        try:
            async with asyncio.timeout(_LAST_WORD):
                await self._report(last=True)
        except (LedgerError, TimeoutError) as error:
            log.warning("the counts of the last seconds of this worker are not in the ledger: %s", error)

    async def _report(self, *, last: bool = False) -> int:
        added = await self._send() if self._pending is not None else 0
        row = self._look()
        # Its time is what a report is known by, also on a clock that stands still.
        self._latest = seen_at = max(row.seen_at, self._latest + 1)
        self._pending = (replace(row, seen_at=seen_at, stopped_at=seen_at if last else None), self._tally.take())
        return added + await self._send()

    async def _send(self) -> int:
        """Write the report at hand, unless it turns out to be written.

        It is sent again as it is, until it is certain that it has arrived.
        """
        assert self._pending is not None
        row, counts = self._pending

        def write(connection: Connection) -> int:
            if not write_worker(connection, row):
                return 0
            add_tallies(connection, counts, row.seen_at)
            return len(counts)

        added = await self._database.write(write)
        self._pending = None
        return added
