"""Installing what is declared: one scheduler however many processes start, and again when the server has lost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from jobs.reconciling import backend_of
from jobs.ticking import Ticking, clock_at, installer, tick_id
from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import InvalidOption, NotAuthorized, ScheduleNotFound, StoreUnavailable
from taurine.jobs.handler.context import Context
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.queue import Queue
from taurine.retry import Retry

Factory = Callable[..., Taurine]


@pytest.fixture
def ticking(app_factory: Factory) -> Ticking:
    clock = clock_at()
    return Ticking(app_factory(clock=clock), clock)


async def nothing(ctx: Context) -> None:
    pass


async def line(raw: RawStore, prefix: str, queue: str = "q") -> list[str]:
    """The ids of all jobs that wait."""
    return [*await raw.zrange(f"{prefix}:{queue}:delayed", 0, -1), *await raw.lrange(f"{prefix}:{queue}:wait", 0, -1)]


async def test_five_restarts_leave_one_scheduler_and_its_next_run(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """SEED-053, SEED-141: hourly at minute 5; a worker is started, stopped, and started again."""
    for _ in range(5):
        clock = clock_at("2026-03-10 20:17")
        ticking = Ticking(app_factory(clock=clock), clock, pattern="5 * * * *")
        async with ticking.working():
            await eventually(ticking.scheduler, message="the schedule is not installed")
            assert await ticking.next_at() == "2026-03-10 21:05"
        await ticking.app.close()

    assert await raw.zrange(f"{prefix}:q:repeat", 0, -1) == ["report"]
    assert await line(raw, prefix) == [tick_id("report", "2026-03-10 21:05")]


@pytest.mark.parametrize("times", [{"pattern": "0 3 * * *"}, {"every": 3600.0}])
async def test_ten_replicas_that_start_at_once_install_one(
    app_factory: Factory, raw: RawStore, prefix: str, times: Any
) -> None:
    """SEED-246."""
    replicas: list[Taurine] = []
    for _ in range(10):
        app = app_factory(clock=clock_at())
        if "every" in times:
            app.job("report", queue="q", **times)(nothing)
        else:
            app.cron(times["pattern"], id="report", queue="q")(nothing)
        replicas.append(app)

    await asyncio.gather(*(installer(app).run_once() for app in replicas))

    due = "2026-03-10 21:00" if "every" in times else "2026-03-11 03:00"
    assert await raw.zrange(f"{prefix}:q:repeat", 0, -1) == ["report"]
    assert await line(raw, prefix) == [tick_id("report", due)]


async def test_a_pattern_that_has_changed_takes_over_and_an_older_process_does_not_win_it_back(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    old = Ticking(app_factory(clock=clock_at()), clock_at())
    new = Ticking(app_factory(clock=clock_at()), clock_at(), pattern="0 4 * * *", retry=Retry(attempts=7))
    older = installer(old.app)
    assert await older.run_once() == 1
    assert await new.next_at() == "2026-03-11 03:00"

    assert await installer(new.app).run_once() == 1
    assert await older.run_once() == 0

    assert await new.next_at() == "2026-03-11 04:00"
    assert await line(raw, prefix) == [tick_id("report", "2026-03-11 04:00")]
    scheduler = await new.scheduler()
    assert scheduler is not None
    assert (scheduler.options.attempts, scheduler.data, scheduler.tz) == (7, {}, "UTC")


@pytest.mark.parametrize("lost", ["*", "q:repeat*", "q:repeat:report:*"])
async def test_what_the_server_has_lost_is_installed_again(
    ticking: Ticking, raw: RawStore, prefix: str, lost: str
) -> None:
    """All of it, the scheduler, or the next run alone, while the process goes on."""
    service = installer(ticking.app)
    assert await service.run_once() == 1
    assert await service.run_once() == 0
    await raw.delete(*[key async for key in raw.scan_iter(f"{prefix}:{lost}")])

    assert await service.run_once() == 1

    assert await ticking.next_at() == "2026-03-11 03:00"
    assert await raw.exists(f"{prefix}:q:{tick_id('report', '2026-03-11 03:00')}")


async def test_a_running_worker_installs_again_what_was_lost(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    app = app_factory()
    app.cron("0 3 * * *", id="report", queue="q")(nothing)
    scheduled = f"{prefix}:q:repeat"

    async with app.worker(upkeep=Upkeep(install_every=0.05)):
        await eventually(lambda: raw.exists(scheduled), message="it was not installed")
        await raw.delete(*[key async for key in raw.scan_iter(f"{prefix}:q:*")])
        await eventually(lambda: raw.exists(scheduled), message="it was not installed again")


async def test_a_worker_installs_the_schedules_of_its_queues_alone(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    app = app_factory()
    app.cron("0 3 * * *", id="report", queue="q")(nothing)
    app.cron("0 3 * * *", id="other", queue="elsewhere")(nothing)

    async with app.worker(queues=["q"]):
        await eventually(lambda: raw.exists(f"{prefix}:q:repeat"), message="it was not installed")
    async with app.worker(queues=["elsewhere"], upkeep=Upkeep(install_every=None)) as worker:
        await eventually(lambda: worker.is_ready, message="the worker is not ready")

    assert not await raw.exists(f"{prefix}:elsewhere:repeat")


async def test_a_schedule_that_is_moved_to_another_queue_leaves_the_old_one(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ticks would have one record and two jobs."""
    before = app_factory(clock=clock_at())
    before.cron("0 3 * * *", id="report", queue="q")(nothing)
    await installer(before).run_once()
    after = app_factory(clock=clock_at())
    after.cron("0 3 * * *", id="report", queue="reports")(nothing)
    after.declare("still.here", int, queue="q")
    await (await backend_of(after).queue("q")).upsert_scheduler("foreign", every=60.0, name="theirs")

    await installer(after).run_once()

    assert await raw.zrange(f"{prefix}:q:repeat", 0, -1) == ["foreign"]
    assert await raw.zrange(f"{prefix}:reports:repeat", 0, -1) == ["report"]
    assert "schedule report has moved from queue q to reports" in caplog.text


async def test_a_moved_schedule_that_an_older_process_puts_back_is_ended_there_again(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The older one takes it for lost. When it ends, nobody else would know of the one that it has left."""
    before = app_factory(clock=clock_at())
    before.cron("0 3 * * *", id="report", queue="q")(nothing)
    after = app_factory(clock=clock_at())
    after.cron("0 3 * * *", id="report", queue="reports")(nothing)
    after.declare("still.here", int, queue="q")
    older, newer = installer(before), installer(after)
    await older.run_once()
    await newer.run_once()
    assert await older.run_once() == 1

    assert await newer.run_once() == 0

    assert await raw.zrange(f"{prefix}:q:repeat", 0, -1) == []
    assert await line(raw, prefix) == []
    assert await raw.zrange(f"{prefix}:reports:repeat", 0, -1) == ["report"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "each look would say it"


async def test_of_two_versions_that_know_both_queues_one_schedule_is_left(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """Each ends that of the other and installs its own in the same look, so that whichever ends first takes nothing
    with it.
    """
    versions: list[Any] = []
    for queue, other in (("q", "reports"), ("reports", "q")):
        app = app_factory(clock=clock_at())
        app.cron("0 3 * * *", id="report", queue=queue)(nothing)
        app.declare("still.here", int, queue=other)
        versions.append(installer(app))

    for turn in (0, 1, 0, 1):
        await versions[turn].run_once()
        standing = [await raw.zrange(f"{prefix}:{queue}:repeat", 0, -1) for queue in ("q", "reports")]
        assert standing == ([["report"], []] if turn == 0 else [[], ["report"]])


async def test_one_that_cannot_be_installed_keeps_no_other_from_it(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once."""
    app = app_factory(clock=clock_at())
    app.cron("0 3 * * *", id="blocked", queue="q", priority=2)(nothing)
    app.cron("0 3 * * *", id="report", queue="q")(nothing)
    await raw.set(f"{prefix}:q:{tick_id('blocked', '2026-03-11 03:00')}", "not a job")
    app.job("tiny", queue="q", every=3600.0)(nothing)
    for hour in range(1100):
        at = round((utc_start() + 3600 * hour) * 1000)
        await raw.set(f"{prefix}:q:repeat:tiny:{at}", "not a job")
    service = installer(app)
    with caplog.at_level(logging.ERROR):
        await service.run_once()
        await service.run_once()

    assert (await raw.zrange(f"{prefix}:q:repeat", 0, -1)) == ["report", "blocked"]
    assert caplog.text.count("schedule tiny of queue q cannot be installed") == 1


def utc_start() -> float:
    return clock_at().now()


async def test_a_schedule_that_is_declared_no_longer_stays_until_it_is_removed(
    app_factory: Factory, ticking: Ticking, raw: RawStore, prefix: str
) -> None:
    await installer(ticking.app).run_once()
    app = app_factory(clock=clock_at())
    app.declare("mail.send", int, queue="q")
    await installer(app).run_once()

    (info,) = await app.schedules.list()
    assert (info.id, info.type, info.queue, info.declared) == ("report", "report", "q", False)
    assert [f"{time:%d %H:%M}" for time in info.next_runs(2)] == ["11 03:00", "12 03:00"]

    await app.schedules.remove("report")

    assert await app.schedules.list() == []
    assert await line(raw, prefix) == []
    with pytest.raises(ScheduleNotFound, match="no schedule 'report'"):
        await app.schedules.remove("report")


async def test_a_declared_schedule_is_not_removed(ticking: Ticking) -> None:
    with pytest.raises(InvalidOption, match="'report' is declared, so that a worker would install it again"):
        await ticking.app.schedules.remove("report")


async def test_who_may_not_remove_a_schedule_does_not(app_factory: Factory, ticking: Ticking) -> None:
    await installer(ticking.app).run_once()
    asked: list[tuple[str, str, str | None]] = []

    def authorize(request: Any) -> bool:
        asked.append((request.action, request.job_type, request.user))
        return False

    app = app_factory(authorize=authorize, clock=clock_at())
    app.declare("mail.send", int, queue="q")
    with pytest.raises(NotAuthorized):
        await app.schedules.remove("report", user="ada")

    assert asked == [("remove_schedule", "report", "ada")]
    assert await ticking.scheduler() is not None


async def test_a_schedule_is_listed_before_and_after_it_is_installed(ticking: Ticking) -> None:
    (before,) = await ticking.app.schedules.list()
    assert (before.declared, before.next_run, before.tz) == (True, None, "UTC")
    await installer(ticking.app).run_once()

    after = await ticking.app.schedules.get("report")

    assert (after.declared, after.pattern, after.type, after.queue) == (True, "0 3 * * *", "report", "q")
    assert after.next_run is not None
    assert f"{after.next_run:%Y-%m-%d %H:%M %Z}" == "2026-03-11 03:00 UTC"
    with pytest.raises(ScheduleNotFound, match="did you mean 'report'"):
        await ticking.app.schedules.get("reprot")


async def test_what_the_code_has_changed_takes_over_though_the_server_did_not_answer_at_first(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stands from before the change was taken for what had been installed."""
    clock = clock_at()
    before = Ticking(app_factory(clock=clock), clock, pattern="0 3 * * *")
    await installer(before.app).run_once()
    ticking = Ticking(app_factory(clock=clock), clock, pattern="0 4 * * *")
    starting = installer(ticking.app)

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as outage:
        outage.setattr(Queue, "upsert_scheduler", away)
        with pytest.raises(StoreUnavailable):
            await starting.run_once()

    assert await starting.run_once() == 1
    assert (await ticking.next_at()).endswith("04:00")


async def test_one_that_is_declared_beside_a_running_worker_ticks(app_factory: Factory) -> None:
    app = app_factory()
    ticked = asyncio.Event()
    app.job("other")(nothing)

    async def tick(ctx: Context) -> None:
        ticked.set()

    async with app.worker(upkeep=Upkeep(install_every=0.05)):
        app.job("late", every=0.1)(tick)
        await asyncio.wait_for(ticked.wait(), 10)
