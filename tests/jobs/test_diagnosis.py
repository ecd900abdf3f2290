"""What `taurine doctor` finds of those who are to work: `Diagnosis`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from jobs.operated import ended
from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.operations.diagnosis import Diagnosis, Finding
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.ledger.schema import job
from taurine.ledger.workers import LoopTurn, WorkerRow, write_worker

Factory = Callable[..., Taurine]


@dataclass
class Tick:
    """A schedule of the queue `mail` that ought to have ticked ten minutes ago."""

    id: str = "tick"
    queue: str = "mail"
    text: str = "every minute"
    next_run: datetime | None = None
    declared: bool = True


@pytest.fixture
def app(app_factory: Factory) -> Taurine:
    made = app_factory()
    made.declare("mail.send", int, queue="mail")
    return made


async def found(app: Taurine) -> dict[str, Finding]:
    async def schedules() -> list[Tick]:
        return [Tick(next_run=datetime.now(UTC) - timedelta(seconds=609))]

    looked = await Diagnosis(app._backend(), queues=app.queues, schedules=schedules).findings()
    return {finding.check: finding for finding in looked}


async def test_queued_types_that_are_not_declared(app: Taurine, app_factory: Factory) -> None:
    newer = app_factory()
    newer.declare("new.thing", int, queue="mail")
    newer.declare("new.other", int, queue="mail")
    await app.enqueue("mail.send", 1)
    assert "types" not in await found(app)
    await newer.enqueue_many("new.thing", [1, 2])
    await newer.enqueue("new.other", 1, delay=600)

    types = (await found(app))["types"]

    assert (types.level, types.details["undeclared"][0]) == (
        "warn",
        {"type": "new.thing", "queue": "mail", "number": 2},
    )
    assert types.text.endswith("2 of type 'new.thing' in queue 'mail', 1 of type 'new.other' in queue 'mail'")
    assert "start a worker of the version that declares them" in str(types.remedy)


async def test_a_flood_of_made_up_types_is_a_line(app: Taurine, app_factory: Factory) -> None:
    newer = app_factory()
    for number in range(12):
        newer.declare(f"new.{number:02}", int, queue="mail")
        await newer.enqueue(f"new.{number:02}", 1)

    types = (await found(app))["types"]

    assert types.text.count(" of type ") == 10
    assert types.text.endswith(", 2 of others")


async def test_a_late_tick_of_a_paused_queue_waits_for_its_resume(app: Taurine) -> None:
    await app.enqueue("mail.send", 1)
    late = (await found(app))["schedule tick"]
    await app.queues.pause("mail")
    paused = (await found(app))["schedule tick"]

    assert (late.level, late.remedy) == ("fail", "start a worker for its queue")
    assert "its tick is 10 min late" in late.text
    assert (paused.level, paused.remedy) == ("warn", "`taurine queues resume mail` when it may go on")
    assert paused.text.endswith("its tick is 10 min late, and its queue 'mail' is paused")


async def told(app: Taurine, name: str, *, ago: float, loop_late: float | None = None, stopped: bool = False) -> None:
    """A worker of the queue `mail` has told of itself so many seconds ago. loop_late: by how much its loop was late."""
    at = round((time.time() - ago) * 1000)
    loops = {} if loop_late is None else {"loop": LoopTurn(at - 99_000, at - round(loop_late * 1000))}
    row = WorkerRow(
        id=name, name=name, host="kitchen", pid=7, version="1", queues=["mail"], slots=5, busy=5, leases_lost=0,
        loops=loops, started_at=at - 900_000, seen_at=at, stopped_at=at if stopped else None,
    )  # fmt: skip
    await app.counts()  # which makes the tables
    await app._backend().database.write(lambda connection: write_worker(connection, row))


async def test_a_worker_that_is_late_to_tell_of_itself(app: Taurine) -> None:
    await told(app, "punctual", ago=10)
    await told(app, "late", ago=20)
    await told(app, "stopped", ago=20, stopped=True)
    await told(app, "killed", ago=3600)

    workers = {check: finding for check, finding in (await found(app)).items() if check.startswith("worker ")}

    assert list(workers) == ["worker late"]
    assert workers["worker late"].level == "warn"
    assert workers["worker late"].text.startswith("on kitchen, process 7: last told of itself 2")
    assert "blocks its event loop" in str(workers["worker late"].remedy)


async def test_a_worker_that_is_connected_and_was_not_heard_of_for_long(app: Taurine) -> None:
    """It cannot be told from one that was killed but by its connection."""

    @app.job("mail.sort", queue="mail")
    async def sort(payload: int) -> None: ...

    await told(app, "mute", ago=3600)
    async with app.worker(name="mute", upkeep=Upkeep(report_every=None)):

        async def connected() -> bool:
            standing = (await app.queues.get("mail")).standing
            return standing is not None and bool(standing.workers)

        await eventually(connected, message="the worker is not connected")
        late = (await found(app))["worker mute"]

    assert (late.level, late.details["state"]) == ("warn", "lost")


async def test_a_worker_that_tells_of_late_loops(app: Taurine) -> None:
    await told(app, "stuck", ago=1, loop_late=30)
    await told(app, "well", ago=1, loop_late=-30)

    findings = await found(app)

    assert findings["worker stuck"].level == "warn"
    assert findings["worker stuck"].text.endswith("told that these of its loops do not turn: loop")
    assert "worker well" not in findings


async def test_the_same_runs_hold_all_slots(app: Taurine) -> None:
    release = asyncio.Event()

    @app.job("mail.sort", queue="mail")
    async def sort(payload: int) -> None:
        await release.wait()

    async def begin_before(seconds: float, *ids: str) -> None:
        began = round((time.time() - seconds) * 1000)
        await app._backend().database.write(
            lambda connection: connection.execute(update(job).where(job.c.id.in_(ids)).values(started_at=began))
        )

    async with app.worker(concurrency=2, name="oven-1"):
        await eventually(app.workers.list, message="the worker did not tell of itself")
        for job_id in ("first", "second"):
            await sort.enqueue(1, job_id=job_id)
            await ended(lambda job_id=job_id: app.get(job_id), "running")
        await begin_before(900, "first")
        await begin_before(400, "second")
        unhindered = await found(app)
        waiting = await sort.enqueue(1)
        held = (await found(app))["slots mail"]
        await begin_before(100, "second")
        young = await found(app)
        release.set()
        await waiting.result(timeout=10)

    assert "slots mail" not in unhindered
    assert "slots mail" not in young
    assert held.level == "warn"
    assert held.text == (
        "all 2 slots are taken by the same runs for 6 min, while jobs wait; "
        "longest by first on oven-1 for 15 min, second on oven-1 for 6 min"
    )
    assert "`taurine cancel ID`" in str(held.remedy)
    assert [one["id"] for one in held.details["longest"]] == ["first", "second"]
