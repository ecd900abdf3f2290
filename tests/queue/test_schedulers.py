"""Job schedulers: BMQ-119 to BMQ-131, and where Taurine keeps a schedule alive that BullMQ would lose.

The clock is moved by hand. Runs are claimed and advanced as a worker does it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from support.claims import ByHand
from support.server import ValkeyServer
from taurine.errors import (
    BelongsToScheduler,
    InvalidName,
    InvalidOption,
    SchedulerError,
    SchedulerIdTaken,
    SchedulerSlotsTaken,
    StoreRefused,
)
from taurine.options import Keep
from taurine.queue.connection import Connection
from taurine.queue.cron import next_fire
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.queue import Queue
from taurine.queue.scheduler import Schedule
from taurine.queue.worker import Worker
from taurine.retry import Exponential
from taurine.testing import TestClock

MIDNIGHT = 1_795_305_600.0
"""2026-11-22 00:00 UTC, a Sunday; wall seconds."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@pytest.fixture
def clock() -> TestClock:
    return TestClock(MIDNIGHT + 20)


@pytest.fixture
def keys(prefix: str) -> QueueKeys:
    return QueueKeys("q", prefix)


@pytest.fixture
def worker(keys: QueueKeys, connection: Connection, clock: TestClock) -> ByHand:
    return ByHand(keys, connection, clock)


class Line:
    """What stands in line, by the server's own keys."""

    def __init__(self, raw: Any, keys: QueueKeys) -> None:
        self._raw = raw
        self._keys = keys

    async def delayed(self) -> list[str]:
        return await self._raw.zrange(self._keys.delayed, 0, -1)

    async def waiting(self) -> list[str]:
        return await self._raw.lrange(self._keys.wait, 0, -1)

    async def prioritized(self) -> list[str]:
        return await self._raw.zrange(self._keys.prioritized, 0, -1)

    async def all(self) -> list[str]:
        return [*await self.delayed(), *await self.waiting(), *await self.prioritized()]

    async def removed(self) -> list[str]:
        """The jobs of which a removal was announced."""
        entries = await self._raw.xrange(self._keys.events)
        return [fields["jobId"] for _, fields in entries if fields["event"] == "removed"]


@pytest.fixture
def line(raw: Redis, keys: QueueKeys) -> Line:
    return Line(raw, keys)


def due(job: Job | str | None) -> float:
    """When a run is due, by its id; wall seconds."""
    assert job is not None
    return int((job if isinstance(job, str) else job.id).rpartition(":")[2]) / 1000


async def next_at(queue: Queue, scheduler_id: str = "s") -> float:
    scheduler = await queue.get_scheduler(scheduler_id)
    assert scheduler is not None
    return scheduler.next_at


async def runs(worker: ByHand, clock: TestClock, queue: Queue, count: int) -> list[float]:
    """Let `count` runs happen, each when it is due; returns their due times, fewer when the series ends."""
    found: list[float] = []
    for _ in range(count):
        clock.advance(max(0.0, await next_at(queue) - clock.now()))
        job = await worker.run()
        if job is None:
            break
        found.append(due(job))
    return found


# One scheduler, one next run ----------------------------------------------------------------------------------------------


async def test_an_upsert_with_another_pattern_changes_the_one_scheduler(queue: Queue, line: Line) -> None:
    """BMQ-119."""
    await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="UTC")

    job = await queue.upsert_scheduler("s", pattern="30 10 * * *", tz="UTC")

    assert due(job) == MIDNIGHT + 10.5 * HOUR
    assert await line.all() == [job.id]
    (scheduler,) = await queue.schedulers()
    assert (scheduler.pattern, scheduler.next_at, scheduler.next_job_id) == ("30 10 * * *", due(job), job.id)


@pytest.mark.parametrize(
    "schedule", [{"every": 60.0}, {"pattern": "*/5 * * * *", "tz": "UTC"}], ids=["every", "pattern"]
)
async def test_repeating_an_upsert_makes_no_run_more(
    queue: Queue, line: Line, worker: ByHand, clock: TestClock, schedule: dict[str, Any]
) -> None:
    """BMQ-119, BMQ-120: an application upserts its schedulers each time it starts."""
    await queue.upsert_scheduler("s", **schedule)
    await runs(worker, clock, queue, 2)
    armed = await line.all()

    for _ in range(3):
        clock.advance(1)
        await queue.upsert_scheduler("s", **schedule, data={"n": 1})

    assert await line.all() == armed
    scheduler = await queue.get_scheduler("s")
    assert scheduler is not None
    assert scheduler.iterations == 3


async def test_many_upserts_at_once_make_one_scheduler(queue: Queue, line: Line) -> None:
    """BMQ-119: a fleet that starts."""
    jobs = await asyncio.gather(*(queue.upsert_scheduler("s", every=60.0, data=number) for number in range(20)))

    assert await line.all() == [jobs[0].id]
    assert len({job.id for job in jobs}) == 1


@pytest.mark.parametrize("where", ["delayed", "waiting", "prioritized"])
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_an_upsert_replaces_the_next_run_wherever_it_stands(
    *, queue: Queue, line: Line, raw: Redis, keys: QueueKeys, clock: TestClock, where: str, paused: bool
) -> None:
    """BMQ-119, BMQ-126: on a paused queue BullMQ looks for it in the wrong list, and then has two."""
    if paused:
        await raw.hset(keys.meta, "paused", "1")
    priority: dict[str, Any] = {"priority": 3} if where == "prioritized" else {}
    await queue.upsert_scheduler("s", every=60.0, offset=50.0 if where == "delayed" else None, **priority)
    (before,) = await getattr(line, where)()

    job = await queue.upsert_scheduler("s", every=90.0, data={"new": True})

    assert await line.all() == [job.id]
    assert await line.removed() == [before]
    assert due(job) == clock.now()
    stored = await raw.keys(f"{keys.scheduler('s')}:*")
    assert stored == [keys.job(job.id)]


async def test_a_run_is_made_when_the_one_before_starts(
    queue: Queue, line: Line, worker: ByHand, clock: TestClock
) -> None:
    """BMQ-125, BMQ-126: a queue that is behind gathers no runs."""
    await queue.upsert_scheduler("s", every=60.0)

    for _ in range(10):
        clock.advance(60)
        assert len(await line.all()) == 1

    late = await worker.run()
    assert due(late) == MIDNIGHT + 20
    assert await line.delayed() == [f"repeat:s:{int((MIDNIGHT + 680) * 1000)}"]


# Intervals ----------------------------------------------------------------------------------------------------------------


async def test_an_interval_starts_at_once_and_keeps_its_beat(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-120."""
    first = clock.now()
    await queue.upsert_scheduler("s", every=timedelta(minutes=1))

    assert await runs(worker, clock, queue, 4) == [first, first + 60, first + 120, first + 180]


async def test_an_interval_that_is_behind_skips_runs_and_keeps_its_phase(
    queue: Queue, worker: ByHand, clock: TestClock
) -> None:
    """BMQ-125."""
    first = clock.now()
    await queue.upsert_scheduler("s", every=60.0)
    await worker.run()
    clock.advance(290)

    assert await runs(worker, clock, queue, 3) == [first + 60, first + 300, first + 360]


async def test_a_changed_interval_starts_anew(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-120."""
    await queue.upsert_scheduler("s", every=60.0)
    await worker.run()
    clock.advance(7)
    changed = clock.now()

    await queue.upsert_scheduler("s", every=10.0)

    assert await runs(worker, clock, queue, 3) == [changed, changed + 10, changed + 20]


@pytest.mark.parametrize(("offset", "first"), [(7.0, 67.0), (25.0, 25.0), (0.0, 60.0)])
async def test_offset_sets_the_phase(
    queue: Queue, worker: ByHand, clock: TestClock, offset: float, first: float
) -> None:
    """BMQ-123: it is 20 seconds past the minute."""
    await queue.upsert_scheduler("s", every=60.0, offset=offset)

    assert await runs(worker, clock, queue, 2) == [MIDNIGHT + first, MIDNIGHT + first + 60]
    clock.advance(1000)
    await runs(worker, clock, queue, 1)
    assert (await next_at(queue) - offset) % 60 == 0
    scheduler = await queue.get_scheduler("s")
    assert scheduler is not None
    assert scheduler.offset == offset


async def test_an_upsert_of_an_interval_that_is_behind_keeps_its_phase(
    queue: Queue, worker: ByHand, clock: TestClock
) -> None:
    """BMQ-120: the run before was started, and its worker has not come to advance it."""
    await queue.upsert_scheduler("s", every=60.0)
    await worker.claim()
    clock.advance(1000)

    assert due(await queue.upsert_scheduler("s", every=60.0)) == MIDNIGHT + 20 + 1020


async def test_a_changed_offset_moves_the_next_run(queue: Queue) -> None:
    """BMQ-123."""
    await queue.upsert_scheduler("s", every=60.0, offset=30.0)

    job = await queue.upsert_scheduler("s", every=60.0, offset=40.0)

    assert due(job) == MIDNIGHT + 40


# Patterns -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["*/7 * * * *", "15 30 9 * * *", "0 0 L * *", "0 12 * * 1-5", "@weekly"])
async def test_a_pattern_runs_at_the_times_it_names(
    queue: Queue, worker: ByHand, clock: TestClock, pattern: str
) -> None:
    """BMQ-121: five or six fields, L; the times are compared with the pattern's own reading."""
    expected = [next_fire(pattern, after=clock.now(), tz="UTC")]
    while len(expected) < 10:
        expected.append(next_fire(pattern, after=expected[-1] or 0, tz="UTC"))

    await queue.upsert_scheduler("s", pattern=pattern, tz="UTC")

    assert await runs(worker, clock, queue, 10) == expected


@pytest.mark.parametrize(
    ("day", "hours"), [("2027-03-27", [24, 23, 24]), ("2027-10-30", [24, 25, 24])], ids=["spring", "autumn"]
)
async def test_a_pattern_follows_its_time_zone(
    queue: Queue, worker: ByHand, clock: TestClock, day: str, hours: list[int]
) -> None:
    """BMQ-122: nine o'clock in Berlin, through both changes of the clock."""
    berlin = ZoneInfo("Europe/Berlin")
    clock.advance(datetime.fromisoformat(day).replace(tzinfo=berlin).timestamp() - DAY - clock.now())
    await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="Europe/Berlin")

    times = await runs(worker, clock, queue, 4)

    assert {datetime.fromtimestamp(time, berlin).hour for time in times} == {9}
    assert [(after - before) / HOUR for before, after in pairwise(times)] == hours


async def test_immediately_runs_a_pattern_now_and_then_at_its_times(
    queue: Queue, worker: ByHand, clock: TestClock
) -> None:
    """BMQ-123."""
    await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="UTC", immediately=True)

    assert await runs(worker, clock, queue, 2) == [MIDNIGHT + 20, MIDNIGHT + 9 * HOUR]


# Bounds -------------------------------------------------------------------------------------------------------------------


async def test_no_run_is_due_before_the_start(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-123: an interval counts from its start; a pattern's first time is after it."""
    start = MIDNIGHT + HOUR
    await queue.upsert_scheduler("every", every=60.0, start=datetime.fromtimestamp(start, UTC))
    pattern = await queue.upsert_scheduler("pattern", pattern="*/10 * * * *", tz="UTC", start=start)

    assert await worker.run() is None
    assert await next_at(queue, "every") == start
    assert due(pattern) == start + 600


async def test_a_later_start_moves_the_next_run(queue: Queue) -> None:
    """BMQ-123."""
    await queue.upsert_scheduler("s", every=60.0)

    job = await queue.upsert_scheduler("s", every=60.0, start=MIDNIGHT + HOUR)

    assert due(job) == MIDNIGHT + HOUR


@pytest.mark.parametrize(
    "schedule", [{"every": 60.0}, {"pattern": "20 * * * * *", "tz": "UTC"}], ids=["every", "pattern"]
)
async def test_no_run_is_due_after_the_end(
    queue: Queue, worker: ByHand, clock: TestClock, schedule: dict[str, Any]
) -> None:
    """BMQ-123: the record stays, without a next run."""
    await queue.upsert_scheduler("s", **schedule, end=MIDNIGHT + 200)

    found = await runs(worker, clock, queue, 10)

    assert found == [
        time for time in (MIDNIGHT + 20 + 60 * n for n in range("pattern" in schedule, 10)) if time <= MIDNIGHT + 200
    ]
    scheduler = await queue.get_scheduler("s")
    assert scheduler is not None
    assert scheduler.next_job_id is None


@pytest.mark.parametrize("schedule", [{"every": 60.0}, {"pattern": "* * * * *", "tz": "UTC"}], ids=["every", "pattern"])
async def test_limit_counts_the_runs(queue: Queue, worker: ByHand, clock: TestClock, schedule: dict[str, Any]) -> None:
    """BMQ-123: three runs, and each of them knows its number."""
    await queue.upsert_scheduler("s", **schedule, limit=3)

    counts: list[Any] = []
    for _ in range(5):
        clock.advance(60)
        job = await worker.run()
        if job is not None and job.options.repeat is not None:
            counts.append(job.options.repeat["count"])

    assert counts == [1, 2, 3]
    assert await queue.count_schedulers() == 1


async def test_an_ended_series_starts_again_with_an_upsert(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-123: the limit counts from the latest upsert, also when the last run's job is still stored."""
    await queue.upsert_scheduler("s", every=60.0, limit=1)
    first = await worker.run()

    again = await queue.upsert_scheduler("s", every=60.0, limit=1)

    assert due(again) == due(first) + 60


# The jobs -----------------------------------------------------------------------------------------------------------------


async def test_every_run_has_the_template(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-124."""
    options: dict[str, Any] = {
        "attempts": 3,
        "backoff": Exponential(2.0),
        "priority": 5,
        "remove_on_complete": Keep(count=7),
        "keep_logs": 10,
    }
    await queue.upsert_scheduler("s", every=60.0, name="report", data={"to": "ä"}, **options)

    for _ in range(3):
        job = await worker.run()
        assert job is not None
        assert (job.name, job.data, job.priority, job.scheduler_id) == ("report", {"to": "ä"}, 5, "s")
        assert {name: getattr(job.options, name) for name in options} == options
        clock.advance(60)

    scheduler = await queue.get_scheduler("s")
    assert scheduler is not None
    assert (scheduler.name, scheduler.data) == ("report", {"to": "ä"})
    assert {name: getattr(scheduler.options, name) for name in options} == options


async def test_the_queue_defaults_stand_under_the_template(
    connection: Connection, prefix: str, clock: TestClock
) -> None:
    """BMQ-124: those that fit a job that comes back."""
    queue = Queue("q", connection, prefix=prefix, clock=clock, defaults={"attempts": 4, "keep_logs": 2, "delay": 9.0})

    job = await queue.upsert_scheduler("s", every=60.0, keep_logs=5)

    assert (job.options.attempts, job.options.keep_logs, job.options.delay) == (4, 5, 0.0)


async def test_a_template_may_run_its_jobs_first(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-124: lifo, for the first run and for one that is due as soon as it is made."""
    await queue.add("plain")
    await queue.upsert_scheduler("s", every=60.0, lifo=True)
    clock.advance(60)

    names = [job.name for job in (await worker.run(), await worker.run(), await worker.run()) if job is not None]

    assert names == ["s", "s", "plain"]


async def test_a_template_keeps_members_that_taurine_does_not_know(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-124: a job that another program's template made is followed by one with the same options, to the last digit."""
    job = await queue.upsert_scheduler("s", every=60.0)
    options = json.loads(await raw.hget(keys.job(job.id), "opts") or "")
    unknown = {"list": [], "big": 1234567890123456, "path": "a/b", "text": '"\\é'}
    await raw.hset(keys.job(job.id), "opts", json.dumps({**options, **unknown}))

    claimed = await worker.start()
    assert claimed is not None

    following = await raw.hget(keys.job((await queue.schedulers())[0].next_job_id or ""), "opts")
    assert unknown.items() <= json.loads(following or "").items()


@pytest.mark.parametrize("option", ["job_id", "delay", "timestamp", "deduplication", "parent", "atempts"])
async def test_a_template_takes_no_option_that_is_for_one_job(queue: Queue, option: str) -> None:
    """BMQ-124."""
    with pytest.raises(InvalidOption, match=f"'{option}' is no option of a scheduler's jobs"):
        await queue.upsert_scheduler("s", every=60.0, **{option: "x"})  # pyright: ignore[reportArgumentType] - the point of the test


# Advancing ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [{"every": 60.0}, {"pattern": "* * * * *", "tz": "UTC"}], ids=["every", "pattern"])
async def test_only_the_armed_run_makes_the_next(
    queue: Queue, line: Line, worker: ByHand, clock: TestClock, schedule: dict[str, Any]
) -> None:
    """BMQ-126: a retry, a redelivery and a repeated call change nothing."""
    await queue.upsert_scheduler("s", **schedule)
    clock.advance(90)
    job = await worker.claim()
    assert job is not None

    armed = await worker.advance(job)
    assert armed is not None
    assert await worker.advance(job) is None
    await worker.retry(job)
    retried = await worker.start()

    assert retried is not None
    assert retried.id == job.id
    assert await line.all() == [armed]


async def test_a_run_whose_worker_died_before_it_advanced_is_advanced_by_the_next_worker(
    *, queue: Queue, line: Line, worker: ByHand, clock: TestClock, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-126: the claim and the advance are two calls."""
    await queue.upsert_scheduler("s", every=60.0)
    lost = await worker.claim()
    assert lost is not None
    await raw.delete(keys.lock(lost.id))
    for _ in range(2):
        await raw.delete(keys.key("stalled-check"))
        await worker.store.run("sweep", worker.store.now_ms(), 1000, 1)
    clock.advance(500)

    assert await worker.start() is not None
    assert await line.delayed() == [f"repeat:s:{int((clock.now() + 40) * 1000)}"]


async def test_a_finished_run_that_was_removed_can_still_be_advanced(queue: Queue, line: Line, worker: ByHand) -> None:
    """A worker that runs a job at once and advances beside it may come late."""
    await queue.upsert_scheduler("s", every=60.0)
    job = await worker.claim()
    assert job is not None
    await worker.complete(job, keep="0::")

    assert await worker.advance(job) == (await line.delayed())[0]


@pytest.mark.parametrize(
    "schedule", [{"every": 1.0}, {"pattern": "* * * * * *", "tz": "UTC"}], ids=["every", "pattern"]
)
@pytest.mark.parametrize("taken", [1, 100])
async def test_a_taken_id_does_not_end_the_schedule(
    *,
    queue: Queue,
    worker: ByHand,
    clock: TestClock,
    raw: Redis,
    keys: QueueKeys,
    schedule: dict[str, Any],
    taken: int,
) -> None:
    """BMQ-126: where BullMQ reports a duplicate and never runs again, the next free slot is taken."""
    await queue.upsert_scheduler("s", **schedule, start=MIDNIGHT + 30)
    armed_at = await next_at(queue)
    for second in range(1, taken + 1):
        await raw.hset(keys.job(f"repeat:s:{int((armed_at + second) * 1000)}"), "finishedOn", "1")

    found = await runs(worker, clock, queue, 3)

    assert found == [armed_at, armed_at + taken + 1, armed_at + taken + 2]


async def test_an_upsert_passes_over_taken_ids(
    queue: Queue, worker: ByHand, clock: TestClock, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-119: a run that was promoted and has ended is not run again at its time, nor is its job overwritten."""
    early = await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="UTC")
    await raw.zadd(keys.delayed, {early.id: 4096})
    assert await worker.run() is not None

    job = await queue.upsert_scheduler("s", pattern="0 9,12 * * *", tz="UTC")

    assert due(job) == MIDNIGHT + 12 * HOUR
    assert await raw.zrange(keys.completed, 0, -1) == [early.id]


async def test_very_many_taken_ids_are_an_error_and_change_nothing(
    queue: Queue, line: Line, raw: Redis, keys: QueueKeys, clock: TestClock
) -> None:
    """BMQ-119."""
    for millisecond in range(1200):
        await raw.hset(keys.job(f"repeat:s:{int(clock.now() * 1000) + millisecond}"), "finishedOn", "1")
    for second in range(1, 1200):
        await raw.hset(keys.job(f"repeat:t:{int((clock.now() + second) * 1000)}"), "finishedOn", "1")

    with pytest.raises(SchedulerSlotsTaken, match="scheduler 's' of queue 'q' has jobs under the ids of its next"):
        await queue.upsert_scheduler("s", every=0.001)
    with pytest.raises(SchedulerIdTaken, match="scheduler 't' of queue 'q' has jobs under the ids of its next"):
        await queue.upsert_scheduler("t", pattern="* * * * * *", tz="UTC")

    assert await line.all() == []
    assert await queue.schedulers() == []


async def test_an_upsert_keeps_a_run_that_is_due(queue: Queue, line: Line, clock: TestClock) -> None:
    """BMQ-119: BullMQ drops the overdue run of a pattern, so that a deployment at five past nine loses the report of
    nine.
    """
    job = await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="UTC")
    clock.advance(9 * HOUR + 300)

    again = await queue.upsert_scheduler("s", pattern="0 9 * * *", tz="UTC", data={"new": 1})

    assert again.id == job.id
    assert await line.waiting() == [job.id]


async def test_a_run_that_is_replaced_gives_up_its_deduplication_id(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-119: BullMQ's templates may have one."""
    job = await queue.upsert_scheduler("s", every=60.0)
    await raw.hset(keys.job(job.id), "deid", "d")
    await raw.set(keys.deduplication("d"), job.id)

    await queue.upsert_scheduler("s", every=60.0)

    assert await raw.exists(keys.deduplication("d")) == 0


async def test_an_upsert_leaves_a_run_that_was_started(
    queue: Queue, line: Line, worker: ByHand, clock: TestClock
) -> None:
    """BMQ-119: its retries go on, and it does not advance the scheduler any more."""
    await queue.upsert_scheduler("s", every=60.0)
    job = await worker.claim()
    assert job is not None
    armed = await queue.upsert_scheduler("s", every=60.0)

    assert await worker.advance(job) is None
    await worker.retry(job)

    assert due(armed) == due(job) + 60
    assert sorted(await line.all()) == sorted([job.id, armed.id])


@pytest.mark.parametrize("ghost", [False, True], ids=["gone", "its id still in line"])
@pytest.mark.parametrize("schedule", [{"every": HOUR}, {"pattern": "0 * * * *", "tz": "UTC"}], ids=["every", "pattern"])
async def test_an_upsert_makes_a_lost_run_again(
    *,
    queue: Queue,
    line: Line,
    worker: ByHand,
    clock: TestClock,
    raw: Redis,
    keys: QueueKeys,
    schedule: dict[str, Any],
    ghost: bool,
) -> None:
    """F50: BullMQ's drain can cut the next run out and leave its id; the slot is kept and the id stands in line once."""
    await queue.upsert_scheduler("s", **schedule)
    await runs(worker, clock, queue, 1)
    (lost,) = await line.delayed()
    await raw.delete(keys.job(lost))
    await raw.zrem(keys.delayed, lost)
    if ghost:
        await raw.lpush(keys.wait, lost)
    scheduler = await queue.get_scheduler("s")
    assert scheduler is not None
    assert scheduler.next_job_id is None

    job = await queue.upsert_scheduler("s", **schedule)

    assert job.id == lost
    assert await line.all() == [lost]
    assert await line.removed() == []


async def test_a_lost_record_does_not_stop_the_schedule(
    queue: Queue, worker: ByHand, clock: TestClock, raw: Redis, keys: QueueKeys
) -> None:
    """F50: the claimed run is what is left to go by."""
    await queue.upsert_scheduler("s", every=60.0, name="report", data={"n": 1})
    await raw.delete(keys.scheduler("s"))

    await worker.run()
    clock.advance(60)
    job = await worker.run()

    assert job is not None
    assert (job.name, job.data) == ("report", {"n": 1})


async def test_a_schedule_that_cannot_be_worked_out_says_so(
    queue: Queue, worker: ByHand, raw: Redis, keys: QueueKeys
) -> None:
    """BMQ-121: a pattern that another program wrote; the run stays armed, so an upsert or a retry goes on."""
    job = await queue.upsert_scheduler("s", pattern="0 9 * * *", immediately=True)
    options = json.loads(await raw.hget(keys.job(job.id), "opts") or "")
    options["repeat"]["pattern"] = "H 9 * * *"
    await raw.hset(keys.job(job.id), "opts", json.dumps(options))
    claimed = await worker.claim()
    assert claimed is not None

    with pytest.raises(SchedulerError, match=r"scheduler 's' of queue 'q' cannot be advanced: .*'H'.*; upsert it"):
        await worker.advance(claimed)

    assert await next_at(queue) == due(job)


async def test_a_schedule_goes_on_while_memory_is_full(
    server_factory: Callable[..., ValkeyServer], clock: TestClock
) -> None:
    """F20: a refused advance would end the schedule."""
    server = server_factory(maxmemory_policy="noeviction")
    async with Queue("q", server.url, clock=clock) as queue:
        worker = ByHand(QueueKeys("q"), queue._store.connection, clock)
        await queue.upsert_scheduler("s", every=60.0)
        await worker.store.connection.call("CONFIG", "SET", "maxmemory", "1")

        assert due(await worker.run()) == clock.now()
        with pytest.raises(StoreRefused):
            await queue.upsert_scheduler("t", every=60.0)

        assert await next_at(queue) == clock.now() + 60
        assert await queue.remove_scheduler("s")


async def test_a_job_that_no_scheduler_made_is_let_be(queue: Queue, worker: ByHand) -> None:
    await queue.add("plain")
    job = await worker.claim()
    assert job is not None

    assert await worker.advance(job) is None


async def test_a_worker_advances_the_schedulers_of_the_jobs_it_claims(
    queue: Queue, clock: TestClock, connection: Connection
) -> None:
    """BMQ-120: three ticks, each when the clock has come to it."""
    ticks: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    async def handler(job: Job) -> None:
        ticks.put_nowait((job.id, clock.now()))

    await queue.upsert_scheduler("s", every=60.0)
    async with Worker("q", handler, connection, prefix=queue.prefix, clock=clock):
        for tick in range(3):
            async with asyncio.timeout(10):
                job_id, at = await ticks.get()
            assert due(job_id) == at == MIDNIGHT + 20 + 60 * tick
            clock.advance(60)


# Removing and listing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["delayed", "waiting", "prioritized"])
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_a_scheduler_goes_with_its_next_run(
    *, queue: Queue, line: Line, raw: Redis, keys: QueueKeys, where: str, paused: bool
) -> None:
    """BMQ-128: BullMQ lets a run that waits happen once more."""
    if paused:
        await raw.hset(keys.meta, "paused", "1")
    priority: dict[str, Any] = {"priority": 3} if where == "prioritized" else {}
    job = await queue.upsert_scheduler("s", every=60.0, offset=50.0 if where == "delayed" else None, **priority)
    assert await getattr(line, where)() == [job.id]

    assert await queue.remove_scheduler("s") is True

    assert await line.all() == []
    assert await line.removed() == [job.id]
    assert await raw.keys(f"{keys.schedulers}*") == []
    assert await queue.remove_scheduler("s") is False


async def test_the_next_run_goes_only_with_its_scheduler(queue: Queue, line: Line) -> None:
    """BMQ-127."""
    job = await queue.upsert_scheduler("s", every=60.0)

    with pytest.raises(BelongsToScheduler, match="next run of a scheduler; remove the scheduler instead"):
        await queue.remove(job.id)

    assert await line.all() == [job.id]


async def test_removing_a_scheduler_leaves_a_run_that_was_started(queue: Queue, line: Line, worker: ByHand) -> None:
    """BMQ-128: it ends, with its retries, and nothing follows."""
    await queue.upsert_scheduler("s", every=60.0, attempts=2)
    job = await worker.claim()
    assert job is not None
    await queue.remove_scheduler("s")

    assert await worker.advance(job) is None
    await worker.retry(job)
    assert await line.all() == [job.id]


async def test_schedulers_are_listed_by_their_next_run(queue: Queue) -> None:
    """BMQ-128."""
    await queue.upsert_scheduler("noon", pattern="0 12 * * *", tz="UTC", limit=9, end=MIDNIGHT + 30 * DAY)
    await queue.upsert_scheduler("nine", pattern="0 9 * * *", tz="UTC", data=[1], attempts=2)
    await queue.upsert_scheduler("now", every=60.0, name="tick")

    assert [entry.id for entry in await queue.schedulers()] == ["now", "nine", "noon"]
    assert [entry.id for entry in await queue.schedulers(ascending=False)] == ["noon", "nine", "now"]
    assert [entry.id for entry in await queue.schedulers(1, 1)] == ["nine"]
    assert [entry.id for entry in await queue.schedulers(-2, -1)] == ["nine", "noon"]
    assert await queue.count_schedulers() == 3

    noon = await queue.get_scheduler("noon")
    assert noon is not None
    assert noon.schedule == Schedule(pattern="0 12 * * *", tz="UTC", limit=9, end=MIDNIGHT + 30 * DAY)
    assert (noon.next_at, noon.name, noon.data, noon.iterations) == (MIDNIGHT + 12 * HOUR, "noon", {}, 1)
    assert await queue.get_scheduler("none") is None


async def test_an_unreadable_record_hides_no_other(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-128."""
    await queue.upsert_scheduler("good", every=60.0)
    await queue.upsert_scheduler("bad", every=60.0)
    await raw.hset(keys.scheduler("bad"), "data", "{")

    assert [entry.id for entry in await queue.schedulers()] == ["good"]
    with pytest.raises(SchedulerError, match="scheduler 'bad' of queue 'q' has a record that cannot be decoded"):
        await queue.get_scheduler("bad")


# Other calendars ----------------------------------------------------------------------------------------------------------


def every_tenth_second(after: float, schedule: Schedule) -> float | None:
    """A recurrence rule of one kind, counted from the schedule's start."""
    assert schedule.pattern == "FREQ=SECONDLY;INTERVAL=10"
    start = schedule.start or 0.0
    return start + ((after - start) // 10 + 1) * 10


async def test_a_strategy_works_out_patterns_of_its_own(
    queue: Queue, keys: QueueKeys, connection: Connection, clock: TestClock
) -> None:
    """BMQ-129: the producer and the worker are given the same one."""
    worker = ByHand(keys, connection, clock, strategy=every_tenth_second)
    await queue.upsert_scheduler(
        "s",
        pattern="FREQ=SECONDLY;INTERVAL=10",
        start=MIDNIGHT + 3.25,
        end=MIDNIGHT + 55,
        schedule_strategy=every_tenth_second,
    )

    assert await runs(worker, clock, queue, 9) == [MIDNIGHT + second + 0.25 for second in (23, 33, 43, 53)]


async def test_a_strategy_that_does_not_move_on_is_refused(
    queue: Queue, keys: QueueKeys, connection: Connection, clock: TestClock
) -> None:
    """BMQ-129."""
    with pytest.raises(InvalidOption, match="to return a time after"):
        await queue.upsert_scheduler("s", pattern="mine", schedule_strategy=lambda after, _: after)

    def fails(after: float, schedule: Schedule) -> float:
        raise RuntimeError("no calendar")

    await queue.upsert_scheduler("s", pattern="mine", schedule_strategy=lambda after, _: after + 1)
    clock.advance(1)
    worker = ByHand(keys, connection, clock, strategy=fails)
    job = await worker.claim()
    assert job is not None
    with pytest.raises(SchedulerError, match="cannot be advanced: no calendar"):
        await worker.advance(job)


# What is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected either every or pattern, got neither"),
        ({"every": 1.0, "pattern": "* * * * *"}, "expected either every or pattern, got both"),
        ({"every": 0}, "expected every to be from 0.001"),
        ({"every": "1"}, "expected every to be seconds or a timedelta, got str"),
        ({"every": 1.0, "end": MIDNIGHT}, "expected end to be in the future"),
        ({"every": 1.0, "end": datetime(2030, 1, 1)}, "expected end to be wall seconds or an aware datetime"),  # noqa: DTZ001 - the point
        ({"every": 1.0, "start": MIDNIGHT + 2 * DAY, "end": MIDNIGHT + DAY}, "expected start to be before end"),
        ({"every": 60.0, "offset": 60.0}, "expected offset to be less than every"),
        ({"every": 60.0, "offset": 5.0, "start": MIDNIGHT + DAY}, "offset and start both say"),
        ({"every": 60.0, "offset": 5.0, "immediately": True}, "immediately and offset both say"),
        ({"pattern": "* * * * *", "start": MIDNIGHT + DAY, "immediately": True}, "immediately and start both say"),
        ({"pattern": "* * * * *", "offset": 1.0}, "offset is for every"),
        ({"every": 60.0, "tz": "UTC"}, "tz is for a pattern"),
        ({"every": 60.0, "limit": 0}, "expected limit to be a whole number from 1"),
        ({"every": 60.0, "limit": True}, "expected limit to be a whole number from 1"),
        ({"pattern": ""}, "expected pattern to be text"),
        ({"pattern": "61 * * * *"}, "cron minute '61'"),
        ({"pattern": "* * * * *", "tz": "Europe/Berlim"}, "did you mean 'Europe/Berlin'"),
        ({"pattern": "0 0 1 1 *", "end": MIDNIGHT + DAY}, "the schedule has no run"),
        ({"every": DAY, "offset": 5.0, "end": MIDNIGHT + 60}, "the schedule has no run"),
    ],
)
async def test_a_schedule_that_makes_no_sense_is_refused(
    queue: Queue, raw: Redis, prefix: str, options: dict[str, Any], message: str
) -> None:
    """BMQ-130: and nothing is stored."""
    with pytest.raises(InvalidOption, match=message):
        await queue.upsert_scheduler("s", **options)

    assert await raw.keys(f"{prefix}:*") == []


@pytest.mark.parametrize("scheduler_id", ["", "a\nb", "x" * 513, "s:1795305600000", "s:1795305600000:logs"])
async def test_an_id_that_cannot_be_stored_is_refused(queue: Queue, scheduler_id: str) -> None:
    """BMQ-119: the last two would be the id of another scheduler's run, or of its logs."""
    with pytest.raises(InvalidName):
        await queue.upsert_scheduler(scheduler_id, every=60.0)


async def test_any_other_id_will_do(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-119: quotes, colons and letters of all kinds read back as given."""
    for scheduler_id in ('a"b\\c', "report:7:eu", "täglich ✓"):
        job = await queue.upsert_scheduler(scheduler_id, every=60.0)
        claimed = await worker.run()
        assert claimed is not None
        assert (claimed.id, claimed.scheduler_id) == (job.id, scheduler_id)
        assert claimed.stored_options()["jobId"] == job.id
        assert await next_at(queue, scheduler_id) == clock.now() + 60


async def test_the_old_repeat_option_is_refused_with_a_hint(queue: Queue) -> None:
    """BMQ-131."""
    with pytest.raises(InvalidOption, match=r"use `queue\.upsert_scheduler\(id, every=seconds\)`"):
        await queue.add("job", repeat={"every": 1000})  # pyright: ignore[reportCallIssue] - the point of the test


# Any order ----------------------------------------------------------------------------------------------------------------


async def test_whatever_happens_there_is_one_next_run(
    *, queue: Queue, line: Line, worker: ByHand, clock: TestClock, raw: Redis, keys: QueueKeys, seed: int
) -> None:
    """BMQ-126, F50: a random history; after every upsert and every advance exactly one run stands in line unstarted."""
    choice = random.Random(seed)
    started: list[Job] = []
    history: list[str] = []
    schedules: list[dict[str, Any]] = [
        {"every": 60.0},
        {"every": 45.0, "priority": 2},
        {"every": 60.0, "offset": 10.0},
        {"pattern": "* * * * *", "tz": "UTC"},
        {"pattern": "*/20 * * * * *", "tz": "UTC", "immediately": True},
    ]

    async def unstarted() -> list[str]:
        return [run for run in await line.all() if not await raw.hexists(keys.job(run), "ats")]

    for _ in range(250):
        action = choice.choice(["upsert", "move", "run", "claim", "advance", "retry", "lose", "pause", "remove"])
        history.append(action)
        before = await unstarted()
        if action == "upsert":
            await queue.upsert_scheduler("s", **choice.choice(schedules))
            assert len(await unstarted()) == 1, history
        elif action == "move":
            clock.advance(choice.choice([0.001, 1, 30, 61, 1000]))
        elif action in ("run", "claim"):
            job = await (worker.run if action == "run" else worker.claim)()
            if job is not None and action == "claim":
                started.append(job)
            if job is not None and action == "run" and before == [job.id]:
                assert len(await unstarted()) == 1, history
        elif action == "advance" and started:
            made = await worker.advance(choice.choice(started))
            assert made is None or await unstarted() == [made], history
        elif action == "retry" and started:
            await worker.retry(started.pop())
        elif action == "lose" and before:
            await raw.delete(keys.job(before[0]))
            await raw.zrem(keys.delayed, before[0])
        elif action == "pause":
            await (raw.hdel(keys.meta, "paused") if choice.random() < 0.7 else raw.hset(keys.meta, "paused", "1"))
        elif action == "remove":
            await queue.remove_scheduler("s")
            assert await unstarted() == [], history
        assert len(await unstarted()) <= 1, history
