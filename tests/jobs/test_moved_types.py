"""Types that have gone to another queue: their jobs go there from now on, and none of them runs in both places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from jobs.operated import ended
from jobs.reconciling import NO_UPKEEP, backend_of, full_look, reconciler, undeclared
from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import Permanent
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handover import dispatch
from taurine.ledger.generations import Seen, raise_generation
from taurine.ledger.records import JobRecord, NewRecord, insert_records
from taurine.queue.server_changes import ServerChanges

Factory = Callable[..., Taurine]
LONG_AGO = 1_700_000_000_000


class Letter(BaseModel):
    name: str
    fails: bool = False


class Program:
    """One version of a program: its application, and the type `letter` on the queue of that version."""

    def __init__(self, app: Taurine, queue: str, *others: str) -> None:
        self.app = app
        self.ran: list[str] = []

        @app.job("letter", queue=queue, job_id="letter-{name}")
        async def letter(payload: Letter) -> str:
            if payload.fails:
                raise Permanent("no")
            self.ran.append(payload.name)
            return payload.name

        self.type: JobType[Letter, str] = letter
        for other in others:

            @app.job(f"other-on-{other}", queue=other)
            async def _(number: int) -> int:
                return number

    async def record(self, name: str) -> JobRecord:
        record = await self.app.get(f"letter-{name}")
        assert record is not None
        return record

    async def fail(self, name: str) -> None:
        await self.type.enqueue(Letter(name=name, fails=True))
        async with self.app.worker(upkeep=NO_UPKEEP):
            await ended(lambda: self.app.get(f"letter-{name}"), "failed")

    async def write_records(self, *names: str, queue: str) -> None:
        """As a process leaves them that died before it handed them over."""
        await backend_of(self.app).ready()
        records = [
            NewRecord(
                id=f"letter-{name}",
                type="letter",
                queue=queue,
                payload=f'{{"name":"{name}"}}',
                created_at=LONG_AGO + number,
                max_attempts=3,
            )
            for number, name in enumerate(names)
        ]
        await backend_of(self.app).database.write(lambda connection: insert_records(connection, records))


@pytest.fixture
async def old(ledger_url: str, app_factory: Factory) -> Program:
    program = Program(app_factory(), "old")
    await program.app.migrate()
    return program


@pytest.fixture
def new(app_factory: Factory) -> Program:
    return Program(app_factory(), "new")


async def _run(program: Program, name: str) -> None:
    async with program.app.worker(upkeep=NO_UPKEEP):
        await ended(lambda: program.app.get(f"letter-{name}"), "completed")


async def test_a_retry_goes_where_the_type_goes_now(old: Program, new: Program) -> None:
    await old.fail("a")

    record = await new.app.retry("letter-a", payload=Letter(name="a"))

    assert (record.queue, record.generation) == ("new", 1)
    await _run(new, "a")
    assert new.ran == ["a"]


async def test_a_redrive_goes_where_the_type_goes_now(old: Program, new: Program) -> None:
    await old.fail("a")
    (entry,) = await new.app.dead_letters.list()

    record = await new.app.dead_letters.redrive(entry, payload=Letter(name="a"))

    assert (record.queue, record.generation) == ("new", 1)
    await _run(new, "a")


async def test_a_rerun_goes_where_the_type_goes_now(old: Program, new: Program) -> None:
    await old.fail("a")

    handle = await new.type.enqueue(Letter(name="a"), on_duplicate="rerun")

    assert handle.rerun
    assert (await new.record("a")).queue == "new"
    await _run(new, "a")


async def test_what_was_not_handed_over_yet_goes_where_the_type_goes_now(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """The old queue is still one of this program, so that its outbox finds them."""
    program = Program(app_factory(), "new", "old")
    await program.app.migrate()
    await program.write_records("a", "b", queue="old")

    await backend_of(program.app).outbox.run_once()

    assert await raw.lrange(f"{prefix}:new:wait", 0, -1) == ["letter-b", "letter-a"]
    assert not await raw.exists(f"{prefix}:old:wait")
    await _run(program, "b")
    assert sorted(program.ran) == ["a", "b"]


async def test_what_waits_for_a_queue_that_nobody_names_any_more_is_found(
    old: Program, new: Program, raw: RawStore, prefix: str
) -> None:
    await old.write_records("a", "b", queue="old")
    assert await backend_of(new.app).outbox.run_once() == 0

    await undeclared(new.app).look()

    assert await raw.lrange(f"{prefix}:new:wait", 0, -1) == ["letter-b", "letter-a"]
    record = await new.record("a")
    assert (record.queue, record.generation) == ("new", 1)
    assert record.dispatched_at is not None


async def test_a_job_that_the_old_queue_has_after_all_stays_there(
    old: Program, new: Program, raw: RawStore, prefix: str
) -> None:
    """Who added it did not live to stamp its record: a second one in another queue would run beside it."""
    await old.write_records("a", queue="old")
    records = [await old.record("a")]
    await (await backend_of(old.app).queue("old")).add("letter", {"name": "a"}, job_id="letter-a")

    assert await backend_of(new.app).dispatcher.dispatch(records) == 1

    record = await new.record("a")
    assert (record.queue, record.generation) == ("old", 0)
    assert record.dispatched_at is not None
    assert not await raw.exists(f"{prefix}:new:wait")


async def test_a_job_that_the_old_version_is_about_to_add_is_not_moved(
    old: Program, new: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first delivery asks no record: moved in between, the job would run in both queues."""
    monkeypatch.setattr(dispatch, "YOUNG_MS", 3_600_000)  # however slow the test is, the record is young
    await backend_of(old.app).ready()
    dispatcher = backend_of(old.app).dispatcher
    committed, go_on = asyncio.Event(), asyncio.Event()
    add = dispatcher.dispatch_new

    async def add_later(records: Sequence[NewRecord], *, within: float) -> None:
        committed.set()
        await go_on.wait()
        await add(records, within=within)

    monkeypatch.setattr(dispatcher, "dispatch_new", add_later)
    accepting = asyncio.create_task(old.type.enqueue(Letter(name="a")))
    await asyncio.wait_for(committed.wait(), 10)

    handed_over = await backend_of(new.app).dispatcher.dispatch([await new.record("a")])

    left = await new.record("a")
    go_on.set()
    await accepting
    async with new.app.worker(upkeep=NO_UPKEEP):
        await _run(old, "a")
    assert (old.ran, new.ran) == (["a"], [])
    assert (handed_over, left.queue, left.generation, left.dispatched_at) == (0, "old", 0, None)


@pytest.mark.parametrize("by", ["reconciler", "full look"])
async def test_what_the_old_queue_has_lost_is_put_back_into_the_new_one(
    by: str, old: Program, new: Program, raw: RawStore, prefix: str
) -> None:
    """P1: that no queue of this program is concerned must not mean that nobody looks."""
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()
    await raw.delete(*[key async for key in raw.scan_iter(match=f"{prefix}:*")])

    if by == "reconciler":
        await reconciler(new.app).run_once()
    else:
        look = full_look(new.app)
        look.ask(ServerChanges(await backend_of(new.app).connection(), prefix))
        await look.run_once()

    assert (await new.record("a")).queue == "new"
    assert await raw.lrange(f"{prefix}:new:wait", 0, -1) == ["letter-a"]
    await _run(new, "a")


async def test_jobs_that_wait_in_the_old_queue_are_left_there(old: Program, new: Program) -> None:
    """Workers of the old version may be about to take them."""
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()

    report = await reconciler(new.app).run_once()

    assert (report.records, report.repaired) == (1, 0)
    assert (await new.record("a")).queue == "old"
    await _run(old, "a")


# Delivered in the old queue by a worker of the new version -----------------------------------------------------------------------


@pytest.fixture
def both(ledger_url: str, app_factory: Factory) -> Program:
    """The new version, which still serves the old queue: another type lives there."""
    return Program(app_factory(), "new", "old")


async def test_a_delivery_in_the_old_queue_sends_the_job_to_the_new_one(
    old: Program, both: Program, raw: RawStore, prefix: str
) -> None:
    """F31: it used to be handed back for ten minutes, and was dead then."""
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()

    await _run(both, "a")

    record = await both.record("a")
    assert (record.queue, record.generation, record.attempts, both.ran) == ("new", 1, 1, ["a"])
    assert await raw.zscore(f"{prefix}:old:completed", "letter-a") is not None
    assert not await raw.zcard(f"{prefix}:old:delayed")


async def test_a_declared_type_goes_to_its_queue_too(old: Program, app_factory: Factory) -> None:
    """A worker that has no handler of it, here or there, still knows where it goes."""
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()
    app = app_factory()
    app.declare("letter", Letter, queue="new", job_id="letter-{name}")

    @app.job("other", queue="old")
    async def other(number: int) -> None: ...

    async with app.worker(upkeep=NO_UPKEEP):

        async def is_there() -> bool:
            record = await app.get("letter-a")
            return record is not None and (record.queue, record.status) == ("new", "queued")

        await eventually(is_there, 10, "it was not sent there")


async def test_a_job_that_was_sent_here_lately_rests_before_it_is_sent_on(
    old: Program, both: Program, raw: RawStore, prefix: str
) -> None:
    """Two versions, of which each serves the other's queue alone, would send it to and fro as fast as they can."""
    await old.fail("a")
    await old.app.retry("letter-a", payload=Letter(name="a"))

    async with both.app.worker(upkeep=NO_UPKEEP):

        async def rests() -> bool:
            return await raw.zscore(f"{prefix}:old:delayed", "letter-a") is not None

        await eventually(rests, 10, "it was not handed back")
    assert (await both.record("a")).queue == "old"
    job = await (await backend_of(both.app).queue("old")).get_job("letter-a")
    assert job is not None
    await job.promote()

    await _run(both, "a")
    assert (await both.record("a")).generation == 2


async def test_what_a_cancelled_job_left_in_the_old_queue_goes_nowhere(
    old: Program, both: Program, raw: RawStore, prefix: str
) -> None:
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()
    sql = "update taurine_job set cancel_requested_at = 1"
    await backend_of(both.app).ready()
    await backend_of(both.app).database.write(lambda connection: connection.execute(text(sql)) and None)

    async with both.app.worker(upkeep=NO_UPKEEP):
        await ended(lambda: both.app.get("letter-a"), "cancelled")

    assert both.ran == []
    assert not await raw.exists(f"{prefix}:new:wait")


async def test_a_worker_that_died_when_the_record_had_moved_leaves_a_copy_that_is_let_go(
    old: Program, both: Program, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """Nobody is told of a forgery, and it is handed over if that was not done."""
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()
    seen = await old.record("a")
    moved = [Seen(seen.id, seen.generation, seen.fence, "new")]
    await backend_of(both.app).database.write(lambda connection: raise_generation(connection, moved, LONG_AGO))
    kinds: list[str] = []
    old_worker = Program(app_factory(on_alert=lambda alert: kinds.append(alert.kind)), "old")
    await raw.hset(f"{prefix}:old:letter-a", "ats", 1)  # it was claimed before

    async with old_worker.app.worker(upkeep=NO_UPKEEP):

        async def is_let_go() -> bool:
            return await raw.zscore(f"{prefix}:old:completed", "letter-a") is not None

        await eventually(is_let_go, 10, "it was not acknowledged")
    assert (old_worker.ran, kinds) == ([], [])
    await backend_of(both.app).outbox.run_once()
    await _run(both, "a")


async def test_a_copy_that_its_workers_die_of_does_not_end_the_job_in_the_new_queue(
    old: Program, both: Program, raw: RawStore, prefix: str
) -> None:
    await old.type.enqueue(Letter(name="a"))
    await backend_of(old.app).group.close()
    seen = await old.record("a")
    moved = [Seen(seen.id, seen.generation, seen.fence, "new")]
    await backend_of(both.app).database.write(lambda connection: raise_generation(connection, moved, LONG_AGO))
    await raw.hset(f"{prefix}:old:letter-a", mapping={"stc": 9, "defa": "job stalled more than allowable limit"})

    async with old.app.worker(upkeep=NO_UPKEEP):

        async def is_refused() -> bool:
            return await raw.zscore(f"{prefix}:old:failed", "letter-a") is not None

        await eventually(is_refused, 10, "it was not given up")

    record = await both.record("a")
    assert (record.status, record.queue) == ("queued", "new")
