"""The follower of a shared queue: reads what others do there from its event stream, and keeps the records true.

Jobs that others have added are adopted into records, if their type is declared here. Ends that others have brought
about are written into records, failures with their dead letters. A job that was removed by hand is cancelled. How far
the stream was read is in the ledger, moved on in the transaction of what the events changed, so a follower that dies is
followed by one that goes on there. What the stream has lost before it was read is left to the reconciler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import Connection

from taurine.clock import ms_of, now_ms
from taurine.ids import run_of
from taurine.jobs.backend import Backend
from taurine.jobs.handover.adoption import Adopter, record_id_of, stored_id_of
from taurine.jobs.handover.copies import is_end_of
from taurine.jobs.reconciler.settling import Settlement, settle, settlement
from taurine.ledger.cursors import advance_cursor, read_cursor
from taurine.ledger.generations import Seen
from taurine.ledger.reconciliation import cancel_vanished
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.queue.event_stream import Entry, EventStream, stream_order
from taurine.queue.events import Added, Completed, Failed, JobEvent, Removed, parse_event
from taurine.queue.keys import QueueKeys
from taurine.queue.standings import Ended, Standing
from taurine.queue.wire import encode_json
from taurine.service import Service

__all__ = ["Follower"]

_BLOCK = 1.0
"""Seconds that a read waits for news."""

_SKEW_MS = 10_000
"""The clock of the server that stamps events, and that of the process that stamped the record, may differ by so much."""

_NUMBERS = 10_000
"""Automatic numbers whose records are remembered, for jobs that are removed as they end."""

_News: TypeAlias = Completed | Failed | Removed


class Follower(Service[int]):
    """The service. A pass reads until there is no news, and returns how many records it changed.

    Several may follow one queue.
    """

    def __init__(self, queue: str, *, backend: Backend) -> None:
        super().__init__(name=f"follower of {queue}", interval=0.2, clock=backend.clock, random=backend.random)
        self._queue = queue
        self._backend = backend
        self._adopter = Adopter(catalog=backend.catalog, database=backend.database, clock=backend.clock)
        self._stream: EventStream | None = None
        self._numbers: dict[str, str] = {}

    async def run_once(self) -> int:
        changed = 0
        stream = await self._opened()
        while entries := await stream.read():
            self.heartbeat.turn()
            try:
                changed += await self._heed(entries)
            except BaseException:
                # They were read and not heeded: the next pass begins where the ledger says.
                await self._close()
                raise
        return changed

    async def stop(self) -> None:
        await super().stop()
        await self._close()

    async def _opened(self) -> EventStream:
        if self._stream is None:
            backend = self._backend
            position = await backend.database.read(lambda connection: read_cursor(connection, self._queue))
            keys = QueueKeys(self._queue, backend.settings.prefix)
            self._stream = EventStream(await backend.connection(), keys, position=position or "0-0", block=_BLOCK)
        return self._stream

    async def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _heed(self, entries: Sequence[Entry]) -> int:
        events = [event for event in map(parse_event, entries) if event is not None]
        news: dict[str, _News] = {event.job_id: event for event in events if isinstance(event, _News)}
        await self._adopt({event.job_id for event in events if isinstance(event, JobEvent) and _begins(event)})
        records = await self._records_of(news)
        standings = await self._standings_of(records)
        settlements: list[Settlement] = []
        removed: list[Seen] = []
        for job_id, record in records.items():
            self._judge(news[job_id], record, standings[job_id], settlements, removed)
        return await self._write(settlements, removed, entries[-1][0].decode())

    async def _write(self, settlements: Sequence[Settlement], removed: Sequence[Seen], last_id: str) -> int:
        now = now_ms(self._clock)

        def write(connection: Connection) -> list[bool]:
            settled = [refusal is None for refusal in settle(connection, settlements, now)]
            cancelled = cancel_vanished(connection, removed, now, "removed from its queue by hand")
            advance_cursor(connection, self._queue, last_id, now)
            return settled + cancelled

        done = await self._backend.database.write(write)
        changed = [item.id for item, was in zip((*settlements, *removed), done, strict=True) if was]
        for job_id in changed:
            self._backend.watch.tell(job_id)
        return len(changed)

    def _judge(
        self, news: _News, record: JobRecord, standing: Standing, settlements: list[Settlement], removed: list[Seen]
    ) -> None:
        """What one job's last news says of its record, which is open. News of an earlier run says nothing."""
        if isinstance(standing, Ended):
            created_at = ms_of(record.created_at)
            if is_end_of(standing, generation=record.generation, created_at=created_at):
                settlements.append(settlement(record, standing, standing.finished_at or 0))
        elif standing == "gone" and self._is_of_this_run(news, record):
            if isinstance(news, Removed):
                removed.append(Seen(record.id, record.generation, record.fence))
            else:
                settlements.append(settlement(record, _ended(news), 0))

    def _is_of_this_run(self, news: _News, record: JobRecord) -> bool:
        dispatched_at = record.dispatched_at
        return dispatched_at is not None and news.at * 1000 >= ms_of(dispatched_at) - _SKEW_MS

    # Jobs and records -----------------------------------------------------------------------------------------------------------------

    async def _adopt(self, job_ids: Iterable[str]) -> None:
        """Make records of the jobs that have none."""
        ids = list(job_ids)
        there = await self._read_records([job_id for job_id in ids if not job_id.isdecimal()])
        queue = await self._backend.queue(self._queue)
        found = [await queue.get_job(job_id) for job_id in ids if job_id not in there]
        jobs = [job for job in found if job is not None]
        self._numbers |= {job.id: record_id_of(job) for job in jobs}
        while len(self._numbers) > _NUMBERS:
            del self._numbers[next(iter(self._numbers))]
        await self._adopter.adopt(jobs)

    async def _records_of(self, job_ids: Iterable[str]) -> dict[str, JobRecord]:
        """The open records of these jobs, by the jobs' ids."""
        names: dict[str, str] = {}
        for job_id in job_ids:
            names[job_id] = await self._record_id(job_id)
        records = await self._read_records(list(names.values()))
        return {
            job_id: record
            for job_id, record_id in names.items()
            if (record := records.get(record_id)) is not None
            and record.queue == self._queue
            and record.status not in TERMINAL
        }

    async def _record_id(self, job_id: str) -> str:
        if not job_id.isdecimal() or job_id in self._numbers:
            return self._numbers.get(job_id, job_id)
        job = await (await self._backend.queue(self._queue)).get_job(job_id)
        return job_id if job is None else record_id_of(job)

    async def _read_records(self, ids: list[str]) -> Mapping[str, JobRecord]:
        return await self._backend.database.read(lambda connection: get_records(connection, ids))

    async def _standings_of(self, records: Mapping[str, JobRecord]) -> dict[str, Standing]:
        queue = await self._backend.queue(self._queue)
        stored = [stored_id_of(record.id, record.source, record.generation) for record in records.values()]
        return dict(zip(records, await queue.standings(stored), strict=True))


def _begins(event: JobEvent) -> bool:
    """Whether a job has to have a record from this event on.

    A scheduler's next run may be replaced until it is claimed, so it has none before it has ended.
    """
    if run_of(event.job_id) is None:
        return isinstance(event, Added)
    return isinstance(event, Completed | Failed)


def _ended(news: Completed | Failed) -> Ended:
    """The end as the event tells it, of a job that was removed as it ended."""
    return Ended(
        completed=isinstance(news, Completed),
        value=encode_json(news.result) if isinstance(news, Completed) else news.reason,
        stacktrace="",
        finished_at=stream_order(news.id)[0],
        processed_at=None,
        attempts_started=0,
        attempts_made=0,
        worker="",
        options="{}",
    )
