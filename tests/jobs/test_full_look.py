"""The full look: after the server of queues may have lost data, every open record is compared at once (P1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from jobs.reconciling import Note, Notes, backend_of, full_look
from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.clock import SystemClock
from taurine.jobs.handover.adoption import Adopter
from taurine.jobs.reconciler.full_look import scope_of
from taurine.jobs.reconciler.mending import ReconcileReport
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.options import RateLimit
from taurine.queue.server_changes import ServerChanges

Factory = Callable[..., Taurine]

SLOW = Upkeep(reconcile_every=3600, reconcile_age=3600, expire_every=None, purge_every=None)
"""A worker whose reconciler finds nothing for an hour."""


async def _changes(app: Taurine, prefix: str) -> ServerChanges:
    """What the full look of this application goes by, which has all its types."""
    backend = backend_of(app)
    scope = scope_of(backend.database.url, backend.catalog.queues)
    return ServerChanges(await backend.connection(), prefix, scope=scope)


async def _lose(raw: RawStore, pattern: str) -> None:
    keys = [key async for key in raw.scan_iter(match=pattern)]
    assert keys, "there was nothing to lose"
    await raw.delete(*keys)


async def _until_made_good(app: Taurine, prefix: str) -> None:
    changes = await _changes(app, prefix)

    async def made_good() -> bool:
        return (await changes.latest(0)).made_good

    await eventually(made_good, 10, "nobody has looked at all records")


async def test_what_a_server_without_memory_has_lost_is_put_back_at_once(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """However slowly the reconciler goes, and however young the jobs are."""
    notes = Notes(app_factory())
    async with notes.app.worker(upkeep=SLOW):
        await _until_made_good(notes.app, prefix)
        await notes.add("a", "b", "c", delay=3600)
        await _lose(raw, f"{prefix}:*")

        async def back() -> bool:
            return await raw.zcard(f"{prefix}:q:delayed") == 3

        await eventually(back, 10, "they were not put back")
        await _until_made_good(notes.app, prefix)
    assert {(await notes.record(name)).generation for name in "abc"} == {1}
    assert (await notes.app.compare()).total == 0


async def test_what_a_server_with_older_data_has_lost_is_put_back_at_once(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """As after a failover: the newest job is gone, an older one stands where it stood."""
    notes = Notes(app_factory())
    async with notes.app.worker(upkeep=SLOW):
        await _until_made_good(notes.app, prefix)
        await notes.add("old", "new", delay=3600)
        await raw.zrem(f"{prefix}:q:delayed", "note-new")
        await raw.delete(f"{prefix}:q:note-new")
        await raw.set(f"{prefix}::taurine:server", "another-process 0")

        async def back() -> bool:
            return await raw.zcard(f"{prefix}:q:delayed") == 2

        await eventually(back, 10, "it was not put back")
    assert (await notes.record("new")).generation == 1
    assert (await notes.record("old")).generation == 0


async def test_of_several_processes_one_looks_and_only_after_a_change(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    notes = Notes(app_factory())
    await notes.app.migrate()
    await notes.add("a", "b", delay=3600)
    changes = await _changes(notes.app, prefix)
    looks = [full_look(notes.app) for _ in range(4)]

    async def ask_all() -> list[int]:
        for look in looks:
            look.ask(changes)
        reports = await asyncio.gather(*(look.run_once() for look in looks))
        return sorted(report.records for report in reports if report is not None)

    assert await ask_all() == [2]
    assert await ask_all() == [], "nothing has changed since"
    await _lose(raw, f"{prefix}:*")
    assert await ask_all() == [2]
    assert await raw.zcard(f"{prefix}:q:delayed") == 2


async def test_each_application_on_a_server_looks_for_itself(
    app_factory: Factory, raw: RawStore, prefix: str, tmp_path: Path
) -> None:
    """With databases of their own, none of them can see what the others have lost."""
    apps = [Notes(app_factory(database_url=f"sqlite:///{tmp_path / name}.db")) for name in ("one", "two")]
    async with apps[0].app.worker(upkeep=SLOW), apps[1].app.worker(upkeep=SLOW):
        for notes in apps:
            await _until_made_good(notes.app, prefix)
        await apps[0].add("a", "b", delay=3600)
        await apps[1].add("c", "d", "e", delay=3600)
        await _lose(raw, f"{prefix}:*")

        async def back() -> bool:
            return await raw.zcard(f"{prefix}:q:delayed") == 5

        await eventually(back, 10, "one application's look passed for that of the other")
        for notes in apps:
            await _until_made_good(notes.app, prefix)


async def test_a_claim_holds_for_who_has_the_same_ledger_and_queues(
    app_factory: Factory, prefix: str, tmp_path: Path
) -> None:
    """Another application that is at it, for however long, keeps nobody waiting; another process of the same one does."""
    one, two, again = (Notes(app_factory(database_url=f"sqlite:///{tmp_path / name}.db")) for name in ("1", "2", "1"))
    for notes in (one, two):
        await notes.add("a", delay=3600)
    assert await (await _changes(one.app, prefix)).claim("a process", 60)
    reports: list[ReconcileReport | None] = []
    for notes in (two, again):
        look = full_look(notes.app)
        look.ask(await _changes(notes.app, prefix))
        reports.append(await look.run_once())

    assert [report is not None for report in reports] == [True, False]


def test_what_a_look_covers_is_a_database_and_queues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def scope(url: str, *queues: str) -> str:
        return scope_of(make_url(url), queues)

    monkeypatch.chdir(tmp_path)
    base = scope("postgresql://ada:secret@db:5432/jobs", "a", "b")
    assert scope("postgresql+asyncpg://bob:other@db:5432/jobs", "b", "a") == base
    others = [
        scope("postgresql://ada:secret@db:5432/jobs", "a"),
        scope("postgresql://ada:secret@db:5432/other", "a", "b"),
        scope("postgresql://ada:secret@db:5433/jobs", "a", "b"),
        scope("postgresql://ada:secret@elsewhere:5432/jobs", "a", "b"),
        scope("postgresql:///jobs?host=/run/one", "a", "b"),
        scope("postgresql:///jobs?host=/run/two", "a", "b"),
        scope("sqlite:///jobs", "a", "b"),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert scope("sqlite:///jobs.db", "a") == scope(f"sqlite:///{tmp_path / 'jobs.db'}", "a")


async def test_nobody_asked_nothing_is_done(app_factory: Factory) -> None:
    notes = Notes(app_factory())
    await notes.add("a", delay=3600)
    assert await full_look(notes.app).run_once() is None


async def test_a_process_that_dies_over_it_is_followed_by_another(app_factory: Factory, prefix: str) -> None:
    notes = Notes(app_factory())
    await notes.add("a", delay=3600)
    changes = await _changes(notes.app, prefix)
    await changes.claim("a process that died", 0.2)
    look = full_look(notes.app)
    look.ask(changes)
    assert await look.run_once() is None

    async def looked() -> bool:
        look.ask(changes)
        return await look.run_once() is not None

    await eventually(looked, 10, "nobody took over")


async def test_a_look_that_fails_is_begun_again(
    app_factory: Factory, raw: RawStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await notes.add("a", delay=3600)
    changes = await _changes(notes.app, prefix)
    await _lose(raw, f"{prefix}:*")
    look = full_look(notes.app)

    async def fails(*_: object) -> None:
        raise RuntimeError("the ledger is away")

    with monkeypatch.context() as broken:
        broken.setattr(look._mender, "mend", fails)
        look.ask(changes)
        with pytest.raises(RuntimeError):
            await look.run_once()
    assert not (await changes.latest(0)).made_good

    look.ask(changes)
    report = await look.run_once()

    assert report is not None
    assert report.put_back == 1


async def test_it_is_bounded_by_pages_and_two_rates(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    """20,000 comparisons and 5,000 jobs added again a second, by default; and no budget after which it rests."""
    notes = Notes(app_factory())
    await notes.type.enqueue_many([Note(name=f"n{number}") for number in range(1200)])
    await notes.add("last")
    slept: list[float] = []

    class Watched(SystemClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)

        def monotonic(self) -> float:
            return 0.0

    changes = await _changes(notes.app, prefix)
    look = full_look(notes.app, rate=1000.0, put_back_rate=100.0)
    look._clock = Watched()  # its sleeps are what is measured

    look.ask(changes)
    report = await look.run_once()
    assert report is not None
    assert report.records == 1201
    assert sum(slept) == pytest.approx(1.201), "compared at 1,000 a second"

    slept.clear()
    await _lose(raw, f"{prefix}:*")
    look.ask(changes)
    report = await look.run_once()
    assert report is not None
    assert report.put_back == 1201
    assert sum(slept) == pytest.approx(1.201 + 12.01), "and as many were added again, at 100 a second"


async def test_rules_of_queues_are_back_before_their_jobs(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    app = app_factory()
    app.queue("q", concurrency=3, rate_limit=RateLimit(10, 1.0))
    notes = Notes(app)
    await notes.add("a", delay=3600)
    look = full_look(app)
    look.ask(await _changes(app, prefix))

    await look.run_once()

    meta = await (await backend_of(app).queue("q")).meta()
    assert (meta.concurrency, meta.rate_limit) == (3, RateLimit(10, 1.0))


async def test_jobs_that_others_have_just_added_are_spared(app_factory: Factory, prefix: str) -> None:
    """Their end may be on its way in the event stream; to take them for lost would cancel them."""
    app = app_factory()
    app.queue("q", shared=True)
    Notes(app)
    await backend_of(app).ready()
    queue = await backend_of(app).queue("q")
    job = await queue.add("note", {"name": "theirs"}, job_id="theirs")
    backend = backend_of(app)
    await Adopter(catalog=backend.catalog, database=backend.database, clock=backend.clock).adopt([job])
    await queue.remove("theirs")
    look = full_look(app)
    look.ask(await _changes(app, prefix))

    await look.run_once()

    record = await app.get("theirs")
    assert record is not None
    assert record.status == "queued"
