"""Listening to what changes: one look at the ledger for all who listen, places to go on from, and bounds (TRG-61,
SEED-286).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from support.eventually import eventually
from taurine import Context, Taurine
from taurine.clock import SystemClock
from taurine.errors import InvalidOption, LedgerUnavailable, RecordNotFound, StreamDropped, StreamsFull
from taurine.jobs.changes.source import ChangeSource, _Feed
from taurine.jobs.changes.subscription import Change, Place, Subscription, Topic
from taurine.ledger.changes import Version
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


class Steps:
    """An application with a job type whose handler goes on when the test says so."""

    def __init__(self, app: Taurine) -> None:
        self.app = app
        self.go = asyncio.Event()

        @app.job("step", queue="steps", tenant="{tenant}", job_id="{tenant}:{n}")
        async def step(payload: dict[str, Any], ctx: Context) -> str:
            ctx.progress(1, 2, "half")
            await self.go.wait()
            return "done"

        self.type = step

    async def add(self, tenant: str, *numbers: int, **options: Any) -> list[str]:
        handles = await self.type.enqueue_many([{"tenant": tenant, "n": n} for n in numbers], **options)
        return [handle.id for handle in handles]


@pytest.fixture
async def steps(app_factory: Factory) -> Steps:
    return Steps(app_factory())


async def read(changes: Subscription, count: int) -> list[Change]:
    async with asyncio.timeout(20):
        return [await anext(changes) for _ in range(count)]


async def statuses(changes: Subscription) -> list[str]:
    async with asyncio.timeout(20):
        return [change.record.status async for change in changes if change.record is not None]


async def test_a_job_is_followed_from_what_it_is_now_to_its_end(steps: Steps, ledger_url: str) -> None:
    del ledger_url  # on both databases
    (job_id,) = await steps.add("acme", 1)
    async with steps.app.changes(job_id=job_id, tenant="acme") as changes:
        (first,) = await read(changes, 1)
        assert first.record is not None
        assert first.record.status == "queued"
        async with steps.app.worker():
            (running,) = await read(changes, 1)
            assert running.record is not None
            assert running.record.status == "running"
            while running.record.progress is None:
                (running,) = await read(changes, 1)
                assert running.record is not None
            assert running.record.progress["message"] == "half"
            steps.go.set()
            assert (await statuses(changes))[-1] == "completed"


async def test_who_comes_back_goes_on_behind_its_place_and_an_ended_job_says_nothing_twice(steps: Steps) -> None:
    (job_id,) = await steps.add("acme", 1)
    async with steps.app.changes(job_id=job_id) as changes:
        (first,) = await read(changes, 1)
    steps.go.set()
    async with steps.app.changes(job_id=job_id, after=first.position) as again, steps.app.worker():
        async with asyncio.timeout(20):
            rest = [change async for change in again]
    assert first.position not in [change.position for change in rest]
    async with steps.app.changes(job_id=job_id, after=rest[-1].position) as nothing:
        assert await statuses(nothing) == []
    async with steps.app.changes(job_id=job_id, after=rest[-1].position, follow=True) as followed:
        await steps.app.retry(job_id)
        (queued,) = await read(followed, 1)
        assert queued.record is not None
        assert queued.record.status == "queued"


async def test_a_tenant_hears_of_its_own_jobs_alone(steps: Steps, ledger_url: str) -> None:
    del ledger_url
    app = steps.app
    await steps.add("acme", 0)
    async with app.changes(tenant="acme") as acme, app.changes(tenant="globex") as globex:
        await steps.add("acme", 1, 2)
        await steps.add("globex", 1)
        assert {change.record.id for change in await read(acme, 2) if change.record} == {"acme:1", "acme:2"}
        (only,) = await read(globex, 1)
        assert only.record is not None
        assert only.record.id == "globex:1"


async def test_a_tag_is_followed_within_a_tenant(steps: Steps, ledger_url: str) -> None:
    del ledger_url
    async with steps.app.changes(tag="import", tenant="acme") as changes:
        await steps.add("globex", 1, tags=["import"])
        await steps.add("acme", 1)
        await steps.add("acme", 2, tags=["import"])
        (only,) = await read(changes, 1)
        assert only.record is not None
        assert only.record.id == "acme:2"


async def test_what_others_do_with_a_tag_is_nothing_to_a_tenant(
    steps: Steps, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A37: neither a `reset` for their sake, which would tell that they are busy, nor fewer of its own jobs."""
    del ledger_url
    monkeypatch.setattr("taurine.jobs.changes.source._PAGE", 3)
    monkeypatch.setattr("taurine.jobs.changes.source._MOST_BEHIND_MS", -60_000)
    app = steps.app
    async with app.changes(tag="import", tenant="acme") as changes:
        source = app._backend().changes
        await source.stop()
        await steps.add("globex", *range(5), tags=["import"])
        await source.run_once()
        await steps.add("acme", 1, tags=["import"])
        await source.run_once()
        (only,) = await read(changes, 1)
    assert only.record is not None
    assert only.record.id == "acme:1"
    await steps.add("globex", *range(5, 10), tags=["import"])
    await steps.add("acme", 2, tags=["import"])
    async with app.changes(tag="import", tenant="acme", after=only.position, buffer=2) as again:
        (missed,) = await read(again, 1)
    assert missed.record is not None
    assert missed.record.id == "acme:2"


async def test_a_tag_in_a_busy_tenant_is_found_among_pages_of_others(
    steps: Steps, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ledger_url
    monkeypatch.setattr("taurine.jobs.changes.source._PAGE", 3)
    async with steps.app.changes(tag="import", tenant="acme") as changes:
        await steps.add("acme", *range(7))
        await steps.add("acme", 7, tags=["import"])
        (first,) = await read(changes, 1)
    assert first.record is not None
    assert first.record.id == "acme:7"
    await steps.add("acme", *range(8, 15))
    await steps.add("acme", 15, tags=["import"])
    async with steps.app.changes(tag="import", tenant="acme", after=first.position) as again:
        (missed,) = await read(again, 1)
    assert missed.record is not None
    assert missed.record.id == "acme:15"
    monkeypatch.setattr("taurine.jobs.changes.source._MOST_TO_LOOK_THROUGH", 6)
    async with steps.app.changes(tag="import", tenant="acme", after=str(Place(0, 0))) as much:
        (reset,) = await read(much, 1)
    assert reset.record is None


async def test_a_tenant_has_a_share_of_the_feeds(steps: Steps) -> None:
    """A38: tags may be made up, so one tenant's callers could have all of them."""
    source = steps.app._backend().changes

    def listen(tenant: str | None, number: int) -> None:
        source.subscribe(Topic(tag=f"made up {number}", tenant=tenant), after=None, follow=False, buffer=1)

    for number in range(100):
        listen("acme", number)
    with pytest.raises(StreamsFull, match="100 tags that belong to the tenant 'acme'"):
        listen("acme", 100)
    listen("acme", 0)  # a feed that there is costs nothing more
    for number in range(250):
        listen(None, number)
    with pytest.raises(StreamsFull, match="250 tags that belong to no tenant"):
        listen(None, 250)
    listen("globex", 100)


async def test_another_process_goes_on_from_the_same_place(steps: Steps, app_factory: Factory) -> None:
    async with steps.app.changes(tenant="acme") as changes:
        await steps.add("acme", *range(3))
        seen = await read(changes, 3)
    await steps.add("acme", 3, 4)
    other = app_factory("other")
    async with other.changes(tenant="acme", after=seen[-1].position) as again:
        async with asyncio.timeout(20):
            told = set[str]()
            while not {"acme:3", "acme:4"} <= told:
                told |= {change.record.id for change in await read(again, 1) if change.record}


async def test_too_much_to_catch_up_with_is_said(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taurine.jobs.changes.source._MOST_TO_CATCH_UP", 2)
    monkeypatch.setattr("taurine.jobs.changes.source._PAGE", 2)
    await steps.add("acme", *range(5))
    async with steps.app.changes(tenant="acme", after=str(Place(0, 0))) as changes:
        (reset,) = await read(changes, 1)
        assert reset.record is None
        await steps.add("acme", 5)
        (after_it,) = await read(changes, 1)
        assert after_it.record is not None
        assert after_it.record.id == "acme:5"


async def test_a_feed_that_is_read_in_pages_tells_all_of_a_burst(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taurine.jobs.changes.source._PAGE", 3)
    async with steps.app.changes(tenant="acme") as changes:
        ids = await steps.add("acme", *range(10))
        told = {change.record.id for change in await read(changes, 10) if change.record}
    assert told == set(ids)


async def test_who_is_too_slow_is_dropped_and_told_why(steps: Steps) -> None:
    async with steps.app.changes(tenant="acme", buffer=2) as slow, steps.app.changes(tenant="acme") as quick:
        await steps.add("acme", 1, 2, 3)
        await read(quick, 3)
        with pytest.raises(StreamDropped, match="2 changes waited"):
            await read(slow, 3)


async def test_a_newer_change_takes_the_place_of_one_that_waits(steps: Steps) -> None:
    subscription = Subscription(Topic(tenant="acme"), after=None, follow=False, buffer=2, closed=lambda _: None)
    (job_id,) = await steps.add("acme", 1)
    record = await steps.app.get(job_id)
    assert record is not None
    for mark in range(5):
        subscription.tell(Version(job_id, 1, mark, "queued"), record)
    (last,) = await read(subscription, 1)
    assert last.position == str(Place(1, 4))


async def test_nobody_listens_and_nothing_is_asked(steps: Steps) -> None:
    (job_id,) = await steps.add("acme", 1)
    async with steps.app.changes(job_id=job_id) as one, steps.app.changes(job_id=job_id) as two:
        source = steps.app._backend().changes
        await read(one, 1)
        await read(two, 1)
        assert source.listeners == 2
    assert source.listeners == 0
    assert not source._jobs
    assert not source._feeds


async def test_a_closed_application_ends_its_streams(app_factory: Factory) -> None:
    app = app_factory("closing")
    steps = Steps(app)
    await steps.add("acme", 1)
    async with app.changes(tenant="acme") as changes:
        await app.close()
        with pytest.raises(StreamDropped, match="closed"):
            await read(changes, 1)


async def test_a_record_that_goes_away_ends_its_streams(steps: Steps) -> None:
    from taurine.ledger.schema import job

    (job_id,) = await steps.add("acme", 1)
    async with steps.app.changes(job_id=job_id) as changes:
        await read(changes, 1)
        await steps.app._backend().database.write(
            lambda connection: connection.execute(job.delete().where(job.c.id == job_id))
        )
        with pytest.raises(StreamDropped, match="no longer kept"):
            await read(changes, 1)


@pytest.mark.parametrize("after", ["", "x", "1-2", "1-0000000g", "-1-00000000", "1" * 40 + "-00000000", "١-00000000"])
async def test_what_is_no_place_is_refused(steps: Steps, after: str) -> None:
    with pytest.raises(InvalidOption, match="position"):
        async with steps.app.changes(tenant="acme", after=after):
            pass


async def test_there_is_nothing_of_others_and_nothing_of_nobody(steps: Steps) -> None:
    (job_id,) = await steps.add("acme", 1)
    for wanted, tenant in (("none", None), (job_id, "globex")):
        with pytest.raises(RecordNotFound):
            async with steps.app.changes(job_id=wanted, tenant=tenant):
                pass
    with pytest.raises(InvalidOption, match="job_id, tag or tenant"):
        async with steps.app.changes():
            pass


def test_places_are_written_and_read() -> None:
    place = Place(1_800_000_000_123, 0xDEADBEEF)
    assert Place.read(str(place)) == place


async def test_an_outage_of_the_ledger_is_waited_out(steps: Steps) -> None:
    (job_id,) = await steps.add("acme", 1)
    async with steps.app.changes(job_id=job_id) as changes:
        await read(changes, 1)
        database = steps.app._backend().database
        real, failures = database.read, 0

        async def read_badly(work: Any) -> Any:
            nonlocal failures
            task = asyncio.current_task()
            if failures < 3 and task is not None and task.get_name() == "taurine changes":
                failures += 1
                raise LedgerUnavailable("away")
            return await real(work)

        database.read = read_badly  # type: ignore[method-assign]
        await steps.app.cancel(job_id)
        assert await statuses(changes) == ["cancelled"]
        assert failures == 3


async def test_a_burst_that_is_longer_than_the_line_drops_nobody_who_reads(steps: Steps) -> None:
    async with steps.app.changes(tenant="acme", buffer=60) as changes:
        ids = await steps.add("acme", *range(130))
        told = {change.record.id for change in await read(changes, 130) if change.record}
    assert told == set(ids)


async def test_who_was_dropped_is_told_nothing_behind_the_gap(steps: Steps) -> None:
    (job_id,) = await steps.add("acme", 1)
    record = await steps.app.get(job_id)
    assert record is not None
    subscription = Subscription(Topic(tenant="acme"), after=None, follow=False, buffer=1, closed=lambda _: None)
    for mark in range(3):
        subscription.tell(Version(f"acme:{mark}", 1, mark, "queued"), replace(record, id=f"acme:{mark}"))
    with pytest.raises(StreamDropped):
        await read(subscription, 1)


async def test_who_has_missed_more_than_its_line_holds_begins_anew(steps: Steps) -> None:
    """To be dropped would bring it back to the same place, again and again."""
    async with steps.app.changes(tenant="acme") as changes:
        await steps.add("acme", 0)
        (seen,) = await read(changes, 1)
    await steps.add("acme", *range(1, 5))
    async with steps.app.changes(tenant="acme", after=seen.position, buffer=2) as again:
        (reset,) = await read(again, 1)
        assert reset.record is None


class Failing:
    """Fails some of the reads of a stream: those before which `fails` says so."""

    def __init__(self, app: Taurine) -> None:
        self.database = app._backend().database
        self.read_well = self.database.read
        self.database.read = self.read  # type: ignore[method-assign]
        self.fails = 0
        self.failed = asyncio.Event()
        self.behind_the_work = False

    async def read(self, work: Any) -> Any:
        task = asyncio.current_task()
        if self.fails and task is not None and task.get_name() == "taurine changes":
            self.fails -= 1
            if self.behind_the_work:
                await self.read_well(work)
            self.failed.set()
            raise LedgerUnavailable("away")
        return await self.read_well(work)


async def test_what_was_missed_is_told_though_the_first_look_failed(steps: Steps) -> None:
    async with steps.app.changes(tenant="acme") as changes:
        await steps.add("acme", 0)
        (seen,) = await read(changes, 1)
    await steps.add("acme", 1)
    failing = Failing(steps.app)
    failing.fails = 1
    async with steps.app.changes(tenant="acme", after=seen.position) as again:
        told = await read(again, 1)
    assert failing.failed.is_set()
    assert [change.record.id for change in told if change.record] == ["acme:1"]


async def test_a_look_that_failed_half_way_has_told_nothing(steps: Steps) -> None:
    failing = Failing(steps.app)
    async with steps.app.changes(tenant="acme") as changes:
        await steps.add("acme", 0)
        await read(changes, 1)
        failing.behind_the_work = True
        await steps.add("acme", 1)
        failing.fails = 1
        await steps.add("acme", 2)
        told = {change.record.id for change in await read(changes, 2) if change.record}
    assert told == {"acme:1", "acme:2"}


class Early:
    """A clock that is ahead of those of all others."""

    def now(self) -> float:
        return SystemClock().now() + 1.0

    def __getattr__(self, name: str) -> Any:
        return getattr(SystemClock(), name)


async def test_a_change_is_told_though_its_time_is_before_the_listener_came(steps: Steps) -> None:
    """It was being committed just then, or who wrote it has a clock that is a little behind."""
    app = steps.app
    await steps.add("acme", 0)
    source = ChangeSource(database=app._backend().database, clock=Early(), random=Random(1))  # type: ignore[arg-type]
    changes = source.subscribe(Topic(tenant="acme"), after=None, follow=False, buffer=10)
    await source.stop()
    await source.run_once()
    await steps.add("acme", 1)
    await source.run_once()
    await source.close()
    assert [change.record.id for change in await read(changes, 1) if change.record] == ["acme:1"]


async def test_a_source_to_which_nobody_listens_rests_for_as_long_as_that_is_so(app_factory: Factory) -> None:
    """F60: who waits for something to do is not stuck; who hangs in a pass is, and who waits for a server's next try is
    not.
    """
    clock = TestClock()
    app = app_factory(clock=clock)
    source = app._backend().changes
    (beat,) = [beat for beat in app.heartbeats if beat.name == "changes"]
    await app.open()
    async with app.changes(tenant="acme"):
        await eventually(lambda: beat.due < float("inf") and clock.sleepers > 0)
        source._database = Unavailable()  # type: ignore[assignment]
        for _ in range(20):
            clock.advance(5)
            await eventually(lambda: beat.late == 0, message="it waits for its next try")
    source._asked.set()
    await eventually(lambda: beat.due == float("inf"))
    clock.advance(1000)
    assert beat.late == 0


class Unavailable:
    """A ledger that is away."""

    async def read(self, _: Any) -> Any:
        raise LedgerUnavailable("away")


async def test_a_source_with_many_feeds_may_take_its_time(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a query: with a server that is slow with all of them a pass takes longer than any one answer may."""
    clock = TestClock()
    app = app_factory(clock=clock)
    await app.open()
    source, late = app._backend().changes, list[float]()

    def read_slowly(feed: _Feed, connection: Any, now_ms: int) -> Any:
        late.append(source.heartbeat.late)
        clock.advance(25)
        return read_feed(feed, connection, now_ms)

    read_feed = _Feed.read
    monkeypatch.setattr(_Feed, "read", read_slowly)
    topics = [Topic(tag=str(number), tenant="acme") for number in range(5)]
    for topic in topics:
        source.subscribe(topic, after=None, follow=False, buffer=1)
    await eventually(lambda: len(late) >= len(topics))
    assert set(late) == {0.0}
