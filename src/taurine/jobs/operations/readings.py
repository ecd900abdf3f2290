"""What the instruments read, in one look at both servers: for metrics, health and alerts.

The look is bounded in time and cost whatever there is to see, and what one server does not tell is left out, while the
other's is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import EmbeddedServerError, LedgerError, StoreError
from taurine.jobs.backend import Backend
from taurine.jobs.operations.throughput import Throughput, throughputs
from taurine.jobs.operations.workers import WorkerView, worker_view
from taurine.ledger.dead_letters import depth
from taurine.ledger.outbox import OutboxLag, outbox_lag
from taurine.ledger.queue_counts import QueueRecords, count_by_queue
from taurine.ledger.tallies import tallies_since
from taurine.ledger.workers import list_workers
from taurine.queue.states import JobState

__all__ = ["LedgerReadings", "QueueReadings", "Readings", "ScheduleReading", "StoreReadings", "take_readings"]

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReadings:
    """What the ledger says. By queue: its records, its open dead letters, and what its server has not been told of.

    totals: of all time, by queue and type.
    """

    records: Mapping[str, QueueRecords]
    dead_letters: Mapping[str, int]
    undelivered: Mapping[str, OutboxLag]
    totals: Sequence[Throughput]
    workers: Sequence[WorkerView]


@dataclass(frozen=True, slots=True)
class QueueReadings:
    """How one queue stands on its server."""

    counts: Mapping[JobState, int]
    paused: bool


@dataclass(frozen=True, slots=True)
class ScheduleReading:
    """How late a schedule is: seconds since its next tick was due; 0 for one whose tick is still to come, or that is
    not installed.
    """

    id: str
    queue: str
    declared: bool
    late: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReadings:
    """What the server of queues says, of the declared queues and of those of Taurine's own that are in use."""

    queues: Mapping[str, QueueReadings]
    schedules: Sequence[ScheduleReading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """One look. at: wall seconds. ledger, store: None where that one did not answer in time.

    own_queues: those of Taurine's own, such as that of bulk operations, which have had a job or have a worker. The
    declared ones are looked at in any case.
    """

    at: float
    ledger: LedgerReadings | None
    store: StoreReadings | None
    own_queues: Sequence[str] = ()

    def oldest_waiting(self, queue: str) -> float | None:
        """Seconds that the first job of a queue has been due which waits for its first start; None for none, and while
        the ledger does not answer.
        """
        found = None if self.ledger is None else self.ledger.records.get(queue)
        return None if found is None or found.due_since is None else max(0.0, self.at - found.due_since / 1000)


class _Schedule(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def declared(self) -> bool: ...
    @property
    def next_run(self) -> datetime | None: ...


async def take_readings(
    backend: Backend, schedules: Callable[[], Awaitable[Sequence[_Schedule]]], *, within: float
) -> Readings:
    """See `Taurine.readings`."""
    ledger, store = await asyncio.gather(
        _in_time(partial(_ask_ledger, backend), within), _in_time(partial(_ask_store, backend, schedules), within)
    )
    own = backend.catalog.system_queues
    unused = [name for name in own if name not in backend.catalog.queues and not _is_in_use(name, ledger, store)]
    return Readings(
        at=backend.clock.now(),
        ledger=None if ledger is None else replace(ledger, undelivered=_without(unused, ledger.undelivered)),
        store=None if store is None else replace(store, queues=_without(unused, store.queues)),
        own_queues=[name for name in own if name not in unused],
    )


def _is_in_use(queue: str, ledger: LedgerReadings | None, store: StoreReadings | None) -> bool:
    if ledger is not None and (queue in ledger.records or queue in ledger.dead_letters):
        return True
    if ledger is not None and any(queue in worker.queues for worker in ledger.workers if worker.state == "running"):
        return True
    return store is not None and any(store.queues[queue].counts.values())


def _without(names: Collection[str], found: Mapping[str, ResultT]) -> Mapping[str, ResultT]:
    return {name: one for name, one in found.items() if name not in names}


async def _in_time(ask: Callable[[], Awaitable[ResultT]], within: float) -> ResultT | None:
    try:
        async with asyncio.timeout(within):
            return await ask()
    except (LedgerError, StoreError, EmbeddedServerError, TimeoutError):
        return None


async def _ask_ledger(backend: Backend) -> LedgerReadings:
    await backend.ready()
    now, queues = now_ms(backend.clock), backend.catalog.all_queues

    def read(connection: Connection) -> LedgerReadings:
        return LedgerReadings(
            records=count_by_queue(connection, now),
            dead_letters=depth(connection),
            undelivered={queue: outbox_lag(connection, [queue], now) for queue in queues},
            totals=throughputs(tallies_since(connection, None), by_type=True),
            workers=[worker_view(row, now) for row in list_workers(connection)],
        )

    return await backend.database.read(read)


async def _ask_store(backend: Backend, schedules: Callable[[], Awaitable[Sequence[_Schedule]]]) -> StoreReadings:
    names = backend.catalog.all_queues
    found, listed = await asyncio.gather(asyncio.gather(*(_queue(backend, name) for name in names)), schedules())
    now = backend.clock.now()
    return StoreReadings(
        queues=dict(zip(names, found, strict=True)),
        schedules=[
            ScheduleReading(
                one.id,
                one.queue,
                one.declared,
                0.0 if one.next_run is None else max(0.0, now - one.next_run.timestamp()),
            )
            for one in listed
        ],
    )


async def _queue(backend: Backend, name: str) -> QueueReadings:
    queue = await backend.queue(name)
    counts, meta = await asyncio.gather(queue.counts(), queue.meta())
    return QueueReadings(counts, meta.paused)
