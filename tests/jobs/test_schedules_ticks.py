"""Ticks: each time has one record and one run, whatever becomes of the workers, the queue and the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.reconciling import NO_UPKEEP, backend_of, reconciler
from jobs.ticking import Seen, Ticking, clock_at, installer, tick_id, utc
from support.eventually import eventually
from support.process_handlers import scheduled_for, taking_nothing
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import Cancel
from taurine.jobs.catalog.without_payload import NoPayload
from taurine.jobs.handler.context import Context
from taurine.queue.connection import Connection
from taurine.retry import Fixed, Retry
from taurine.testing import TestClock

Factory = Callable[..., Taurine]

DUE = "2026-03-11 03:00"
TICK = tick_id("report", DUE)
QUICK = Retry(attempts=3, backoff=Fixed(0.0))


@pytest.fixture
def clock() -> TestClock:
    return clock_at()


@pytest.fixture
def ticking(app_factory: Factory, clock: TestClock) -> Ticking:
    return Ticking(app_factory(clock=clock), clock, retry=QUICK)


async def test_a_late_tick_has_its_scheduled_and_its_start_time(ticking: Ticking, ledger_url: str) -> None:
    """SEED-054, SEED-244: no worker ran at 03:00; the handler books into the right hour all the same."""
    await ticking.app.migrate()
    await installer(ticking.app).run_once()
    ticking.at("2026-03-11 05:30")

    async with ticking.working():
        record = await ticking.until(TICK, "completed")

    assert ticking.seen == [Seen(TICK, 1, utc(DUE))]
    assert (record.scheduled_for, record.started_at) == (utc(DUE), utc("2026-03-11 05:30"))
    assert (record.type, record.queue, record.created_by, record.source) == (
        "report",
        "q",
        "schedule:report",
        "schedule",
    )
    assert (record.payload, record.output, record.max_attempts, record.metadata) == (
        {},
        "sent",
        3,
        {"schedule": "report"},
    )
    assert [found.id async for found in ticking.app.list(user="schedule:report")] == [TICK]
    assert (await ticking.app.compare()).total == 0


async def test_times_that_are_missed_while_no_worker_runs_are_one_late_tick(ticking: Ticking) -> None:
    await installer(ticking.app).run_once()
    ticking.at("2026-03-14 12:00")

    async with ticking.working():
        await ticking.until(TICK, "completed")
        assert await ticking.next_at() == "2026-03-15 03:00"
        ticking.at("2026-03-15 03:00")
        await ticking.until(tick_id("report", "2026-03-15 03:00"), "completed")

    assert [seen.scheduled_for for seen in ticking.seen] == [utc(DUE), utc("2026-03-15 03:00")]


async def test_an_interval_ticks_at_its_multiples_each_once(app: Taurine) -> None:
    ticks: list[datetime | None] = []

    @app.job("usage.roll-over", every=0.2)
    async def roll_over(ctx: Context) -> None:
        ticks.append(ctx.scheduled_for)

    async with app.worker():
        await eventually(lambda: len(ticks) >= 3, 20, "it ticks too rarely")

    assert len(set(ticks)) == len(ticks)
    assert all(tick is not None and round(tick.timestamp() * 1000) % 200 == 0 for tick in ticks)


async def test_a_tick_that_a_stopping_worker_hands_back_is_one_record(app_factory: Factory, clock: TestClock) -> None:
    app = app_factory(clock=clock)
    attempts: list[int] = []
    started, go = asyncio.Event(), asyncio.Event()

    @app.cron("0 3 * * *", id="report", queue="q")
    async def report(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        started.set()
        await go.wait()
        return "sent"

    await installer(app).run_once()
    clock.advance(12 * 3600)
    first = app.worker(upkeep=NO_UPKEEP)
    async with first:
        await asyncio.wait_for(started.wait(), 10)
        await first.stop(grace=0)
    go.set()
    async with app.worker(upkeep=NO_UPKEEP):
        await eventually(lambda: _has(app, TICK, "completed"))

    assert attempts == [1, 1]
    assert [record.id async for record in app.list(type="report")] == [TICK]


async def _has(app: Taurine, job_id: str, status: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.status == status


async def test_a_tick_that_the_server_hands_out_again_does_not_run_again(
    ticking: Ticking, raw: RawStore, prefix: str, redis_socket_url: str
) -> None:
    """A failover to an older state: what has run stands armed again, and is the next run of the scheduler."""
    await installer(ticking.app).run_once()
    keys = [key async for key in raw.scan_iter(f"{prefix}:q:*")]
    async with _binary(redis_socket_url) as binary:
        state = {key: await binary("DUMP", key) for key in keys}
        ticking.at("2026-03-11 03:00")
        async with ticking.working():
            await ticking.until(TICK, "completed")
        await raw.delete(*[key async for key in raw.scan_iter(f"{prefix}:q:*")])
        for key, dump in state.items():
            await binary("RESTORE", key, 0, dump)
    assert await ticking.next_at() == DUE

    async with ticking.working():
        await eventually(lambda: _is_next(ticking, "2026-03-12 03:00"), message="it was not advanced")

        async def acknowledged() -> bool:
            return await raw.zscore(f"{prefix}:q:completed", TICK) is not None

        await eventually(acknowledged)
    assert ticking.seen == [Seen(TICK, 1, utc(DUE))]


async def _is_next(ticking: Ticking, at: str) -> bool:
    return await ticking.next_at() == at


@contextlib.asynccontextmanager
async def _binary(url: str) -> AsyncGenerator[Any]:
    """Commands whose replies are bytes, which a dump is."""
    connection = Connection(url)
    try:
        yield connection.call
    finally:
        await connection.close()


async def test_a_tick_that_the_server_loses_is_put_back_as_what_it_was(
    app_factory: Factory, clock: TestClock, raw: RawStore, prefix: str
) -> None:
    """P1: it waits for its second attempt when Redis is flushed.

    Its record is put back under the same id, and the schedule is installed again.
    """
    retry = Retry(attempts=3, backoff=Fixed(600.0))
    ticking = Ticking(app_factory(clock=clock), clock, failing=1, retry=retry)
    service = installer(ticking.app)
    await service.run_once()
    ticking.at("2026-03-11 03:00")
    async with ticking.working():
        await ticking.until(TICK, "retrying")
    await raw.delete(*[key async for key in raw.scan_iter(f"{prefix}:q:*")])
    ticking.at("2026-03-11 03:05")

    report = await reconciler(ticking.app, rate=float("inf")).run_once()
    assert (report.gone, report.put_back, await service.run_once()) == (1, 1, 1)
    assert await raw.exists(f"{prefix}:q:{TICK}")
    ticking.at("2026-03-11 03:20")
    async with ticking.working():
        record = await ticking.until(TICK, "completed")

    assert ticking.seen == [Seen(TICK, 1, utc(DUE)), Seen(TICK, 2, utc(DUE))]
    assert (record.generation, record.scheduled_for) == (1, utc(DUE))
    assert await ticking.next_at() == "2026-03-12 03:00"
    assert (await reconciler(ticking.app, rate=float("inf")).run_once()).repaired == 0
    assert (await ticking.app.compare()).total == 0


async def test_a_tick_is_retried_dies_and_is_redriven_as_any_job_is(app_factory: Factory, clock: TestClock) -> None:
    """Whenever it runs, it is the tick of its time; what follows is not moved."""
    ticking = Ticking(app_factory(clock=clock), clock, failing=3, retry=QUICK)
    await installer(ticking.app).run_once()
    ticking.at("2026-03-11 03:00")
    async with ticking.working():
        await ticking.until(TICK, "failed")
        assert await ticking.next_at() == "2026-03-12 03:00"
        (letter,) = await ticking.app.dead_letters.list()
        assert (letter.job_id, letter.reason) == (TICK, "exhausted")
        ticking.at("2026-03-11 09:00")
        await ticking.app.dead_letters.redrive(letter, user="ada")
        record = await ticking.until(TICK, "completed")

    assert [(seen.attempt, seen.scheduled_for) for seen in ticking.seen] == [
        (1, utc(DUE)),
        (2, utc(DUE)),
        (3, utc(DUE)),
        (1, utc(DUE)),
    ]
    assert record.started_at == utc("2026-03-11 09:00")
    assert await ticking.next_at() == "2026-03-12 03:00"


async def test_a_tick_whose_worker_dies_too_often_is_dead_and_the_schedule_goes_on(
    ticking: Ticking, raw: RawStore, prefix: str
) -> None:
    """`max_crashes` holds for it as for any job: BullMQ would hand it out for ever."""
    await installer(ticking.app).run_once()
    ticking.at("2026-03-11 03:00")
    ticking.may_end.clear()
    store: Any = (await backend_of(ticking.app).queue("q"))._store
    async with ticking.working(max_crashes=1, lease=60):
        await eventually(lambda: ticking.seen, message="it did not start")
        await raw.delete(f"{prefix}:q:{TICK}:lock")  # as when its worker is gone
        for _ in range(2):
            await raw.delete(f"{prefix}:q:stalled-check")
            await store.run("sweep", store.now_ms(), 1000, 0)
        await ticking.until(TICK, "failed")
        ticking.may_end.set()

    (letter,) = await ticking.app.dead_letters.list()
    assert (letter.job_id, letter.reason) == (TICK, "crashed")
    assert await ticking.next_at() == "2026-03-12 03:00"


async def test_a_running_tick_can_be_cancelled_and_says_why_it_does_not_run(
    app_factory: Factory, clock: TestClock
) -> None:
    ticking = Ticking(app_factory(clock=clock), clock, failing=1, retry=Retry(attempts=3, backoff=Fixed(600.0)))
    await installer(ticking.app).run_once()
    ticking.at("2026-03-11 03:00")
    async with ticking.working():
        await ticking.until(TICK, "retrying")
        why = await ticking.app.why(TICK)
        record = await ticking.app.cancel(TICK, reason="not today", user="ada")

    assert why.code == "retrying", why
    assert (record.status, record.cancel_reason) == ("cancelled", "not today")
    assert (await ticking.app.compare()).total == 0


async def test_a_handler_may_cancel_its_own_tick(app_factory: Factory, clock: TestClock) -> None:
    app = app_factory(clock=clock)

    @app.cron("0 3 * * *", id="report", queue="q")
    async def report(ctx: Context) -> None:
        raise Cancel("a holiday")

    await installer(app).run_once()
    clock.advance(12 * 3600)
    async with app.worker(upkeep=NO_UPKEEP):
        await eventually(lambda: _has(app, TICK, "cancelled"))


async def test_a_tick_that_is_too_late_expires_where_its_type_says_so(app_factory: Factory, clock: TestClock) -> None:
    ticking = Ticking(app_factory(clock=clock), clock, expires_in=timedelta(hours=2))
    await installer(ticking.app).run_once()
    ticking.at("2026-03-11 05:30")

    async with ticking.working():
        await ticking.until(TICK, "expired")
        ticking.at("2026-03-12 03:00")
        await ticking.until(tick_id("report", "2026-03-12 03:00"), "completed")

    assert len(ticking.seen) == 1


class Usage(BaseModel):
    tenant_id: str = "acme"
    months: int = 1


async def test_a_payload_has_its_defaults_of_the_day_and_its_tenant(app_factory: Factory, clock: TestClock) -> None:
    """What the queue holds is empty, so that a default that changes in the code holds from then on (SEED-054)."""
    before, after = app_factory(clock=clock), app_factory(clock=clock)
    before.declare("usage", Usage, queue="q", every=3600.0, tenant="{tenant_id}")
    await installer(before).run_once()
    seen: list[tuple[int, str | None]] = []

    class Changed(Usage):
        months: int = 12

    @after.job("usage", queue="q", every=3600.0, tenant="{tenant_id}")
    async def usage(payload: Changed, ctx: Context) -> None:
        seen.append((payload.months, ctx.tenant))

    clock.advance(3600)
    job_id = tick_id("usage", "2026-03-10 21:00")
    async with after.worker(upkeep=NO_UPKEEP):
        await eventually(lambda: _has(after, job_id, "completed"))

    assert seen == [(12, "acme")]
    record = await after.get(job_id, tenant="acme")
    assert record is not None
    assert record.payload == {}


async def test_a_schedule_that_is_declared_no_longer_ticks_while_its_type_is(
    app_factory: Factory, clock: TestClock
) -> None:
    """Another program may declare it."""
    await installer(Ticking(app_factory(clock=clock), clock).app).run_once()
    app = app_factory(clock=clock)

    @app.job("report", queue="q")
    async def report(ctx: Context) -> str:
        return f"{ctx.scheduled_for:%H:%M}"

    clock.advance(12 * 3600)
    async with app.worker(upkeep=NO_UPKEEP):
        await eventually(lambda: _has(app, TICK, "completed"))
    record = await app.get(TICK)
    assert record is not None
    assert record.output == "03:00"


async def test_a_tick_of_a_type_that_nobody_knows_is_left_to_others_and_dead_in_the_end(
    app_factory: Factory, clock: TestClock, raw: RawStore, prefix: str
) -> None:
    """SEED-201: it does not succeed in silence, and while workers are replaced one by one it is not lost."""
    await installer(Ticking(app_factory(clock=clock), clock).app).run_once()
    app = app_factory(clock=clock)

    @app.job("other", queue="q")
    async def other(number: int) -> None: ...

    clock.advance(7 * 3600)
    async with app.worker(upkeep=NO_UPKEEP):

        async def handed_back() -> bool:
            return int(await raw.hget(f"{prefix}:q:{TICK}", "ats") or 0) >= 1

        await eventually(handed_back)
        assert await app.get(TICK) is None
        await raw.hset(f"{prefix}:q:{TICK}", "ats", 20)
        clock.advance(3600)
        await eventually(lambda: _has(app, TICK, "failed"), 15)
    (letter,) = await app.dead_letters.list()
    assert (letter.job_id, letter.reason) == (TICK, "unknown_type")


async def test_a_scheduler_that_others_make_in_a_queue_of_ours_alone_is_refused(
    app_factory: Factory, ticking: Ticking
) -> None:
    queue = await backend_of(ticking.app).queue("q")
    job = await queue.upsert_scheduler("theirs", every=60.0, name="report", start=ticking.clock.now() + 1)
    ticking.clock.advance(1)

    async with ticking.working():
        await eventually(lambda: _state(queue, job.id, "failed"))

    assert await ticking.app.get(job.id) is None
    assert ticking.seen == []


async def _state(queue: Any, job_id: str, state: str) -> bool:
    return await queue.state(job_id) == state


@pytest.mark.parametrize("ended", [True, False])
async def test_a_tick_that_both_queues_of_a_moved_schedule_have_runs_once(
    app_factory: Factory, clock: TestClock, raw: RawStore, prefix: str, ended: bool
) -> None:
    """While workers are replaced one by one. The second is a duplicate, and no forgery that operators are to hear of."""
    alerts: list[str] = []
    older = Ticking(app_factory(clock=clock), clock)
    app = app_factory(clock=clock, on_alert=lambda alert: alerts.append(alert.kind))
    ran: list[str] = []

    @app.cron("0 3 * * *", id="report", queue="reports")
    async def report(ctx: Context) -> None:
        ran.append(ctx.job_id)

    await installer(older.app).run_once()
    await installer(app).run_once()
    older.at(DUE)
    if not ended:
        older.may_end.clear()
    async with older.working():
        await older.until(TICK, "completed" if ended else "running")
        async with app.worker(upkeep=NO_UPKEEP):

            async def acknowledged() -> bool:
                assert await raw.zscore(f"{prefix}:reports:failed", TICK) is None, "it was refused"
                return await raw.zscore(f"{prefix}:reports:completed", TICK) is not None

            await eventually(acknowledged, 10, "the tick was not acknowledged")
        older.may_end.set()
        record = await older.until(TICK, "completed")

    value = await raw.hget(f"{prefix}:reports:{TICK}", "returnvalue")
    assert (ran, alerts, older.seen) == ([], [], [Seen(TICK, 1, utc(DUE))])
    assert (record.queue, record.output, value) == ("q", "sent", '"sent"' if ended else "null")


async def test_a_tick_that_is_due_in_the_queue_that_its_schedule_has_left_runs_in_the_new_one(
    app_factory: Factory, clock: TestClock
) -> None:
    """A worker of the new version serves the old queue too, and nobody has ended the schedule there yet."""
    await installer(Ticking(app_factory(clock=clock), clock).app).run_once()
    app = app_factory(clock=clock)
    ran: list[Seen] = []

    @app.cron("0 3 * * *", id="report", queue="reports")
    async def report(ctx: Context) -> None:
        assert ctx.scheduled_for is not None
        ran.append(Seen(ctx.job_id, ctx.attempt, ctx.scheduled_for))

    @app.job("other", queue="q")
    async def other(number: int) -> None: ...

    clock.advance(7 * 3600)
    async with app.worker(upkeep=replace(NO_UPKEEP, install_every=None)):
        await eventually(lambda: _has(app, TICK, "completed"), 10, "it did not run")

    record = await app.get(TICK)
    assert record is not None
    assert (record.queue, record.generation, ran) == ("reports", 1, [Seen(TICK, 1, utc(DUE))])


async def test_a_schedule_can_be_run_now_beside_its_ticks(ticking: Ticking) -> None:
    await installer(ticking.app).run_once()
    ticking.at("2026-03-10 21:00")
    async with ticking.working():
        first = await ticking.app.schedules.trigger("report", user="ada")
        second = await ticking.app.schedules.trigger("report")
        assert await first.result(timeout=10) == await second.result(timeout=10) == "sent"
        record = await first.record()

    assert first.id != second.id
    assert {seen.scheduled_for for seen in ticking.seen} == {utc("2026-03-10 21:00")}
    assert (record.created_by, record.metadata) == ("ada", {"schedule": "report"})
    assert await ticking.next_at() == DUE


async def test_reports_of_07_00_run_two_at_once_at_most(app_factory: Factory, clock: TestClock) -> None:
    """SEED-200: daily 07:00 under a fixed id, concurrency 2."""
    app = app_factory(clock=clock)
    running: list[int] = [0, 0]
    two, go = asyncio.Event(), asyncio.Event()

    @app.cron("0 7 * * *", tz="Europe/Berlin", id="daily-report", queue="reports")
    async def report(ctx: Context) -> None:
        running[0] += 1
        running[1] = max(running)
        if running[0] == 2:
            two.set()
        await go.wait()
        running[0] -= 1

    async with app.worker(concurrency={"reports": 2}, upkeep=NO_UPKEEP):
        handles = [await app.schedules.trigger("daily-report") for _ in range(5)]
        await asyncio.wait_for(two.wait(), 10)
        go.set()
        for handle in handles:
            await handle.result(timeout=10)
        info = await eventually(lambda: _installed(app))
    assert info.next_run is not None
    assert (info.next_run.astimezone(UTC), info.text) == (utc("2026-03-11 06:00"), "at 07:00, every day")
    assert running == [0, 2]


async def _installed(app: Taurine) -> Any:
    (info,) = await app.schedules.list()
    return info if info.next_run is not None else None


async def test_a_tick_runs_in_a_process_of_its_own(app_factory: Factory) -> None:
    app = app_factory()
    app.cron("0 3 * * *", id="report", queue="q", runs_in="process")(scheduled_for)
    app.cron("0 3 * * *", id="sweep", queue="q", runs_in="process")(taking_nothing)

    async with app.worker(upkeep=NO_UPKEEP):
        handle = await app.schedules.trigger("report")
        shown = await handle.result(timeout=60)
        record = await handle.record()
        swept = await (await app.schedules.trigger("sweep")).result(timeout=60)

    assert swept == "nothing taken"
    assert record.scheduled_for is not None
    assert shown == record.scheduled_for.isoformat()


async def test_a_handler_may_take_nothing(app_factory: Factory) -> None:
    """A tick has no payload, and who does not ask for the context need not name it; of a job type likewise."""
    app = app_factory()

    @app.cron("0 3 * * *", queue="q")
    async def sweep() -> str:
        return "swept"

    @app.cron("0 3 * * *", queue="q")
    def sweep_plainly() -> str:
        return "plainly"

    @app.job("sweep.now", queue="q")
    async def sweep_now(*, dry: bool = False) -> bool:
        return dry

    async with app.worker(upkeep=NO_UPKEEP):
        handles = [await app.schedules.trigger(name) for name in ("sweep", "sweep_plainly")]
        shown = [await handle.result(timeout=20) for handle in (*handles, await sweep_now.enqueue(NoPayload()))]

    assert shown == ["swept", "plainly", False]
