"""The first act: every file of the library is indexed, and one of two workers is killed half-way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from taurine.demo.children import Child
from taurine.demo.counts import Counts
from taurine.demo.display import Display
from taurine.demo.stage import LEASE, LOOKS, QUEUE, Stage
from taurine.demo.verdict import Indexed
from taurine.ledger.records import JobRecord
from taurine.queue import Queue

__all__ = ["Indexing", "Stuck"]

_LOOK = 0.05
"""Seconds between looks at the counts."""

_PATIENCE = 30.0
"""Seconds without any job completed after which the demo gives up."""


class Stuck(Exception):
    """The demo does not get on."""


class Indexing:
    """The first act. queue: the index's queue itself, to see who is connected to it and what each holds."""

    def __init__(self, home: Path, stage: Stage, queue: Queue, display: Display) -> None:
        self._home = home
        self._stage = stage
        self._queue = queue
        self._display = display
        self.seen = Indexed()
        self.seconds = 0.0

    async def run(self, stack: AsyncExitStack, *, total: int, limit: int | None) -> Child:
        """Returns the worker that is left. Raises Stuck, ChildFailed, StoreError, LedgerError."""
        say = self._display.say
        survivor, victim = [
            await stack.enter_async_context(Child(self._home, name, "worker", name))
            for name in ("worker-1", "worker-2")
        ]
        await self._until_connected(survivor, victim)
        say("workers", f"processes {survivor.pid} and {victim.pid}")
        shown = "so that one sees the recovery; by default 30 s both"
        say("", f"leases of {LEASE:g} s, looked at every {LOOKS:g} s, {shown}")

        producer = Child(self._home, "producer", "producer", *([] if limit is None else [str(limit)]))
        await (await stack.enter_async_context(producer)).finish()
        say("producer", f"enqueued {total:,} jobs and ended")
        with self._display.progress("indexing", total) as show:
            done = await self._until_done(total // 2, show, survivor, victim)
            await self._kill(victim, survivor, done)
            await self._until_done(total, show, survivor)
        await self._read_records()
        return survivor

    async def _until_connected(self, *expected: Child) -> None:
        """Wait until the server has these workers and no other."""
        deadline = time.monotonic() + _PATIENCE
        while {worker.name for worker in await self._queue.workers() or ()} != {child.name for child in expected}:
            _check_alive(expected)
            if time.monotonic() > deadline:
                raise Stuck(
                    f"the server did not have the workers {[child.name for child in expected]} in {_PATIENCE:g} s"
                )
            await asyncio.sleep(_LOOK)

    async def _until_done(self, wanted: int, show: Callable[[int], None], *workers: Child) -> int:
        ended, changed_at = 0, time.monotonic()
        while True:
            counts = await self._counts()
            completed = counts.get("completed", 0)
            show(completed)
            if completed + counts.get("failed", 0) >= wanted:
                return completed
            _check_alive(workers)
            if completed > ended:
                ended, changed_at = completed, time.monotonic()
            elif time.monotonic() - changed_at > _PATIENCE:
                raise Stuck(f"no job completed in {_PATIENCE:g} s; the records say {counts}")
            await asyncio.sleep(_LOOK)

    async def _counts(self) -> dict[str, int]:
        return {status: count.number for status, count in (await self._stage.app.counts(queue=QUEUE)).items()}

    async def _kill(self, victim: Child, survivor: Child, done: int) -> None:
        await victim.kill()
        # Until its connections are gone, what it had sent before its death may still run.
        await self._until_connected(survivor)
        held = [job.data["file"] for job in await self._queue.get_jobs("active") if job.processed_by == victim.name]
        records = [await self._stage.app.get(f"index:{file}") for file in held]
        self.seen.victim, self.seen.held = victim.name, held
        self.seen.recorded = [
            file
            for file, record in zip(held, records, strict=True)
            if record is not None and record.status == "completed" and record.worker == victim.name
        ]
        self._display.say("kill -9", f"{victim.name} after {done:,} jobs; it held {len(held)}: {', '.join(held)}")

    async def _read_records(self) -> None:
        """The outputs as the ledger has them, and the time from the first job's creation to the last one's end."""
        app = self._stage.app
        records = [record async for record in app.list(type=self._stage.index.name, status="completed", limit=500)]
        self.seen.by_records = {record.payload["file"]: Counts(**record.output) for record in records}
        self.seconds = _span(records)
        counts = await self._counts()
        self.seen.unfinished = {status: count for status, count in counts.items() if status != "completed"}


def _check_alive(children: Iterable[Child]) -> None:
    for child in children:
        child.check()


def _span(records: Sequence[JobRecord]) -> float:
    ends = [record.finished_at for record in records if record.finished_at is not None]
    if not ends:
        return 0.0
    return (max(ends) - min(record.created_at for record in records)).total_seconds()
