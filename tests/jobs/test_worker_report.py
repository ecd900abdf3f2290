"""What a worker tells of itself and of its jobs: exact counts, whatever became of a report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.eventually import eventually
from support.ledger import NOW
from taurine.app import Taurine
from taurine.errors import Cancel, InvalidOption, LedgerUnavailable, Permanent, Snooze
from taurine.jobs.operations.throughput import Distribution, Throughput
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.tally import Tally
from taurine.jobs.worker.report import WorkerReport
from taurine.ledger.database import Database, Work
from taurine.ledger.tallies import ABOVE_ALL, BOUNDS, tallies_since
from taurine.ledger.workers import WorkerRow
from taurine.retry import Fixed, Retry

OFTEN = Upkeep(report_every=0.05)


def counts_of(throughput: Throughput) -> dict[str, int]:
    return {outcome: count for outcome, count in throughput.outcomes.items() if count}


async def test_what_jobs_came_to_is_counted_by_queue_and_type(app: Taurine) -> None:
    """SEED-152, SEED-154, SEED-186."""
    snoozed = False

    @app.job("tally.work", retry=Retry(attempts=2, backoff=Fixed(0.0)))
    async def work(how: str) -> None:
        nonlocal snoozed
        if how == "dies":
            raise ValueError(how)
        if how == "hopeless":
            raise Permanent(how)
        if how == "stops":
            raise Cancel(how)
        if how == "later" and not snoozed:
            snoozed = True
            raise Snooze(0.0)

    async with app:
        handles = [await work.enqueue(how) for how in ("fine", "dies", "hopeless", "stops", "later")]
        late = await work.enqueue("fine", delay=timedelta(hours=1))
        await app.cancel(late.id)
        async with app.worker(upkeep=OFTEN):
            for handle in handles:
                await eventually(lambda handle=handle: _ended(app, handle.id))
        (lately,) = await app.throughput(window=60)
        (ever,) = await app.totals()
    expected = {"completed": 2, "failed": 2, "retried": 1, "cancelled": 2, "snoozed": 1}
    assert counts_of(lately) == counts_of(ever) == expected, "told at the stop, to the last"
    assert (lately.queue, lately.type, ever.type) == ("jobs", None, "tally.work")
    assert lately.run.count == 7, "each attempt that ran, the one that was snoozed as well"
    assert lately.wait.count == 5, "each job's first start, and no later one"
    assert lately.failure_rate == 0.5
    assert lately.seconds is not None
    assert 60 <= lately.seconds <= 121
    assert ever.seconds is ever.per_second is None


async def _ended(app: Taurine, job_id: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.finished_at is not None


async def test_a_queue_without_an_end_is_there(app: Taurine) -> None:
    app.declare("tally.idle", str)
    (idle,) = await app.throughput()
    assert (idle.ended, idle.failure_rate, idle.per_second, idle.run.mean) == (0, 0.0, 0.0, None)
    for window in (0, 8 * 24 * 3600):
        with pytest.raises(InvalidOption, match="window"):
            await app.throughput(window=window)


async def test_a_worker_is_listed_while_it_runs_and_a_day_after(app: Taurine) -> None:
    release = asyncio.Event()

    @app.job("tally.slow")
    async def slow(_: str) -> None:
        await release.wait()

    async with app:
        await slow.enqueue("a")
        async with app.worker(upkeep=OFTEN, concurrency=3, name="one") as worker:
            await eventually(lambda: worker.running == 1)
            view = await eventually(lambda: _busy(app))
            release.set()
        assert await app.workers.list() == []
        (stopped,) = await app.workers.list(all=True)
    assert (view.name, view.state, view.queues, view.slots, view.busy) == (
        "one",
        "running",
        ["jobs", "taurine-operations"],
        3,
        1,
    )
    assert {"event loop", "outbox", "reconciler", "turns of jobs", "doorbell"} <= view.loops.keys()
    assert not any(loop.late for loop in view.loops.values())
    assert (stopped.state, stopped.busy) == ("stopped", 0)
    assert stopped.stopped_at is not None


async def _busy(app: Taurine) -> Any:
    views = await app.workers.list()
    return views[0] if views and views[0].busy else None


async def test_a_worker_that_says_nothing_for_a_minute_is_lost(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory()

    @app.job("tally.none")
    async def none(_: str) -> None: ...

    async with app, app.worker(upkeep=OFTEN):
        await eventually(app.workers.list)
        later = app_factory(clock=_At(timedelta(seconds=65)))
        later.declare("tally.none", str)
        assert [view.state for view in await later.workers.list()] == ["lost"]


class _At:
    """The machine's clock, some time ahead."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead.total_seconds()

    def now(self) -> float:
        return datetime.now(UTC).timestamp() + self._ahead

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        async with asyncio.timeout(seconds):
            return await event.wait()


class _Doubtful:
    """A database of which no answer comes: what is written may be there, or not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.url = database.url
        self.loses: list[str] = []

    async def write(self, work: Work[Any]) -> Any:
        lost = self.loses.pop(0) if self.loses else ""
        answer = None if lost == "the write" else await self._database.write(work)
        if lost:
            raise LedgerUnavailable(f"lost {lost}")
        return answer


async def test_a_report_of_which_no_answer_came_is_counted_once(app: Taurine) -> None:
    app.declare("tally.none", str)
    backend = app._backend()
    await backend.ready()
    database: Any = _Doubtful(backend.database)
    tally = Tally()
    report = WorkerReport(
        database=database,
        tally=tally,
        look=lambda: WorkerRow(
            id="w",
            name="w",
            host="h",
            pid=1,
            version="0",
            queues=["jobs"],
            slots=1,
            busy=0,
            leases_lost=0,
            loops={},
            started_at=1,
            seen_at=NOW,
        ),
        clock=backend.clock,
        random=backend.random,
        interval=5.0,
    )
    for lost in ("", "the write", "the answer", "the answer", "the write", ""):
        database.loses = [lost]
        tally.completed("jobs", "tally.none", 3, 7)
        with suppress(LedgerUnavailable):
            await report.run_once()
    await report.run_once()
    found = await backend.database.read(lambda connection: tallies_since(connection, None))
    assert {one.measure: one.number for one in found} == {
        "completed": 6,
        "wait": 6,
        "run": 6,
        "wait_sum": 18,
        "run_sum": 42,
    }


# Counting -------------------------------------------------------------------------------------------------------------------------


def test_durations_fall_into_the_bucket_of_the_bound_that_they_reach() -> None:
    tally = Tally()
    for ran in (0, 5, 6, BOUNDS[-1], BOUNDS[-1] + 1):
        tally.completed("q", "t", -1, ran)
    runs = {one.bucket: one.number for one in tally.take() if one.measure == "run"}
    assert runs == {5: 2, 10: 1, BOUNDS[-1]: 1, ABOVE_ALL: 1}
    assert tally.take() == [], "what was taken is not told again"


def test_a_share_is_below_the_bound_of_its_bucket() -> None:
    spread = Distribution(buckets={0.005: 90, 1.0: 9, float("inf"): 1}, total=10.0)
    assert [spread.quantile(share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [0.005, 0.005, 1.0, 1.0, float("inf")]
    assert spread.mean == 0.1
    with pytest.raises(InvalidOption, match="0 to 1"):
        spread.quantile(95)
