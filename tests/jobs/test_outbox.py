"""The outbox: what it hands over, in which order, and what must not stand in its way (P2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import delete, update

from jobs.reconciling import Note, Notes, backend_of, until_status
from support.eventually import eventually
from support.server import ValkeyServer
from support.store import RawStore, open_store
from taurine.app import Taurine
from taurine.clock import SystemClock
from taurine.errors import LedgerUnavailable
from taurine.jobs.enqueue.enqueuer import Enqueuer
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.handover.outbox import Outbox
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.fences import fence_of
from taurine.ledger.records import Inserted, JobRecord, NewRecord, insert_records
from taurine.ledger.schema import job
from taurine.ledger.tallies import tallies_since
from taurine.queue import Job, Queue
from taurine.testing import TestClock

Factory = Callable[..., Taurine]
_LONG_AGO = 1_700_000_000_000


def _outbox(app: Taurine, **options: Any) -> Outbox:
    backend = backend_of(app)
    return Outbox(
        database=backend.database,
        dispatcher=backend.dispatcher,
        catalog=backend.catalog,
        take_out=backend.take_out,
        clock=backend.clock,
        random=backend.random,
        **options,
    )


async def _recorded(app: Taurine, *names: str, job_type: str = "note", since: int = _LONG_AGO) -> None:
    """Records as an enqueue leaves them whose process died before it handed them over."""
    await backend_of(app).ready()
    records = [
        NewRecord(
            id=f"{job_type}-{name}",
            type=job_type,
            queue="q",
            payload=f'{{"name":"{name}"}}',
            created_at=since + number,
            max_attempts=3,
        )
        for number, name in enumerate(names)
    ]
    await backend_of(app).database.write(lambda connection: insert_records(connection, records))


async def test_jobs_are_accepted_while_the_server_is_down_and_handed_over_in_order(
    app_factory: Factory, server_factory: Callable[..., ValkeyServer], prefix: str
) -> None:
    """P2."""
    server = server_factory()
    server.stop()
    notes = Notes(app_factory(redis_url=server.url))
    async with notes.app:
        names = [f"n{number:02}" for number in range(20)]
        for name in names:
            assert not (await notes.type.enqueue(Note(name=name))).duplicate
        server.start()
        async with open_store(server) as store:

            async def all_there() -> bool:
                return await store.llen(f"{prefix}:q:wait") == 20

            await eventually(all_there, 20, "they were not handed over")
            line = await store.lrange(f"{prefix}:q:wait", 0, -1)
        created = {f"note-{name}": (await notes.record(name)).created_at for name in names}
        assert line[::-1] == sorted(line, key=lambda job_id: (created[job_id], job_id))


async def test_a_record_without_a_stamp_is_handed_over_by_whoever_looks(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    notes = Notes(app_factory())
    await notes.app.migrate()
    await _recorded(notes.app, "a", "b")

    assert await _outbox(notes.app).run_once() == 2

    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-b", "note-a"]
    assert (await notes.record("a")).dispatched_at is not None
    assert await _outbox(notes.app).run_once() == 0


async def test_a_job_that_cannot_be_stored_keeps_no_other_waiting(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(app_factory())
    await _recorded(notes.app, "a", "broken", "c")
    await raw.set(f"{prefix}:q:note-broken", "not a job")

    assert await _outbox(notes.app).run_once() == 2

    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-c", "note-a"]
    assert (await notes.record("broken")).dispatched_at is None
    assert "note-broken" in caplog.text


async def test_types_that_are_not_declared_here_keep_no_other_waiting(app_factory: Factory) -> None:
    """They are those of another application on the same queue and ledger; more than one look takes."""
    notes = Notes(app_factory())
    await _recorded(notes.app, *map(str, range(600)), job_type="foreign")
    await _recorded(notes.app, "mine", since=_LONG_AGO + 600)

    assert await _outbox(notes.app).run_once() == 1

    assert (await notes.record("mine")).dispatched_at is not None


async def test_a_job_that_is_cancelled_while_it_is_handed_over_does_not_stay(
    app_factory: Factory, raw: RawStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await _recorded(notes.app, "a", "b")
    dispatch = Dispatcher.dispatch

    async def cancel_first(self: Dispatcher, records: list[JobRecord]) -> int:
        now = records[0].created_at.timestamp() * 1000
        database = backend_of(notes.app).database
        await database.write(lambda connection: request_cancel(connection, "note-a", round(now), "enough"))
        return await dispatch(self, records)

    monkeypatch.setattr(Dispatcher, "dispatch", cancel_first)

    await _outbox(notes.app).run_once()

    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-b"]


async def test_a_relay_that_comes_late_makes_no_job_run_twice(
    app_factory: Factory, redis_socket_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the record, and stood still while another relay was faster, the job ended, and the queue forgot it."""
    notes = Notes(app_factory())
    await _recorded(notes.app, "a")
    dispatch = Dispatcher.dispatch

    async def dispatch_late(self: Dispatcher, records: list[JobRecord]) -> int:
        monkeypatch.undo()
        async with notes.working():
            await _outbox(notes.app).run_once()
            await until_status(notes, "a", "completed")
        async with Queue("q", redis_socket_url, prefix=prefix) as queue:
            await queue.remove("note-a")
        return await dispatch(self, records)

    monkeypatch.setattr(Dispatcher, "dispatch", dispatch_late)
    await _outbox(notes.app).run_once()

    async with notes.working():
        await notes.add("next")
        await until_status(notes, "next", "completed")
    assert notes.ran.count("a") == 1


async def test_an_accepting_call_that_another_relay_overtakes_makes_no_job_run_twice(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: it was about to add the job; the outbox was faster, and the job has ended, and still stands in the queue.

    Both bear the time of acceptance.
    """
    notes = Notes(app_factory())
    add = Queue.add

    async def add_late(self: Queue, *arguments: Any, **options: Any) -> Job:
        monkeypatch.undo()
        async with notes.working():
            outbox = _outbox(notes.app)
            outbox._asked.set()  # pyright: ignore[reportPrivateUsage] - it looks at what is young too, once
            await outbox.run_once()
            await until_status(notes, "a", "completed")
        return await add(self, *arguments, **options)

    monkeypatch.setattr(Queue, "add", add_late)
    # Unbounded, so that the accepting call does not give up meanwhile.
    monkeypatch.setattr("taurine.jobs.handover.prompt._SECONDS", 30.0)
    await notes.type.enqueue(Note(name="a"))

    async with notes.working():
        await notes.add("next")
        await until_status(notes, "next", "completed")
    assert notes.ran == ["a", "next"]


async def test_a_server_that_is_down_is_not_tried_for_each_job(
    app_factory: Factory, server_factory: Callable[..., ValkeyServer]
) -> None:
    server = server_factory()
    server.stop()
    notes = Notes(app_factory(redis_url=server.url))
    passes = 0

    class Counted(Outbox):
        async def run_once(self) -> int:
            nonlocal passes
            passes += 1
            return await super().run_once()

    backend = backend_of(notes.app)
    await _recorded(notes.app, "a")
    outbox = Counted(
        database=backend.database,
        dispatcher=backend.dispatcher,
        catalog=backend.catalog,
        take_out=backend.take_out,
        clock=SystemClock(),
        random=backend.random,
    )
    started = asyncio.get_running_loop().time()
    for _ in range(300):
        outbox.ask()
        await asyncio.sleep(0.002)
    seconds = asyncio.get_running_loop().time() - started
    await outbox.stop()

    # Pauses of 0.1, 0.2, 0.4, 0.8, 1, 1 … seconds.
    assert 1 <= passes <= 4 + seconds


async def test_the_rate_is_bounded(app_factory: Factory) -> None:
    notes = Notes(app_factory())
    await _recorded(notes.app, *map(str, range(1000)))
    slept: list[float] = []

    class Watched(SystemClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)

        def monotonic(self) -> float:
            return 0.0

    outbox = _outbox(notes.app, rate=100.0)
    outbox._clock = Watched()  # pyright: ignore[reportPrivateUsage] - its sleeps are what is measured

    assert await outbox.run_once() == 1000
    assert sum(slept) == 10.0


# The call that accepts a job hands it over itself ------------------------------------------------------------------------------------


def _held(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[str], Awaitable[object]]) -> None:
    """Something happens between the commit of the next enqueue and its add."""
    hand_over = Enqueuer._hand_over  # pyright: ignore[reportPrivateUsage] - the moment is between its steps

    async def late(self: Enqueuer, records: Sequence[NewRecord], answers: Sequence[Inserted]) -> None:
        monkeypatch.undo()
        await meanwhile(records[0].id)
        await hand_over(self, records, answers)

    monkeypatch.setattr(Enqueuer, "_hand_over", late)


async def test_a_call_that_stood_still_since_its_commit_makes_no_job_run_twice(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: a relay was faster, the job has run, and the queue keeps nothing of it."""
    clock = TestClock()
    notes = Notes(app_factory(clock=clock), keep_completed=False)
    other = Notes(app_factory(), keep_completed=False)

    async def run_it(_: str) -> None:
        clock.advance(10)
        async with other.working():
            backend_of(other.app).outbox.ask()
            await until_status(other, "a", "completed")

    _held(monkeypatch, run_it)
    await notes.type.enqueue(Note(name="a"))

    async with other.working():
        await other.add("next")
        await until_status(other, "next", "completed")
    assert other.ran.count("a") == 1


async def test_a_job_that_is_cancelled_between_its_commit_and_its_add_does_not_stay(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await notes.app.migrate()
    _held(monkeypatch, notes.app.cancel)

    await notes.type.enqueue(Note(name="a"))

    async def gone() -> bool:
        return not await raw.exists(f"{prefix}:q:note-a")

    await eventually(gone, 10, "it waits in its queue though it is cancelled")
    assert (await notes.record("a")).status == "cancelled"


async def test_what_is_to_be_taken_back_is_looked_at_again_when_the_ledger_was_away(
    app_factory: Factory, raw: RawStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await notes.add("a")
    end = update(job).where(job.c.id == "note-a").values(status="cancelled", finished_at=_LONG_AGO)
    await backend_of(notes.app).database.write(lambda connection: connection.execute(end))
    outbox = _outbox(notes.app)
    monkeypatch.setattr(outbox, "ask", lambda: None)  # the test runs its passes
    outbox.take_back(["note-a"])

    with monkeypatch.context() as away:
        away.setattr(backend_of(notes.app).database, "read", _unavailable)
        with pytest.raises(LedgerUnavailable):
            await outbox.run_once()
    assert await raw.exists(f"{prefix}:q:note-a")
    await outbox.run_once()

    assert not await raw.exists(f"{prefix}:q:note-a")


async def _unavailable(_: object) -> None:
    raise LedgerUnavailable("away")


async def test_an_id_whose_record_is_purged_runs_anew(app_factory: Factory) -> None:
    """The finished job of the old record still stands in the queue."""
    notes = Notes(app_factory())
    async with notes.working():
        await notes.add("a")
        await until_status(notes, "a", "completed")
        await backend_of(notes.app).database.write(lambda connection: connection.execute(delete(job)))

        await notes.type.enqueue(Note(name="a"))

        await until_status(notes, "a", "completed")
    assert notes.ran == ["a", "a"]


# What cannot be stored, and what cannot be handed over any more ----------------------------------------------------------------------


class _Wound(SystemClock):
    """A clock whose running time the test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_job_that_can_never_be_stored_fails_and_lets_the_others_by(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as one look takes stand before another; each is logged once when it is refused, and once when it is given
    up.
    """
    notes = Notes(app_factory())
    names = [f"b{number:03}" for number in range(500)]
    await _recorded(notes.app, *names)
    await _recorded(notes.app, "behind", since=_LONG_AGO + 1000)
    await raw.mset({f"{prefix}:q:note-{name}": "not a job" for name in names})
    clock = _Wound()
    outbox = _outbox(notes.app)
    outbox._clock = clock  # pyright: ignore[reportPrivateUsage] - its patience is what is measured

    for at in (0.0, 5.0, 11.0):
        clock.at = at
        await outbox.run_once()

    assert (await notes.record("behind")).dispatched_at is not None
    failed = await notes.record("b000")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["type"] == "CorruptJob"
    assert (
        failed.error_fingerprint == (await notes.record("b001")).error_fingerprint
    )  # one cause, though each names its job
    assert [entry.job_id for entry in await notes.app.dead_letters.list(limit=1)] != []
    assert len([line for line in caplog.records if "queued" in line.getMessage()]) == 2 * 500


async def test_a_job_that_somebody_else_has_is_not_given_up(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was redriven meanwhile: what this outbox has read is an older run, and its end is refused by the fence.

    Nothing is said or counted.
    """
    notes = Notes(app_factory())
    await _recorded(notes.app, "a")
    await raw.set(f"{prefix}:q:note-a", "not a job")
    clock, outbox = _Wound(), _outbox(notes.app)
    outbox._clock = clock  # pyright: ignore[reportPrivateUsage] - its patience is what is measured
    await outbox.run_once()
    stale = await notes.record("a")
    ahead = update(job).where(job.c.id == stale.id).values(fence=fence_of(1, 1))
    await backend_of(notes.app).database.write(lambda connection: connection.execute(ahead))

    clock.at = 11.0
    await outbox._refused(stale, ValueError("not a job"))  # pyright: ignore[reportPrivateUsage] - between its look and its write

    assert (await notes.record("a")).status == "queued"
    assert [entry.job_id for entry in await notes.app.dead_letters.list()] == []
    assert list(await backend_of(notes.app).database.read(lambda c: tallies_since(c, None))) == []
    assert "has failed" not in caplog.text


async def test_log_lines_hide_what_is_personal_in_a_job_id(
    app_factory: Factory, raw: RawStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(app_factory())
    await _recorded(notes.app, "ada@example.com")
    await raw.set(f"{prefix}:q:note-ada@example.com", "not a job")

    await _outbox(notes.app).run_once()

    assert "cannot be queued" in caplog.text
    assert "ada@example.com" not in caplog.text


async def test_what_was_accepted_a_moment_ago_is_handed_over_before_closing(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    notes = Notes(app_factory())
    await _recorded(notes.app, "a")
    backend_of(notes.app).outbox.ask()

    await notes.app.close()

    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-a"]


async def test_a_part_that_cannot_be_closed_leaves_no_other_open(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await notes.add("a")
    backend = backend_of(notes.app)
    close, closed = backend.watch.close, list[str]()

    async def fails() -> None:
        await close()
        raise RuntimeError("no")

    async def closes() -> None:
        closed.append("database")
        await close_database()

    close_database = backend.database.close
    monkeypatch.setattr(backend.watch, "close", fails)
    monkeypatch.setattr(backend.database, "close", closes)

    with pytest.raises(RuntimeError, match="no"):
        await notes.app.close()

    assert closed == ["database"]
