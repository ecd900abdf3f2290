"""Cancelling: at once what does not run, by request what does; and jobs that did not start in time (SEED-147, 262)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from sqlalchemy import text

from support.ledger import NOW, complete, fail, open_transaction, put_in, record_at, somebody_waits, start
from taurine.errors import RecordNotFound, TransitionRefused
from taurine.ledger.audit import actions_on
from taurine.ledger.cancellations import (
    CancelAnswer,
    Stop,
    expire_due,
    request_cancel,
    request_cancels,
    requested_stops,
)
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.generations import Seen, raise_generation
from taurine.ledger.reconciliation import cancel_vanished
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import OPEN
from taurine.ledger.tallies import add_outcomes, open_kinds


async def _cancel(database: Database, job_id: str, reason: str | None = "changed my mind") -> CancelAnswer:
    return await database.write(lambda connection: request_cancel(connection, job_id, NOW + 50, reason, "ann"))


async def _requested(database: Database, fences: Mapping[str, int]) -> dict[str, str]:
    stops = await database.read(lambda connection: requested_stops(connection, list(fences.items())))
    return {job_id: stop.reason for job_id, stop in zip(fences, stops, strict=True) if stop is not None}


async def _end(database: Database, job_id: str, status: str, fence: int = 1) -> None:
    next_at = NOW + 99 if status in OPEN else None
    item = Ending(id=job_id, fence=fence, status=status, attempts=1, at=NOW + 9, error='"e"', next_at=next_at)  # type: ignore[arg-type]
    assert await database.write(lambda connection: apply_endings(connection, [item])) == [None]


@pytest.mark.parametrize("status", ["queued", "retrying", "waiting"])
async def test_a_job_that_does_not_run_is_cancelled_at_once(database: Database, status: str) -> None:
    await put_in(database, "j", tenant="acme")
    if status != "queued":
        await _end(database, "j", status)

    answer = await _cancel(database, "j")

    assert answer.at_once
    assert answer.record == await record_at(database, "j")
    assert (answer.record.status, answer.record.cancel_reason) == ("cancelled", "changed my mind")
    assert answer.record.finished_at == answer.record.cancel_requested_at is not None
    assert answer.record.next_attempt_at is None
    [entry] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (entry.action, entry.actor, entry.tenant) == ("cancel", "ann", "acme")
    assert entry.detail == '{"reason": "changed my mind"}'


async def test_a_job_that_vanished_while_it_waited_for_its_next_attempt_has_none(database: Database) -> None:
    await put_in(database, "j")
    await _end(database, "j", "retrying")
    seen = await record_at(database, "j")
    lost = [Seen("j", seen.generation, seen.fence)]

    assert await database.write(lambda connection: cancel_vanished(connection, lost, NOW + 50, "gone")) == [True]

    record = await record_at(database, "j")
    assert (record.status, record.next_attempt_at) == ("cancelled", None)


async def test_a_job_that_expires_after_it_was_put_back_has_no_next_attempt(database: Database) -> None:
    await put_in(database, "j", expires_at=NOW + 10)
    await _end(database, "j", "waiting")
    seen = await record_at(database, "j")
    lost = [Seen("j", seen.generation, seen.fence)]
    await database.write(lambda connection: raise_generation(connection, lost, NOW + 120))

    [record] = await database.write(lambda connection: expire_due(connection, NOW + 130, 10))

    assert (record.id, record.status, record.next_attempt_at) == ("j", "expired", None)


async def test_a_job_that_runs_is_asked_to_stop_and_may_keep_a_partial_result(database: Database) -> None:
    """SEED-147, 262: the worker hears of it, stops, and says how far it got."""
    await put_in(database, "j", "other")
    await start(database, "j")
    await start(database, "other")

    answer = await _cancel(database, "j")

    assert not answer.at_once
    assert answer.record.status == "running"
    assert await _requested(database, {"j": 1, "other": 1}) == {"j": "changed my mind"}
    partial = Ending(id="j", fence=1, status="cancelled", attempts=1, at=NOW + 60, output='{"processed":40}')
    assert await database.write(lambda connection: apply_endings(connection, [partial])) == [None]
    record = await record_at(database, "j")
    assert (record.status, record.output, record.cancel_reason) == ("cancelled", {"processed": 40}, "changed my mind")


async def test_the_first_reason_stays(database: Database) -> None:
    await put_in(database, "j")
    await start(database, "j")
    await _cancel(database, "j", "first")

    answer = await _cancel(database, "j", "second")

    assert answer.record.cancel_reason == "first"
    assert len(await database.read(lambda connection: actions_on(connection, "j"))) == 2


async def test_what_has_ended_or_is_unknown_is_not_cancelled(database: Database) -> None:
    await put_in(database, "done", "failed")
    await complete(database, "done")
    await fail(database, "failed")

    for job_id, status in (("done", "completed"), ("failed", "failed")):
        with pytest.raises(TransitionRefused, match=status):
            await _cancel(database, job_id)
    with pytest.raises(RecordNotFound, match="missing"):
        await _cancel(database, "missing")
    assert (await record_at(database, "done")).cancel_requested_at is None


async def test_a_job_that_had_just_begun_is_told_though_its_record_said_queued(database: Database) -> None:
    await put_in(database, "j")
    await _cancel(database, "j", None)

    assert await _requested(database, {"j": 1}) == {"j": "cancelled"}
    assert await complete(database, "j") == "cancelled"


async def test_a_worker_learns_that_another_attempt_has_its_job(database: Database) -> None:
    """P4: a lease was lost and nobody said so."""
    await put_in(database, "mine", "taken", "ended", "by_me", "quiet")
    await start(database, "mine", fence=2)
    await start(database, "taken", fence=3)
    await complete(database, "ended", fence=1)
    await complete(database, "by_me", fence=2)

    fences: dict[str, int] = dict.fromkeys(["mine", "taken", "ended", "by_me", "quiet", "unrecorded"], 2)
    told = await _requested(database, fences)

    assert told == {"taken": "a later attempt of the job has begun", "ended": "the job is completed"}


async def test_two_attempts_of_one_job_are_judged_each_by_its_own_fence(database: Database) -> None:
    """A later attempt in the same process is not stopped for the earlier one's sake, and the earlier one is not told of
    a cancel.
    """
    await put_in(database, "j")
    await start(database, "j", fence=3)

    stops = await database.read(lambda connection: requested_stops(connection, [("j", 2), ("j", 3)]))

    assert stops == [Stop("a later attempt of the job has begun", overtaken=True), None]
    await _cancel(database, "j")
    stops = await database.read(lambda connection: requested_stops(connection, [("j", 2), ("j", 3)]))
    assert stops == [Stop("a later attempt of the job has begun", overtaken=True), Stop("changed my mind")]


async def test_many_jobs_are_asked_about(database: Database) -> None:
    ids = [f"j{number}" for number in range(1200)]
    await put_in(database, *ids)
    await _cancel(database, "j1199")

    assert await _requested(database, dict.fromkeys(ids, 1)) == {"j1199": "changed my mind"}


async def test_a_cancel_and_a_completion_at_once_agree(database: Database, other_database: Database) -> None:
    for number in range(10):
        job_id = f"j{number}"
        await put_in(database, job_id)
        cancelled, refused = await asyncio.gather(
            _cancel(database, job_id), complete(other_database, job_id), return_exceptions=True
        )
        record = await record_at(database, job_id)
        if isinstance(cancelled, CancelAnswer):
            assert (record.status, refused) == ("cancelled", "cancelled")
        else:
            assert isinstance(cancelled, TransitionRefused)
            assert (record.status, refused) == ("completed", None)


# Expiring -----------------------------------------------------------------------------------------------------------------------


async def _expire(database: Database, now: int = NOW + 1000, limit: int = 100) -> list[JobRecord]:
    return await database.write(lambda connection: expire_due(connection, now, limit))


async def test_what_did_not_start_in_time_expires(database: Database) -> None:
    await put_in(database, "due", expires_at=NOW + 1000)
    await put_in(database, "later", expires_at=NOW + 1001)
    await put_in(database, "never")
    await put_in(database, "started", "retried", "done", expires_at=NOW + 10)
    await start(database, "started")
    await _end(database, "retried", "retrying")
    await complete(database, "done")

    [record] = await _expire(database)

    assert record == await record_at(database, "due")
    assert (record.id, record.status, record.phase) == ("due", "expired", "failed")
    assert record.finished_at is not None
    [entry] = await database.read(lambda connection: actions_on(connection, "due"))
    assert (entry.action, entry.actor) == ("expire", None)
    assert await _expire(database) == []


async def test_a_job_that_snoozed_has_started(database: Database) -> None:
    await put_in(database, "j", expires_at=NOW + 10)
    await start(database, "j")
    await _end(database, "j", "queued")

    assert await _expire(database) == []


async def test_the_longest_due_expire_first_and_two_at_once_share_them(
    database: Database, other_database: Database
) -> None:
    for number in range(20):
        await put_in(database, f"j{number:02}", expires_at=NOW + 100 - number)

    first = await _expire(database, limit=5)
    one, other = await asyncio.gather(_expire(database, limit=100), _expire(other_database, limit=100))

    assert sorted(record.id for record in first) == [f"j{number}" for number in range(15, 20)]
    assert sorted(record.id for record in (*one, *other)) == [f"j{number:02}" for number in range(15)]


async def test_a_request_that_an_attempt_did_not_hear_before_it_failed_or_snoozed_counts(database: Database) -> None:
    await put_in(database, "retried", "snoozed", "overtaken")
    for job_id in ("retried", "snoozed", "overtaken"):
        await start(database, job_id, fence=2 if job_id == "overtaken" else 1)
        await _cancel(database, job_id)
    items = [
        Ending(id="retried", fence=1, status="retrying", attempts=1, at=NOW + 60, next_at=NOW + 90, error='{"a":1}'),
        Ending(id="snoozed", fence=1, status="waiting", attempts=0, at=NOW + 60, next_at=NOW + 90, charged=False),
        Ending(id="overtaken", fence=1, status="retrying", attempts=1, at=NOW + 60, next_at=NOW + 90),
    ]

    answers = await database.write(lambda connection: apply_endings(connection, items))

    assert answers == ["cancelled", "cancelled", "running"]
    record = await record_at(database, "retried")
    assert (record.status, record.attempts, record.next_attempt_at) == ("cancelled", 1, None)
    assert record.finished_at is not None


async def test_who_cancels_many_holds_no_count_while_it_waits_for_a_job(
    postgres_ledger: Database, postgres_ledger_url: str
) -> None:
    """Another one has a job and wants to count it: the two would wait for each other."""
    await put_in(postgres_ledger, "a", "b")
    async with open_transaction(postgres_ledger_url) as other:
        await other.run_sync(lambda connection: open_kinds(connection, ["b"]))
        cancelling = asyncio.create_task(
            postgres_ledger.write(lambda connection: request_cancels(connection, ["b", "a"], NOW, None))
        )
        await somebody_waits(postgres_ledger_url)
        await other.execute(text("SET LOCAL lock_timeout = '500ms'"))  # sooner than PostgreSQL sees a deadlock
        await other.run_sync(lambda connection: add_outcomes(connection, [(("mail", "mail.send"), "cancelled")], NOW))
    answers = await cancelling
    assert [answer.record.id for answer in answers if isinstance(answer, CancelAnswer)] == ["b", "a"]


async def test_whose_end_becomes_a_cancel_is_counted_behind_all_jobs(
    postgres_ledger: Database, postgres_ledger_url: str
) -> None:
    """The same of attempts that were to be tried again while their jobs were asked to stop."""
    await put_in(postgres_ledger, "a", "b")
    for job_id in ("a", "b"):
        await start(postgres_ledger, job_id)
    await postgres_ledger.write(lambda connection: request_cancel(connection, "a", NOW, None))
    ends = [
        Ending(id=job_id, fence=1, status="retrying", attempts=1, at=NOW + 9, error='"e"', next_at=NOW + 99)
        for job_id in ("a", "b")
    ]
    async with open_transaction(postgres_ledger_url) as other:
        await other.run_sync(lambda connection: open_kinds(connection, ["b"]))
        ending = asyncio.create_task(postgres_ledger.write(lambda connection: apply_endings(connection, ends)))
        await somebody_waits(postgres_ledger_url)
        await other.execute(text("SET LOCAL lock_timeout = '500ms'"))
        await other.run_sync(lambda connection: add_outcomes(connection, [(("mail", "mail.send"), "cancelled")], NOW))
    assert await ending == ["cancelled", None]
