"""Waiting for records to end: everybody who waits in one process shares one query."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from sqlalchemy import Connection, bindparam, select

from taurine.clock import Clock
from taurine.errors import LedgerUnavailable
from taurine.ledger.database import Database
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.schema import job
from taurine.ledger.statuses import TERMINAL

__all__ = ["RecordWatch"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks: a short job is seen to end at once, a long one costs four small queries a second at most."""

_ended = select(job.c.id).where(job.c.id.in_(bindparam("ids", expanding=True)), job.c.status.in_(sorted(TERMINAL)))


class RecordWatch:
    """Looks after the records that somebody waits for."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE

    async def wait(self, job_id: str, timeout: float | None) -> JobRecord | None:
        """The record once it is terminal; the latest one when `timeout` seconds have passed before, None if there is none."""
        record = await self._database.read(lambda connection: get_record(connection, job_id))
        if record is None or record.status in TERMINAL:
            return record
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[job_id].add(ended)
        self._pause = _FIRST_PAUSE
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="taurine record watch")
        try:
            await asyncio.wait({ended}, timeout=timeout)
        finally:
            self._waiting[job_id].discard(ended)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
        return await self._database.read(lambda connection: get_record(connection, job_id))

    def tell(self, job_id: str) -> None:
        """A job of this process has ended: whoever waits for it need not wait for the next look."""
        for ended in self._waiting.get(job_id, ()):
            if not ended.done():
                ended.set_result(None)

    async def close(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})

    async def _look(self) -> None:
        try:
            while self._waiting:
                try:
                    for job_id in await self._database.read(self._find_ended):
                        self.tell(job_id)
                except LedgerUnavailable:
                    self._pause = _LONGEST_PAUSE
                await self._clock.sleep(self._pause)
                self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
        finally:
            self._looking = None

    def _find_ended(self, connection: Connection) -> list[str]:
        ids = list(self._waiting)
        return [
            row.id
            for first in range(0, len(ids), 500)
            for row in connection.execute(_ended, {"ids": ids[first : first + 500]})
        ]
