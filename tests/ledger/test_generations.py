"""New generations: a job that has ended runs again, one that the queue lost is put back, and late writes of earlier
ones are refused (P1, P4).
"""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select, text, update

from support.ledger import NOW, complete, fail, open_transaction, put_in, record_at, somebody_waits, start
from taurine.ledger.audit import actions_on
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import fence_of
from taurine.ledger.generations import NewGeneration, Seen, raise_generation, start_generation
from taurine.ledger.outbox import Dispatched, stamp_dispatched, take_undispatched
from taurine.ledger.records import JobRecord
from taurine.ledger.schema import attempt, dead_letter, job


async def _start_generation(database: Database, *items: NewGeneration) -> list[JobRecord | None]:
    return await database.write(lambda connection: start_generation(connection, items))


def _again(job_id: str) -> NewGeneration:
    return NewGeneration(id=job_id, at=NOW + 10, action="retry", actor="ann", cause="they asked")


async def test_a_failed_job_starts_afresh_and_its_history_stays(database: Database) -> None:
    """SEED-229: the record is as new, the attempts and dead letters of the earlier run are still there."""
    await put_in(database, "j", scheduled_for=NOW + 1, expires_at=NOW + 2)
    await database.write(lambda connection: stamp_dispatched(connection, [Dispatched("j", 0, NOW)]))
    await fail(database, "j", progress='{"done":1}')
    await database.write(lambda connection: connection.execute(update(job).values(state='{"cursor":7}')))

    [record] = await _start_generation(database, _again("j"))

    assert record == await record_at(database, "j")
    assert record is not None
    assert (record.status, record.generation, record.attempts, record.fence) == ("queued", 1, 0, 1 << 32)
    assert (record.error, record.error_fingerprint, record.progress, record.worker) == (None, None, None, None)
    times = ("dispatched_at", "started_at", "finished_at", "scheduled_for", "expires_at", "cancel_requested_at")
    assert {name: getattr(record, name) for name in times} == dict.fromkeys(times)
    assert (record.payload, record.state, record.max_attempts) == ({"to": "a"}, {"cursor": 7}, 3)
    entry = await database.read(lambda connection: connection.execute(select(dead_letter)).one())
    assert (entry.status, entry.resolved_by, entry.redriven_as) == ("redriven", "ann", "j#1")
    for table in (attempt, dead_letter):
        assert await database.read(lambda c, t=table: c.execute(select(func.count()).select_from(t)).scalar_one()) == 1
    [entry] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (entry.at, entry.actor, entry.action) == (NOW + 10, "ann", "retry")
    assert entry.detail == '{"generation": 1, "cause": "they asked"}'


async def test_another_payload_does_not_get_the_saved_state(database: Database) -> None:
    await put_in(database, "j")
    await database.write(lambda connection: connection.execute(update(job).values(state='{"cursor":7}')))
    await fail(database, "j")
    item = NewGeneration(
        id="j", at=NOW + 9, action="redrive", payload='{"to":"b"}', max_attempts=1, scheduled_for=NOW + 50
    )

    [record] = await _start_generation(database, item)

    assert record is not None
    assert (record.payload, record.state, record.max_attempts) == ({"to": "b"}, None, 1)
    assert record.scheduled_for is not None


async def test_open_and_unknown_jobs_start_no_generation(database: Database) -> None:
    await put_in(database, "open", "ended")
    await complete(database, "ended")

    records = await _start_generation(database, _again("open"), _again("missing"), _again("ended"), _again("ended"))

    assert [record and record.id for record in records] == [None, None, "ended", None]
    assert (await record_at(database, "open")).generation == 0


async def test_a_late_write_of_an_earlier_generation_is_refused(database: Database) -> None:
    """P4: however often it was started, its fence is below."""
    await put_in(database, "j")
    await fail(database, "j", fence=fence_of(0, 900))
    await _start_generation(database, _again("j"))

    assert await complete(database, "j", fence=fence_of(0, 4_000_000_000)) == "queued"
    assert await start(database, "j", fence=fence_of(1, 1)) is None


async def test_of_two_at_once_one_starts_the_generation(database: Database, other_database: Database) -> None:
    await put_in(database, "j")
    await complete(database, "j")

    answers = await asyncio.gather(
        *(_start_generation(view, _again("j")) for view in (database, other_database) for _ in range(3))
    )

    assert sum(record is not None for [record] in answers) == 1
    assert (await record_at(database, "j")).generation == 1


# Lost by the queue ------------------------------------------------------------------------------------------------------------


async def _raise_generation(database: Database, *lost: Seen, at: int = NOW + 10) -> list[JobRecord | None]:
    return await database.write(lambda connection: raise_generation(connection, lost, at))


@pytest.mark.parametrize("status", ["queued", "running", "retrying", "waiting"])
async def test_a_lost_job_is_put_back_with_its_attempts(database: Database, status: str) -> None:
    """P1: all of Redis is gone; the record says what is to run, and the outbox finds it."""
    await put_in(database, "j", scheduled_for=NOW + 1, expires_at=NOW + 999)
    if status == "running":
        await start(database, "j", fence=2)
    if status in ("retrying", "waiting"):
        again = Ending(id="j", fence=2, status=status, attempts=2, at=NOW + 3, error='"e"', next_at=NOW + 60_000)
        await database.write(lambda connection: apply_endings(connection, [again]))
    await database.write(lambda connection: stamp_dispatched(connection, [Dispatched("j", 0, NOW)]))
    seen = await record_at(database, "j")
    assert seen.status == status

    [record] = await _raise_generation(database, Seen("j", seen.generation, seen.fence))

    assert record == await record_at(database, "j")
    assert record is not None
    becomes = "queued" if status == "running" else status
    assert (record.status, record.generation, record.fence) == (becomes, 1, fence_of(1, 0))
    assert (record.attempts, record.error) == (seen.attempts, seen.error)
    assert (record.scheduled_for, record.next_attempt_at) == (seen.scheduled_for, seen.next_attempt_at)
    due = {"queued": NOW + 1, "running": None}.get(status, NOW + 60_000)
    assert (record.due_at and round(record.due_at.timestamp() * 1000)) == due
    assert [found.id for found in await database.read(lambda c: take_undispatched(c, ["mail"], 9, NOW))] == ["j"]
    [entry] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (entry.action, entry.actor) == ("put_back", None)


@pytest.mark.parametrize(("put_back_at", "status"), [(NOW + 19, "retrying"), (NOW + 20, "queued")])
async def test_a_lost_job_waits_on_until_its_next_attempt(database: Database, put_back_at: int, status: str) -> None:
    await put_in(database, "j")
    again = Ending(id="j", fence=2, status="retrying", attempts=1, at=NOW + 3, error='"e"', next_at=NOW + 20)
    await database.write(lambda connection: apply_endings(connection, [again]))

    [record] = await _raise_generation(database, Seen("j", 0, 2), at=put_back_at)

    assert record is not None
    assert record.status == status
    assert record.next_attempt_at is not None


async def test_a_record_that_changed_since_it_was_seen_is_not_put_back(database: Database) -> None:
    """A reconciler is slow: meanwhile the jobs started, ended, or were put back by another."""
    await put_in(database, "started", "ended", "raised", "lost")
    await start(database, "started")
    await complete(database, "ended")
    await _raise_generation(database, Seen("raised", 0, 0))

    records = await _raise_generation(
        database, *(Seen(job_id, 0, 0) for job_id in ("started", "ended", "lost", "raised", "missing"))
    )

    assert [record and record.id for record in records] == [None, None, "lost", None, None]
    generations = [(await record_at(database, job_id)).generation for job_id in ("started", "ended", "raised", "lost")]
    assert generations == [0, 0, 1, 1]


async def test_reconcilers_at_once_put_a_job_back_once(database: Database, other_database: Database) -> None:
    ids = [f"j{number}" for number in range(30)]
    await put_in(database, *ids)
    lost = [Seen(job_id, 0, 0) for job_id in ids]

    one, other = await asyncio.gather(
        _raise_generation(database, *lost), _raise_generation(other_database, *lost[::-1])
    )

    raised = [record.id for record in (*one, *other) if record is not None]
    assert sorted(raised) == sorted(ids)
    assert {(await record_at(database, job_id)).generation for job_id in ids} == {1}


async def test_a_clock_that_is_behind_does_not_turn_back_the_record(database: Database) -> None:
    await put_in(database, "j")
    await complete(database, "j", at=NOW + 500)

    [record] = await _start_generation(database, _again("j"))

    assert record is not None
    assert record.updated_at.timestamp() * 1000 == NOW + 500


async def test_generations_in_two_orders_do_not_wait_for_each_other(
    postgres_ledger: Database, postgres_ledger_url: str
) -> None:
    """Rows are written by their ids, whatever the order of the requests: the first one that is held holds a writer up
    before it holds any.
    """
    for job_id in "abc":
        await put_in(postgres_ledger, job_id)
        await fail(postgres_ledger, job_id)
    again = [NewGeneration(id=job_id, at=NOW + 9, action="rerun") for job_id in "cba"]

    async with open_transaction(postgres_ledger_url) as other:
        await other.execute(update(job).where(job.c.id == "a").values(worker="x"))
        starting = asyncio.create_task(postgres_ledger.write(lambda connection: start_generation(connection, again)))
        await somebody_waits(postgres_ledger_url)
        await other.execute(text("SET LOCAL lock_timeout = '500ms'"))  # sooner than PostgreSQL sees a deadlock
        await other.execute(update(job).where(job.c.id == "c").values(worker="x"))

    assert [record and record.id for record in await starting] == ["c", "b", "a"]
