"""The full look: every open record is compared with its queue at once, after the server of queues may have lost data.

The reconciler's usual pace compares a bounded number in each pass, which finds what a few records are about, and takes
an hour for a million of them. When another server process answers than before, or one without memory, jobs are gone in
all likelihood, and their users wait. So this goes from the first record to the last without a rest, and also at those
that were added just now, which a server loses first.

It is bounded all the same. It reads 500 records at a time, and keeps to two rates, one for looking and one for adding.
And one process does it for all of the same ledger and queues: it has a claim on the server, which runs out if it dies,
and the others look every second whether it has. Applications of other ledgers or queues that use the same server look
for themselves, for nobody else can see their records.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from random import Random

from sqlalchemy.engine import URL

from taurine.clock import Clock, now_ms
from taurine.ids import unique_id
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.handover.adoption import ADOPTED
from taurine.jobs.reconciler.mending import Mender, ReconcileReport
from taurine.jobs.reconciler.rules import restore_rules
from taurine.ledger.database import Database
from taurine.ledger.reconciliation import DispatchedRecord, Place, dispatched_page
from taurine.queue import Queue
from taurine.queue.server_changes import ServerChanges
from taurine.service import Service

__all__ = ["FullLook", "scope_of"]

log = logging.getLogger("taurine.jobs")

_PAGE = 500

_CLAIM_SECONDS = 30.0
"""How long the others wait for a process that compares and no longer says so; each page says it."""

_ANY_TIME = 1 << 62


def scope_of(database: URL, queues: Iterable[str]) -> str:
    """What one full look covers, as 16 hexadecimal digits: the records of a database, and the queues of a catalog, in
    any order.

    Who logs in to the database makes no difference. One that two processes spell differently is looked at by both,
    which costs time and loses nothing.
    """
    name = database.database or ""
    if database.get_backend_name() == "sqlite":
        name = str(Path(name).resolve())
    host = database.host or database.query.get("host", "")
    covered = [database.get_backend_name(), host, database.port, name, sorted(queues)]
    return hashlib.sha256(json.dumps(covered).encode()).hexdigest()[:16]


class FullLook(Service[ReconcileReport | None]):
    """The service: it rests until it is asked, and a pass without need does nothing and returns None.

    Who asks, asks again until it is done.

    queue: the queue of a name. rate: comparisons a second at most. Default: 20,000, a tenth of a server's time.
    put_back_rate: jobs a second at most that are added again. Default: 5,000, as the outbox. age: seconds for which
    jobs that others have added are spared; their end may still be on its way. Default: 10.
    """

    def __init__(
        self,
        *,
        mender: Mender,
        catalog: Catalog,
        queue: Callable[[str], Awaitable[Queue]],
        database: Database,
        clock: Clock,
        random: Random,
        rate: float = 20_000.0,
        put_back_rate: float = 5000.0,
        age: float = 10.0,
    ) -> None:
        super().__init__(name="full look", interval=1.0, clock=clock, random=random)
        self._mender = mender
        self._catalog = catalog
        self._queue = queue
        self._database = database
        self._rate = rate
        self._put_back_rate = put_back_rate
        self._age_ms = round(age * 1000)
        self._by = unique_id()
        self._asked = asyncio.Event()
        self._changes: ServerChanges | None = None

    def ask(self, changes: ServerChanges) -> None:
        """The server that has noted these, of the scope that is looked at, may have lost data: begin, unless a pass is
        under way or another process is at it.
        """
        self._changes = changes
        self._asked.set()

    async def run_once(self) -> ReconcileReport | None:
        changes = self._changes
        if changes is None or not self._asked.is_set():
            return None
        self._asked.clear()
        change = await changes.latest(now_ms(self._clock))
        if change.made_good or not await changes.claim(self._by, _CLAIM_SECONDS):
            return None
        if change.since_ms:
            log.info(
                "another server of queues answers than before, or one without memory: all open jobs are compared with it"
            )
        await restore_rules(self._catalog, self._queue)  # before jobs come back that they are to hold
        report = await self._look_at_all(changes)
        await changes.made_good(change)
        # A server that is new here has nothing to say, unless something was missing on it.
        level = logging.WARNING if report.repaired else logging.INFO if change.since_ms else logging.DEBUG
        log.log(level, "all open jobs were compared with the server of queues, after it has changed: %s", report)
        return report

    async def _look_at_all(self, changes: ServerChanges) -> ReconcileReport:
        report = ReconcileReport()
        place: Place | None = None
        self._mender.begin()
        while True:
            self.heartbeat.turn()
            started, put_back = self._clock.monotonic(), report.put_back
            records, place = await self._database.read(
                lambda connection, place=place: dispatched_page(connection, place, _PAGE, _ANY_TIME)
            )
            await self._mender.mend(self._settled_down(self._mender.ours(records)), report)
            if place is None:
                return report
            await changes.claim(self._by, _CLAIM_SECONDS)
            seconds = len(records) / self._rate + (report.put_back - put_back) / self._put_back_rate
            await self._clock.sleep(max(0.0, seconds - (self._clock.monotonic() - started)))

    def _settled_down(self, records: Sequence[DispatchedRecord]) -> list[DispatchedRecord]:
        latest = now_ms(self._clock) - self._age_ms
        return [record for record in records if record.source != ADOPTED or record.dispatched_at <= latest]

    async def rest(self, seconds: float) -> None:
        self.heartbeat.rest()
        await self._clock.wait(self._asked, None)
