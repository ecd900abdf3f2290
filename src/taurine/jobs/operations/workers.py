"""The workers of an application, in all processes, as each told of itself last."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from taurine.clock import now_ms
from taurine.jobs.backend import Backend
from taurine.ledger.workers import LoopTurn, WorkerRow, list_workers

__all__ = ["WorkerLoop", "WorkerState", "WorkerView", "Workers", "worker_view"]

LOST_AFTER = 60.0
"""Seconds without a word after which a worker counts as lost: twelve of its reports."""

LATE_AFTER = 15.0
"""Seconds without a word after which a worker is late: three of its reports."""

WorkerState: TypeAlias = Literal["running", "lost", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoop:
    """A loop of a worker, when it reported last.

    age: seconds since it had turned. late: True where it was to have turned by then.
    """

    age: float
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker.

    slots: jobs that it may run at once, of all its queues. busy: those that it ran. diverged: jobs that its last
    comparison of the ledger with the queues found apart; None before the first. leases_lost: jobs that it lost to other
    workers, since its start.

    state: "lost" for one that has not told of itself for a minute: it was killed, or cannot reach the ledger. loops: by
    name.
    """

    id: str
    name: str
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    slots: int
    busy: int
    leases_lost: int
    diverged: int | None
    loops: Mapping[str, WorkerLoop]
    state: WorkerState
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None


class Workers:
    """`Taurine.workers`."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend = backend

    async def list(self, *, all: bool = False) -> builtins.list[WorkerView]:  # noqa: A002 - the word of the command line
        """The workers that run or are lost, those that were seen last first. A lost one is forgotten after a day.

        all: those that have stopped in the last day as well. Default: False. What is shown is five seconds old at most
        while the ledger answers its workers.
        Raises LedgerUnavailable.
        """
        backend = self._backend()
        await backend.ready()
        now = now_ms(backend.clock)
        views = [worker_view(row, now) for row in await backend.database.read(list_workers)]
        return [view for view in views if all or view.state != "stopped"]


def worker_view(row: WorkerRow, now: int) -> WorkerView:
    """A worker as it is shown. now: ms since the epoch."""
    state: WorkerState = "running"
    if row.stopped_at is not None:
        state = "stopped"
    elif now - row.seen_at > LOST_AFTER * 1000:
        state = "lost"
    return WorkerView(
        id=row.id,
        name=row.name,
        host=row.host,
        pid=row.pid,
        version=row.version,
        queues=row.queues,
        slots=row.slots,
        busy=row.busy,
        leases_lost=row.leases_lost,
        diverged=row.diverged,
        loops={name: _loop(turn, row.seen_at) for name, turn in row.loops.items()},
        state=state,
        started_at=_time(row.started_at),
        seen_at=_time(row.seen_at),
        stopped_at=None if row.stopped_at is None else _time(row.stopped_at),
    )


def _loop(turn: LoopTurn, seen_at: int) -> WorkerLoop:
    late = turn.due_at is not None and turn.due_at < seen_at
    return WorkerLoop(age=max(0, seen_at - turn.turned_at) / 1000, late=late)


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)
