"""Running a worker until there is nothing left to do, and hearing what became of each job."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, cast

from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.operations.why import Why
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import OPEN, Phase
from taurine.options import Seconds, to_seconds
from taurine.testing.clock import TestClock
from taurine.testing.running import without_loop

__all__ = ["DrainTimeout", "Drained", "Until", "drain", "drain_sync"]

Until: TypeAlias = Literal["idle", "ended"] | Callable[[], bool | Awaitable[bool]]
"""When a drain is over. "idle": nothing is left but what is due later than the application's clock. "ended": every job
has ended. Or a function that says so.
"""

_PAUSE = 0.01
"""Seconds between two looks at the records."""

_MOST_NAMED = 10
"""Jobs that an error names."""


class Drained(Mapping[str, JobRecord]):
    """What became of the jobs of a drain: their records by id, in the order of their acceptance.

    completed, failed (which is dead), cancelled, expired: those that have ended so. later: those that are due after the
    drain: delayed, asleep, or before another attempt.
    """

    def __init__(self, records: Sequence[JobRecord]) -> None:
        self._records = {record.id: record for record in records}

    def __getitem__(self, job_id: str) -> JobRecord:
        return self._records[job_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __str__(self) -> str:
        counts = Counter(record.status if record.status not in OPEN else "later" for record in self._records.values())
        return ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing to do"

    def __repr__(self) -> str:
        return f"<Drained: {self}>"

    @property
    def completed(self) -> list[JobRecord]:
        return self._with("completed")

    @property
    def failed(self) -> list[JobRecord]:
        return self._with("failed")

    @property
    def cancelled(self) -> list[JobRecord]:
        return self._with("cancelled")

    @property
    def expired(self) -> list[JobRecord]:
        return self._with("expired")

    @property
    def later(self) -> list[JobRecord]:
        return self._with(*OPEN)

    def of(self, job_type: JobType[Any, Any] | str) -> list[JobRecord]:
        """Those of one type."""
        name = job_type if isinstance(job_type, str) else job_type.name
        return [record for record in self._records.values() if record.type == name]

    def _with(self, *statuses: str) -> list[JobRecord]:
        return [record for record in self._records.values() if record.status in statuses]


class DrainTimeout(TimeoutError):
    """There is still something to do when the time is up. stuck: why each of the first ten jobs does not end."""

    def __init__(self, message: str, stuck: Sequence[Why]) -> None:
        super().__init__(message)
        self.stuck = tuple(stuck)


async def drain(
    app: Taurine,
    *,
    queues: Sequence[str] | None = None,
    until: Until = "idle",
    timeout: Seconds = 30.0,
    deps: Any = None,
) -> Drained:
    """Run a worker over the application until nothing is left to do, what its jobs enqueue included; returns what
    became of each job.

    queues: those to work on. Default: all that have a handler here.
    until: "idle", when all that is left is due later than the application's clock; "ended", when every job has ended,
    for which a TestClock is moved to the next due job whenever nothing else is to be done; or a function, async or not,
    that is asked again and again. Default: "idle".
    timeout: seconds of the machine's time. Default: 30. deps: what handlers find as `ctx.deps`. Default: the
    application's.

    Jobs that had ended before are not among the result; each call reads all records of these queues. Raises
    DrainTimeout, which says why each job does not end; InvalidOption under a Recorder, and for `until` or a queue that
    is not known; and what `Taurine.worker` raises.
    """
    if app.stand_ins.here() is not None:
        raise InvalidOption("a Recorder stands in for the servers here; run its jobs with `await recorder.run()`")
    if not callable(until) and until not in ("idle", "ended"):
        raise InvalidOption(f"expected until to be 'idle', 'ended' or a function, got {until!r:.40}")
    worker = app.worker(queues=queues, deps=deps)
    draining = _Draining(app, worker.queues, until)
    before = {(record.id, record.generation) for record in await draining.ended()}
    deadline = time.monotonic() + to_seconds(timeout, "timeout")
    await worker.__aenter__()
    grace = 0.0
    try:
        while not await draining.is_over():
            if time.monotonic() >= deadline:
                raise await draining.timed_out(to_seconds(timeout, "timeout"))
            await asyncio.sleep(_PAUSE)
        grace = 30.0
    finally:
        await worker.stop(grace=grace)
    records = [*await draining.ended(), *await draining.open()]
    return Drained(
        sorted(
            (record for record in records if (record.id, record.generation) not in before),
            key=lambda record: record.created_at,
        )
    )


def drain_sync(
    app: Taurine,
    *,
    queues: Sequence[str] | None = None,
    until: Until = "idle",
    timeout: Seconds = 30.0,
    deps: Any = None,
) -> Drained:
    """`drain` for tests without an event loop. What the application has opened is closed after it.

    Raises InvalidOption on a loop.
    """

    async def drained() -> Drained:
        try:
            return await drain(app, queues=queues, until=until, timeout=timeout, deps=deps)
        finally:
            await app.close()

    return without_loop(drained())


class _Draining:
    """Looks at the records of some queues."""

    def __init__(self, app: Taurine, queues: Sequence[str], until: Until) -> None:
        self._app = app
        self._queues = queues
        self._until = until

    async def is_over(self) -> bool:
        until = self._until
        if callable(until):
            answer = until()
            return await answer if isinstance(answer, Awaitable) else answer
        records, clock = await self.open(), self._app.stand_ins.clock
        if len(records) != await self._count_open():
            return False  # one has moved on while they were read
        now = clock.now()
        dues = [record.due_at for record in records]
        if any(due is None or due.timestamp() <= now for due in dues):
            return False
        if until == "idle" or not records:
            return True
        if isinstance(clock, TestClock):
            clock.advance_to(min(cast("list[datetime]", dues)))
        return False

    async def open(self) -> list[JobRecord]:
        return await self._records("queued", "running")

    async def ended(self) -> list[JobRecord]:
        return await self._records("completed", "failed")

    async def _records(self, *phases: Phase) -> list[JobRecord]:
        found: dict[str, JobRecord] = {}
        for queue in self._queues:
            for phase in phases:
                found |= {record.id: record async for record in self._app.list(phase=phase, queue=queue, limit=500)}
        return list(found.values())

    async def _count_open(self) -> int:
        total = 0
        for queue in self._queues:
            counts = await self._app.counts(queue=queue)
            total += sum(counts[status].number for status in OPEN if status in counts)
        return total

    async def timed_out(self, seconds: float) -> DrainTimeout:
        records = await self.open()
        reasons = [await self._app.why(record.id) for record in records[:_MOST_NAMED]]
        lines = [f"{len(records)} jobs have not ended within {seconds:g} s:"]
        lines += [
            f"  {record.id} ({record.type}, {record.status}): {why.sentence}"
            for record, why in zip(records, reasons, strict=False)
        ]
        if len(records) > len(reasons):
            lines.append(f"  and {len(records) - len(reasons)} more")
        if not records:
            lines = [f"`until` did not become true within {seconds:g} s, though every job has ended"]
        return DrainTimeout("\n".join(lines), reasons)
