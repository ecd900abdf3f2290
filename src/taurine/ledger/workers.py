"""The workers of all processes, as each tells of itself every few seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, case, delete, select

from taurine.ledger.retention import PurgeStep
from taurine.ledger.rows import upsert
from taurine.ledger.schema import worker

__all__ = ["LoopTurn", "WorkerRow", "list_workers", "purge_workers", "write_worker"]


class LoopTurn(NamedTuple):
    """When a loop of a worker turned last, and when it is to turn again at the latest; ms since the epoch, None for a
    loop that waits for something to do.
    """

    turned_at: int
    due_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One worker. Times in ms since the epoch.

    leases_lost: since it started. diverged: what its reconciler found apart in its last pass. stopped_at: None for one
    that runs, or died.
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
    diverged: int | None = None
    loops: Mapping[str, LoopTurn]
    started_at: int
    seen_at: int
    stopped_at: int | None = None


def write_worker(connection: Connection, row: WorkerRow) -> bool:
    """Write how a worker is, in place of what it told before; False if what is there was told at the same time, or
    later, and stays.

    What is being told of it at the moment is waited for, also where there is no row of it yet: two that write the first
    one meet in its key.
    """
    values = asdict(replace(row, loops={}))
    values |= {"queues": json.dumps(list(row.queues)), "loops": json.dumps(dict(row.loops))}
    statement = upsert(connection, worker)
    written = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[worker.c.id],
            set_={name: statement.excluded[name] for name in values if name not in ("id", "started_at")},
            where=worker.c.seen_at < statement.excluded.seen_at,
        ),
        values,
    )
    return written.rowcount > 0


def list_workers(connection: Connection) -> list[WorkerRow]:
    """All workers that are known, those that were seen last first."""
    rows = connection.execute(select(worker).order_by(worker.c.seen_at.desc(), worker.c.id))
    return [_read(row) for row in rows.mappings()]


def _read(row: RowMapping) -> WorkerRow:
    values: dict[str, Any] = {**row}
    values["queues"] = json.loads(row["queues"])
    values["loops"] = {name: LoopTurn(*turn) for name, turn in json.loads(row["loops"]).items()}
    return WorkerRow(**values)


def purge_workers(connection: Connection, before: int) -> PurgeStep:
    """Remove workers that stopped, or were seen last, before `before`, ms since the epoch."""
    over = case((worker.c.stopped_at.is_not(None), worker.c.stopped_at), else_=worker.c.seen_at)
    return PurgeStep(connection.execute(delete(worker).where(over < before)).rowcount, None)
