"""Waiting for records to end: everybody who waits in one process shares one query."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TypeVar

from taurine.clock import Clock
from taurine.errors import LedgerUnavailable
from taurine.ledger.database import Database, Work
from taurine.ledger.records import JobRecord, get_ended, get_record
from taurine.ledger.statuses import TERMINAL

__all__ = ["RecordWatch"]

ResultT = TypeVar("ResultT")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks: a short job is seen to end at once, a long one costs four small queries a second at most."""


class RecordWatch:
    """Looks after the records that somebody waits for.

    An outage of the database is waited out, within the time that each wait has.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE
        self._closed = False

    async def wait(self, job_id: str, timeout: float | None, *, tenant: str | None = None) -> JobRecord | None:
        """The record once it is terminal; the latest one when `timeout` seconds have passed before, None if there is
        none, or none of this tenant.

        Raises LedgerUnavailable when the database is still away at the end of that time, or when the watch is closed
        meanwhile; LedgerRefused, SchemaMismatch.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        record = await self._record(job_id, tenant, deadline)
        while record is not None and record.status not in TERMINAL and (deadline is None or loop.time() < deadline):
            await self._until_told(job_id, deadline)
            record = await self._record(job_id, tenant, deadline)
        return record

    async def _until_told(self, job_id: str, deadline: float | None) -> None:
        """Return when the record is said to have ended, or at the deadline."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        self._waiting[job_id].add(told)
        self._pause = _FIRST_PAUSE
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="taurine record watch")
        try:
            await asyncio.wait({told}, timeout=None if deadline is None else max(0.0, deadline - loop.time()))
            if told.done():
                told.result()
        finally:
            self._waiting[job_id].discard(told)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
            told.cancel()

    async def _record(self, job_id: str, tenant: str | None, deadline: float | None) -> JobRecord | None:
        found = await self._read(lambda connection: get_record(connection, job_id), deadline)
        return None if found is None or (tenant is not None and found.tenant != tenant) else found

    async def _read(self, work: Work[ResultT], deadline: float | None) -> ResultT:
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise LedgerUnavailable("the application was closed while a job was waited for")
            try:
                return await self._database.read(work)
            except LedgerUnavailable:
                if deadline is not None and loop.time() + _LONGEST_PAUSE > deadline:
                    raise
            await asyncio.sleep(_LONGEST_PAUSE)

    def tell(self, job_id: str) -> None:
        """A job of this process has ended: whoever waits for it need not wait for the next look."""
        for told in self._waiting.get(job_id, ()):
            if not told.done():
                told.set_result(None)

    async def close(self) -> None:
        """End all waits, with LedgerUnavailable."""
        self._closed = True
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})
        self._fail(LedgerUnavailable("the application was closed while a job was waited for"))

    async def _look(self) -> None:
        try:
            while self._waiting:
                try:
                    ids = list(self._waiting)
                    for job_id in await self._database.read(lambda connection, ids=ids: get_ended(connection, ids)):
                        self.tell(job_id)
                except LedgerUnavailable:
                    self._pause = _LONGEST_PAUSE
                await self._clock.sleep(self._pause)
                self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
        except Exception as error:  # noqa: BLE001 - who waits must hear of it: nobody else looks
            self._fail(error)
        finally:
            self._looking = None

    def _fail(self, error: Exception) -> None:
        for waits in self._waiting.values():
            for told in waits:
                if not told.done():
                    told.set_exception(error)
