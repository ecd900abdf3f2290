"""The reconciler: what it mends between the ledger and the queues, and what it leaves alone (P1, P3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest
from sqlalchemy import Connection, delete

from jobs.reconciling import Note, Notes, backend_of, reconciler, until_status
from support.store import RawStore
from taurine.app import Taurine
from taurine.jobs.reconciler.mending import ReconcileReport
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.outbox import Dispatched, stamp_dispatched
from taurine.ledger.reconciliation import dispatched_page
from taurine.ledger.records import NewRecord, insert_records
from taurine.ledger.schema import job
from taurine.options import RateLimit
from taurine.queue import Queue, Worker
from taurine.queue.standings import Standing

Factory = Callable[..., Taurine]


async def _lose_everything(raw: RawStore, prefix: str) -> None:
    """The server has lost the data of this prefix, its event streams included."""
    keys = [key async for key in raw.scan_iter(match=f"{prefix}:*")]
    assert keys, "there was nothing to lose"
    await raw.delete(*keys)


async def _by_hand(url: str, prefix: str) -> Worker:
    """A worker of somebody else's, which knows nothing of records."""
    return Worker("q", None, url, prefix=prefix)


async def test_jobs_that_the_server_lost_run_as_a_new_generation(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """P1: whatever the server loses, an accepted job runs."""
    notes = Notes(app_factory())
    await notes.app.migrate()
    await notes.add("a", "b")
    await notes.add("later", delay=3600)
    await _lose_everything(raw, prefix)
    assert (await notes.app.compare()).gone == 3

    report = await reconciler(notes.app).run_once()

    assert (report.gone, report.put_back) == (3, 3)
    later = await notes.record("later")
    assert later.generation == 1
    assert await raw.zcard(f"{prefix}:q:delayed") == 1, "the job that is to run later waits as before"
    async with notes.working():
        assert (await until_status(notes, "a", "completed")).generation == 1
        await until_status(notes, "b", "completed")
    assert sorted(notes.ran) == ["a", "b"]
    assert (await notes.app.compare()).total == 0


async def test_several_reconcilers_put_a_job_back_once(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    notes = Notes(app_factory())
    await notes.app.migrate()
    await notes.add(*"abcdefgh")
    await _lose_everything(raw, prefix)

    reports = await asyncio.gather(*(reconciler(notes.app).run_once() for _ in range(4)))

    assert sum(report.put_back for report in reports) == 8
    assert {(await notes.record(name)).generation for name in "abcdefgh"} == {1}
    assert await raw.llen(f"{prefix}:q:wait") == 8


async def test_jobs_that_wait_or_run_are_left_alone(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    notes = Notes(app_factory())
    await notes.add("later", delay=3600)
    await notes.add("ordered", priority=5)
    await notes.app.get("note-later")
    queue = await backend_of(notes.app).queue("q")
    await queue.pause()
    await notes.add("waits")
    await queue.resume()
    async with notes.working():
        await notes.type.enqueue(Note(name="slow", holds=True))
        await asyncio.wait_for(notes.started.wait(), 10)
        await until_status(notes, "waits", "completed")
        await until_status(notes, "ordered", "completed")
        await until_status(notes, "slow", "running")

        report = await reconciler(notes.app).run_once()

        assert report.records == 2
        assert (report.repaired, report.orphans) == (0, 0)
        notes.go.set()
        assert (await until_status(notes, "slow", "completed")).generation == 0
    assert notes.ran.count("slow") == 1


async def test_a_job_that_ends_while_it_is_looked_at_is_not_touched(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the record and the look at the queue the job completes, and the queue keeps nothing of it."""
    notes = Notes(app_factory(), keep_completed=False)
    await notes.add("quick")
    look = Queue.standings

    async def look_late(queue: Queue, stored_ids: Any) -> list[Standing]:
        monkeypatch.undo()
        async with notes.working():
            await until_status(notes, "quick", "completed")
        return await look(queue, stored_ids)

    monkeypatch.setattr(Queue, "standings", look_late)

    report = await reconciler(notes.app).run_once()

    assert (report.gone, report.put_back) == (1, 0)
    assert (await notes.record("quick")).status == "completed"
    assert notes.ran == ["quick"]


async def test_an_end_in_the_queue_alone_is_written_into_the_record(
    ledger_url: str, app_factory: Factory, redis_socket_url: str, prefix: str
) -> None:
    """The job was ended by a worker that keeps no records; a failure gets its dead letter."""
    notes = Notes(app_factory())
    await notes.app.migrate()
    await notes.add("good", "bad")
    worker = await _by_hand(redis_socket_url, prefix)
    for _ in range(2):
        job = await worker.fetch()
        assert job is not None
        if job.id == "note-good":
            await worker.complete(job, "from elsewhere")
        else:
            job._opts = (b'{"attempts":1}', None)  # pyright: ignore[reportPrivateUsage] - it is to fail for good at once
            await worker.fail(job, RuntimeError("not here"))
    await worker.stop()
    assert (await notes.app.compare()).unsettled == 2

    report = await reconciler(notes.app).run_once()

    assert report.settled == 2
    good, bad = await notes.record("good"), await notes.record("bad")
    assert (good.status, good.output) == ("completed", "from elsewhere")
    assert bad.status == "failed"
    assert (bad.error or {})["message"] == "not here"
    letters = await notes.app.dead_letters.list()
    assert [letter.job_id for letter in letters] == ["note-bad"]
    assert (await notes.app.compare()).total == 0
    assert (await reconciler(notes.app).run_once()).repaired == 0


async def test_failures_in_other_languages_are_of_one_cause_if_they_are_of_one_place(
    app_factory: Factory, raw: RawStore, redis_socket_url: str, prefix: str
) -> None:
    """As Node writes them; the messages differ each time."""
    notes = Notes(app_factory())
    await notes.app.migrate()
    traces = {
        "a": "Error: no order 1\n    at charge (/app/orders.js:8:9)\n    at async run (/app/worker.js:3:1)",
        "b": "Error: no order 2\n    at charge (/srv/v2/orders.js:9:9)\n    at async run (file:///srv/v2/worker.js:3:1)",
        "c": "Error: no order 1\n    at /app/mails.js:8:9\n    at async run (/app/worker.js:3:1)",
    }
    await notes.add(*traces)
    worker = await _by_hand(redis_socket_url, prefix)
    for name in traces:
        job = await worker.fetch()
        assert job is not None
        job._opts = (b'{"attempts":1}', None)  # pyright: ignore[reportPrivateUsage] - it is to fail for good at once
        await worker.fail(job, RuntimeError(name))
    await worker.stop()
    for name, trace in traces.items():
        await raw.hset(f"{prefix}:q:note-{name}", "stacktrace", json.dumps([trace]))

    assert (await reconciler(notes.app).run_once()).settled == 3

    one, same, other = [(await notes.record(name)).error_fingerprint for name in traces]
    assert one == same != other


async def test_a_job_whose_record_has_ended_is_taken_out_of_the_line(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """It was cancelled while the server did not answer; or the server has come back with old data."""
    notes = Notes(app_factory())
    await notes.add("waits")
    await notes.add("later", delay=3600)
    await notes.add("ordered", priority=3)
    database, now = backend_of(notes.app).database, round(backend_of(notes.app).clock.now() * 1000)
    for name in ("waits", "later", "ordered"):
        await database.write(lambda connection, name=name: request_cancel(connection, f"note-{name}", now, "enough"))
    assert (await notes.app.compare()).ended == 3

    report = await reconciler(notes.app).run_once()

    assert report.taken_out == 3
    assert not await raw.exists(*(f"{prefix}:q:{name}" for name in ("wait", "delayed", "prioritized")))
    assert (await notes.app.compare()).total == 0


async def test_a_record_that_has_ended_just_now_is_given_time(app_factory: Factory) -> None:
    notes = Notes(app_factory())
    await notes.add("waits")
    database, now = backend_of(notes.app).database, round(backend_of(notes.app).clock.now() * 1000)
    await database.write(lambda connection: request_cancel(connection, "note-waits", now, "enough"))

    assert (await reconciler(notes.app, age=60.0).run_once()).taken_out == 0


async def test_orphans_are_counted_and_left(app_factory: Factory, redis_socket_url: str, prefix: str) -> None:
    notes = Notes(app_factory())
    await notes.add("mine")
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.add("note", {"name": "x"}, job_id="theirs")

        report = await reconciler(notes.app).run_once()

        assert report.orphans == 1
        assert await queue.state("theirs") == "waiting"
    assert (await notes.app.compare()).orphans == 1


async def test_a_job_in_no_line_is_put_back_in_line(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    """The collections are gone, the jobs are not: a key was deleted or evicted."""
    notes = Notes(app_factory())
    await notes.add("waits")
    await notes.add("later", delay=3600)
    await raw.delete(f"{prefix}:q:wait", f"{prefix}:q:delayed")
    assert (await notes.app.compare()).stranded == 2

    report = await reconciler(notes.app).run_once()

    assert report.relisted == 2
    assert await raw.zcard(f"{prefix}:q:delayed") == 1
    async with notes.working():
        assert (await until_status(notes, "waits", "completed")).generation == 0


async def test_a_job_that_was_removed_by_hand_is_cancelled(
    app_factory: Factory, redis_socket_url: str, prefix: str
) -> None:
    notes = Notes(app_factory())
    await notes.add("one", "other")
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        assert await queue.remove("note-one")

    report = await reconciler(notes.app).run_once()

    assert (report.cancelled, report.put_back) == (1, 0)
    record = await notes.record("one")
    assert (record.status, record.cancel_reason) == ("cancelled", "removed from its queue by hand")
    assert (await notes.record("other")).status == "queued"


@pytest.mark.parametrize(("rule", "status"), [("restore", "queued"), ("cancel", "cancelled")])
async def test_what_becomes_of_jobs_that_vanish_without_an_event_is_declared(
    rule: Any, status: str, app_factory: Factory, redis_socket_url: str, prefix: str
) -> None:
    """BullMQ's drain tells of no job that it removes."""
    app = app_factory()
    app.queue("q", on_vanished=rule)
    notes = Notes(app)
    await notes.add("one")
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.drain()
        await queue.trim_events(0)

    await reconciler(notes.app).run_once()

    assert (await notes.record("one")).status == status


async def test_a_pass_looks_at_a_bounded_number_and_the_next_goes_on(app_factory: Factory) -> None:
    notes = Notes(app_factory())
    await notes.type.enqueue_many([Note(name=f"n{number}") for number in range(1200)])
    await notes.add("last")
    each = reconciler(notes.app, budget=500)

    seen = [(await each.run_once()).records for _ in range(3)]

    assert seen[0] == 500
    assert sum(seen) >= 1001


async def test_a_pass_that_finds_jobs_gone_goes_on_to_the_end(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    notes = Notes(app_factory())
    await notes.type.enqueue_many([Note(name=f"n{number}") for number in range(1200)])
    await notes.add("last")
    await _lose_everything(raw, prefix)

    report = await reconciler(notes.app, budget=500, rate=100_000.0).run_once()

    assert report.put_back == 1201
    assert await raw.llen(f"{prefix}:q:wait") == 1201


async def test_what_is_declared_of_a_queue_is_set_again(app_factory: Factory, raw: RawStore, prefix: str) -> None:
    app = app_factory()
    app.queue("q", concurrency=3, rate_limit=RateLimit(10, 1.0))
    notes = Notes(app)
    await notes.add("one")
    queue = await backend_of(app).queue("q")
    await reconciler(app).run_once()
    assert (await queue.meta()).concurrency == 3
    await queue.set_concurrency(1)  # by an operator, in an emergency
    await reconciler(app).run_once()
    assert (await queue.meta()).concurrency == 1
    await _lose_everything(raw, prefix)

    await reconciler(app).run_once()

    meta = await queue.meta()
    assert (meta.concurrency, meta.rate_limit) == (3, RateLimit(10, 1.0))


async def test_a_completed_job_that_the_server_has_forgotten_is_not_run_again(
    app_factory: Factory, redis_socket_url: str, raw: RawStore, prefix: str
) -> None:
    """P3: the server comes back with old data, as another process.

    The delivery looks like the first one, and the ledger is asked.
    """
    notes = Notes(app_factory())
    await notes.add("done")
    async with notes.working():
        await until_status(notes, "done", "completed")
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.remove("note-done")
        await queue.add("note", {"name": "done"}, job_id="note-done", application="{}")
    await raw.set(f"{prefix}::taurine:server", "another-process 0")
    async with notes.working():
        await notes.add("next")
        await until_status(notes, "next", "completed")
    assert notes.ran.count("done") == 1


async def test_an_end_that_is_older_than_the_record_is_not_its_own(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """The record that had the id before is purged, and its finished job still stands in the queue."""
    notes = Notes(app_factory())
    async with notes.working():
        await notes.add("a")
        await until_status(notes, "a", "completed")
    database = backend_of(notes.app).database
    await database.write(lambda connection: connection.execute(delete(job)))
    await raw.hset(f"{prefix}:q:note-a", "finishedOn", "1700000000000")
    await backend_of(notes.app).outbox.stop()
    now = round(backend_of(notes.app).clock.now() * 1000)
    record = NewRecord(id="note-a", type="note", queue="q", payload='{"name":"a"}', created_at=now, max_attempts=1)

    def accept(connection: Connection) -> None:
        insert_records(connection, [record])
        stamp_dispatched(connection, [Dispatched("note-a", 0, now)])

    await database.write(accept)

    report = await reconciler(notes.app, age=-1.0).run_once()

    assert (report.settled, report.put_back) == (0, 1)
    async with notes.working():
        await until_status(notes, "a", "completed")
    assert notes.ran == ["a", "a"]


async def test_a_stale_reading_takes_out_no_job_that_runs_again(
    app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    """It was read as cancelled, and its rerun is in line since; nor is what we take out ourselves taken for an
    operator's work.
    """
    notes = Notes(app_factory())
    await notes.add("a")
    stale = await notes.app.cancel("note-a")
    await notes.type.enqueue(Note(name="a"), on_duplicate="rerun")

    assert await backend_of(notes.app).take_out([stale]) == 0

    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-a"]
    assert await (await backend_of(notes.app).queue("q")).recently_removed() == ({}, ANY)


async def test_a_job_that_runs_again_between_two_looks_stays_in_line(
    app_factory: Factory, raw: RawStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(app_factory())
    await notes.add("a")
    await notes.app.cancel("note-a")
    async with Queue("q", backend_of(notes.app).settings.redis_url or "", prefix=prefix) as queue:
        await queue.add("note", {"name": "a"}, job_id="note-a", application="{}")  # a copy that its removal missed

    async def read_late(*arguments: Any) -> Any:
        monkeypatch.undo()
        await notes.type.enqueue(Note(name="a"), on_duplicate="rerun")
        return await take_out(*arguments)

    backend = backend_of(notes.app)
    take_out = backend.take_out
    monkeypatch.setattr(backend, "take_out", read_late)

    report = await reconciler(notes.app, age=-1.0).run_once()

    assert report.taken_out == 0
    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-a"]


async def test_a_pass_reads_the_removals_once_and_still_hears_of_new_ones(
    app_factory: Factory, redis_socket_url: str, prefix: str
) -> None:
    notes = Notes(app_factory())
    await notes.add("a", "b")
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        await queue.remove("note-a")
        removed, last = await queue.recently_removed()
        assert set(removed) == {"note-a"}
        assert await queue.recently_removed(last) == ({}, last)
        await queue.remove("note-b")
        assert set((await queue.recently_removed(last))[0]) == {"note-b"}


async def test_the_budget_counts_what_is_read(app_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that were never handed over cost the same to read."""
    app = app_factory(redis_url="unix:///nowhere/valkey.sock")
    notes = Notes(app)
    await notes.type.enqueue_many([Note(name=f"n{number}") for number in range(3000)])
    reads = 0

    def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return dispatched_page(*arguments)

    monkeypatch.setattr("taurine.jobs.reconciler.reconciler.dispatched_page", counted)
    report = ReconcileReport()
    await reconciler(app, budget=1000)._compare_records(report)  # pyright: ignore[reportPrivateUsage] - the line needs a server

    assert reads == 2
    assert report.records == 0
