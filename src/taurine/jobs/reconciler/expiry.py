"""Ending jobs that were to start by a time that has passed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from taurine.clock import Clock, now_ms
from taurine.errors import StoreError
from taurine.jobs.reporting.lines import unrun_fields
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.cancellations import expire_due
from taurine.ledger.database import Database
from taurine.ledger.records import JobRecord
from taurine.service import Service

__all__ = ["Expiry"]

log = logging.getLogger("taurine.jobs")

_BATCH = 200

_SPARED_MS = 2000
"""A handler that has begun so recently may not be in the record yet; it is not ended under its hands."""


class Expiry(Service[int]):
    """The service. A pass returns how many jobs it ended. Several may run at once.

    take_out: takes jobs out of their queues. told: called with each job's id, for those who wait for it.
    redact: what log lines must not show. Default: obvious secrets and e-mail addresses.
    interval: seconds from one pass to the next. Default: 5. A worker does not start a job that is past its time in any
    case.
    """

    def __init__(
        self,
        *,
        database: Database,
        take_out: Callable[[Sequence[JobRecord]], Awaitable[object]],
        told: Callable[[str], None],
        clock: Clock,
        random: Random,
        interval: float = 5.0,
        redact: Redact = Redact.DEFAULT,
    ) -> None:
        super().__init__(name="expiry", interval=interval, clock=clock, random=random)
        self._database = database
        self._take_out = take_out
        self._told = told
        self._redact = redact

    async def run_once(self) -> int:
        due_at = now_ms(self._clock) - _SPARED_MS
        expired = 0
        while True:
            self.heartbeat.turn()
            records = await self._database.write(lambda connection: expire_due(connection, due_at, _BATCH))
            expired += len(records)
            for record in records:
                self._report(record)
                self._told(record.id)
            try:
                # Also those without a stamp: it may be on its way.
                await self._take_out(records)
            except StoreError as error:
                log.debug("expired jobs wait for the reconciler to take them out: %s", error)
            if len(records) < _BATCH:
                return expired

    def _report(self, record: JobRecord) -> None:
        job_id = self._redact.job_id(record.id)
        log.warning(
            "job %s (%s) expired before it ran",
            *(job_id, record.type),
            extra=unrun_fields(job_id, job_type=record.type, queue=record.queue, tenant=record.tenant),
        )
