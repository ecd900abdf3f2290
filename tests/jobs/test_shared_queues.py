"""Queues that Node and this application share: who adds, who works, and what the records say (P9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from interop.bullmq import Bullmq
from jobs.reconciling import Notes, backend_of, reconciler, until_status
from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import AlreadyDeclared, InvalidName, InvalidOption
from taurine.jobs.reconciler.follower import Follower
from taurine.ledger.cursors import read_cursor

Factory = Callable[..., Taurine]


@pytest.fixture
async def node(redis_url: str, prefix: str) -> AsyncIterator[Bullmq]:
    async with Bullmq(redis_url, prefix) as process:
        yield process


@pytest.fixture
def notes(app_factory: Factory) -> Notes:
    app = app_factory()
    app.queue("q", shared=True)
    return Notes(app)


async def _following(notes: Notes) -> Follower:
    await notes.app.migrate()
    return Follower("q", backend=backend_of(notes.app))


async def test_what_node_ends_is_written_into_the_records(notes: Notes, node: Bullmq) -> None:
    """The job is accepted here, and run by a Node worker."""
    follower = await _following(notes)
    follower.start()
    await notes.add("good")
    await node.worker("q", "node-1")

    good = await until_status(notes, "good", "completed", 20)

    assert good.finished_at is not None
    assert good.attempts == 1
    await node.stop_worker("node-1")
    await follower.stop()


async def test_a_final_failure_on_node_is_a_dead_letter(notes: Notes, node: Bullmq) -> None:
    follower = await _following(notes)
    follower.start()
    await notes.add("bad")
    for _ in range(3):

        async def taken() -> Any:
            return await node.take("q")

        job = await eventually(taken, 20, "Node got no job", every=0.2)
        await node.settle(job["id"], error="not on this side")

    record = await until_status(notes, "bad", "failed", 20)

    assert (record.error or {})["message"] == "not on this side"
    assert record.attempts == 3
    (letter,) = await notes.app.dead_letters.list()
    assert (letter.job_id, letter.reason) == ("note-bad", "exhausted")
    await follower.stop()


async def test_what_node_adds_becomes_a_record_and_runs_here(
    notes: Notes, node: Bullmq, raw: RawStore, prefix: str
) -> None:
    """With an id of its own, and with an automatic number; payload, creation time and result are in the record."""
    async with notes.working():
        named = await node.add("q", "note", {"name": "named"}, jobId="from-node")
        numbered = await node.add("q", "note", {"name": "numbered"})
        timestamp = await raw.hget(f"{prefix}:q:{numbered['id']}", "timestamp")
        record_id = f"q:{numbered['id']}:{timestamp}"

        async def both_completed() -> bool:
            records = [await notes.app.get(job_id) for job_id in ("from-node", record_id)]
            return all(record is not None and record.status == "completed" for record in records)

        await eventually(both_completed, 20, "they have no record")
    record = await notes.app.get(record_id)
    assert record is not None
    assert (record.payload, record.output, record.source) == ({"name": "numbered"}, "numbered", "queue")
    assert round(record.created_at.timestamp() * 1000) == int(timestamp)
    assert named["id"] == "from-node"
    assert notes.ran.count("named") == notes.ran.count("numbered") == 1


async def test_what_node_adds_and_ends_has_a_record_too(notes: Notes, node: Bullmq) -> None:
    """Also where Node keeps nothing of the job once it has ended."""
    follower = await _following(notes)
    await node.add("q", "note", {"name": "theirs"}, jobId="theirs", removeOnComplete=True)
    await follower.run_once()
    record = await notes.app.get("theirs")
    assert record is not None
    assert record.status == "queued"
    job = await node.take("q")
    await node.settle(job["id"], result={"done": True})

    await follower.run_once()

    record = await notes.app.get("theirs")
    assert record is not None
    assert (record.status, record.output) == ("completed", {"done": True})
    assert (await reconciler(notes.app).run_once()).repaired == 0
    await follower.stop()


async def test_a_removal_in_a_dashboard_cancels_the_record(notes: Notes, node: Bullmq) -> None:
    follower = await _following(notes)
    await notes.add("one")
    await node.job("q", "note-one", "remove")

    await follower.run_once()

    record = await notes.record("one")
    assert (record.status, record.cancel_reason) == ("cancelled", "removed from its queue by hand")
    await follower.stop()


async def test_a_follower_goes_on_where_the_last_one_stopped(ledger_url: str, notes: Notes, node: Bullmq) -> None:
    follower = await _following(notes)
    await notes.add("one", "two")
    job = await node.take("q")
    await node.settle(job["id"], result=1)
    assert await follower.run_once() == 1
    await follower.stop()
    position = await backend_of(notes.app).database.read(lambda connection: read_cursor(connection, "q"))
    job = await node.take("q")
    await node.settle(job["id"], result=2)

    other = await _following(notes)

    assert position is not None
    assert await other.run_once() == 1
    assert {(await notes.record(name)).output for name in ("one", "two")} == {1, 2}
    await other.stop()


async def test_ended_jobs_of_a_shared_queue_are_kept_by_age_alone(notes: Notes, raw: RawStore, prefix: str) -> None:
    """By count, a busy queue would forget an end before the record learns of it."""
    await notes.add("one")

    options = await raw.hget(f"{prefix}:q:note-one", "opts")

    assert '"removeOnComplete":{"age":86400}' in options
    assert '"removeOnFail":{"age":604800}' in options


async def test_a_type_that_is_not_declared_has_no_record(notes: Notes, node: Bullmq) -> None:
    follower = await _following(notes)
    await node.add("q", "theirs alone", {"x": 1}, jobId="unknown")

    await follower.run_once()

    assert await notes.app.get("unknown") is None
    assert (await notes.app.compare()).orphans == 0
    await follower.stop()


def test_a_queue_is_declared_once(notes: Notes) -> None:
    notes.app.queue("q", shared=True)  # the same again, as when a module is imported twice
    with pytest.raises(AlreadyDeclared, match="'q' is declared already"):
        notes.app.queue("q")
    with pytest.raises(InvalidOption, match="on_vanished"):
        notes.app.queue("r", on_vanished="retry")  # pyright: ignore[reportArgumentType] - that is the point
    with pytest.raises(InvalidOption, match="concurrency"):
        notes.app.queue("r", concurrency=0)
    with pytest.raises(InvalidName):
        notes.app.queue("a:b")
