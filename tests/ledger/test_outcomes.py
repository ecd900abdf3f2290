"""What workers write of their attempts: fenced, in whole, and at most once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from ledger.writing import FIRST, NOW, completion, ending, insert_raw, new_record, row_of, start
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database
from taurine.ledger.endings import apply_endings
from taurine.ledger.fences import fence_of
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.records import get_record, insert_records
from taurine.ledger.schema import attempt, dead_letter, job
from taurine.ledger.starts import apply_starts
from taurine.ledger.statuses import OPEN, STATUSES, TERMINAL, Status, allowed_from

SECOND = fence_of(0, 2)


@pytest.fixture
async def one(database: Database) -> Database:
    """A ledger with one queued job, `a`."""
    await database.write(lambda connection: insert_records(connection, [new_record()]))
    return database


def _again(connection: Connection) -> Any:
    return start_generation(connection, [NewGeneration(id="a", at=NOW + 50, action="retry")])


def _count(connection: Connection, table: Any) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_later_claim_has_a_higher_fence_and_a_generation_counts_more() -> None:
    fences = [fence_of(0, 1), fence_of(0, 2), fence_of(0, 2**31), fence_of(1, 0), fence_of(1, 1), fence_of(2, 1)]
    assert fences == sorted(set(fences))


# One record through its life ------------------------------------------------------------------------------------------------


async def test_one_row_through_life(one: Database) -> None:
    """SEED-025: the worker updates the record that the enqueue made: running, retrying, running, completed with output."""
    assert await one.write(lambda connection: apply_starts(connection, [start()])) == [None]
    assert (await one.read(row_of))["status"] == "running"
    failed_once = ending(next_at=NOW + 900)
    assert await one.write(lambda connection: apply_endings(connection, [failed_once])) == [None]
    row = await one.read(row_of)
    assert (row["status"], row["attempts"], row["next_attempt_at"]) == ("retrying", 1, NOW + 900)
    assert (row["finished_at"], row["error_fingerprint"]) == (None, "f1")
    assert await one.write(lambda connection: apply_starts(connection, [start(fence=SECOND, at=NOW + 900)])) == [None]
    done = completion(fence=SECOND, attempts=2, at=NOW + 950)
    assert await one.write(lambda connection: apply_completions(connection, [done])) == [None]
    row = await one.read(row_of)
    assert (row["status"], row["output"], row["error"], row["attempts"]) == ("completed", '{"sent":true}', None, 2)
    assert (row["finished_at"], row["fence"]) == (NOW + 950, SECOND)
    assert await one.read(lambda connection: _count(connection, job)) == 1


async def test_the_start_that_was_asked_for_stays_whatever_attempts_follow(database: Database) -> None:
    """The time of the next attempt is another: it comes with each pause, and goes when the job runs or ends."""
    asked = NOW + 5
    await database.write(lambda connection: insert_records(connection, [new_record(scheduled_for=asked)]))
    steps: list[tuple[Any, Any, int | None, int | None]] = [
        (apply_endings, ending(next_at=NOW + 900), NOW + 900, NOW + 900),
        (apply_starts, start(fence=SECOND, at=NOW + 900), None, None),
        (apply_endings, ending(status="waiting", fence=SECOND, attempts=1, next_at=NOW + 2000), NOW + 2000, NOW + 2000),
        (apply_completions, completion(fence=fence_of(0, 3), at=NOW + 2001), None, None),
    ]
    seen: list[tuple[int, int | None, int | None]] = [(asked, None, asked)]
    for apply, item, _, _ in steps:
        assert await database.write(lambda connection, apply=apply, item=item: apply(connection, [item])) == [None]
        record = await database.read(lambda connection: get_record(connection, "a"))
        assert record is not None
        row = await database.read(row_of)
        seen.append((row["scheduled_for"], row["next_attempt_at"], record.due_at and _ms(record.due_at)))
    assert seen == [(asked, None, asked), *((asked, next_at, due_at) for _, _, next_at, due_at in steps)]


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


async def test_a_failed_job_tells_what_it_failed_with(one: Database) -> None:
    """SEED-025, and the attempts stay beside it."""
    await one.write(lambda connection: apply_endings(connection, [ending()]))
    last = ending(status="failed", fence=SECOND, attempts=2, at=NOW + 40, dead_letter="exhausted")
    assert await one.write(lambda connection: apply_endings(connection, [last])) == [None]
    record = await one.read(lambda connection: get_record(connection, "a"))
    assert record is not None
    assert (record.status, record.error) == ("failed", {"type": "ValueError", "message": "no"})
    rows = await one.read(
        lambda connection: connection.execute(
            select(attempt.c.number, attempt.c.outcome, attempt.c.worker, attempt.c.error_fingerprint).order_by(
                attempt.c.fence
            )
        ).all()
    )
    assert [tuple(row) for row in rows] == [(1, "retried", "w1", "f1"), (2, "failed", "w1", "f1")]


async def test_each_transition_is_written_or_refused_as_the_table_says(database: Database) -> None:
    """SEED-023: the state machine is enforced where it is stored; a refusal tells what stands there."""
    for before in STATUSES:
        ended = {"finished_at": NOW + 1, "updated_at": NOW + 1} if before in TERMINAL else {}
        ended |= {"error": '{"type":"E"}'} if before == "failed" else {}
        for status in STATUSES:
            id_ = f"{before}-{status}"
            await database.write(
                lambda connection, id_=id_, before=before, ended=ended: insert_raw(
                    connection, id=id_, status=before, **ended
                )
            )
            expected = None if before in allowed_from(status) else before
            assert await database.write(_writing(id_, status)) == [expected], id_
            row = await database.read(lambda connection, id_=id_: row_of(connection, id_))
            assert row["status"] == (status if expected is None else before), id_


def _writing(id_: str, status: Status) -> Callable[[Connection], Any]:
    if status == "completed":
        return lambda connection: apply_completions(connection, [completion(id_)])
    if status == "running":
        return lambda connection: apply_starts(connection, [start(id_)])
    return lambda connection: apply_endings(connection, [ending(id_, status)])


# Fences --------------------------------------------------------------------------------------------------------------------


async def test_a_write_with_a_stale_fence_changes_nothing(one: Database) -> None:
    """P4, SEED-232: a worker that lost its lease writes late, whatever it writes."""
    await one.write(lambda connection: apply_starts(connection, [start(fence=SECOND, at=NOW + 30)]))
    before = await one.read(row_of)
    late: list[tuple[Any, Any]] = [
        (apply_completions, completion(at=NOW + 99)),
        (apply_endings, ending(at=NOW + 99)),
        (apply_endings, ending(status="failed", at=NOW + 99, dead_letter="exhausted")),
        (apply_starts, start(at=NOW + 99)),
    ]
    for apply, item in late:
        assert await one.write(lambda connection, apply=apply, item=item: apply(connection, [item])) == ["running"]
    assert await one.read(row_of) == before
    assert await one.read(lambda connection: (_count(connection, attempt), _count(connection, dead_letter))) == (0, 0)


async def test_a_later_generation_refuses_the_one_before(one: Database) -> None:
    """P4: what was re-run is not ended by the run that everybody had given up."""
    await one.write(lambda connection: apply_endings(connection, [ending(status="failed", dead_letter="exhausted")]))
    await one.write(_again)
    before = await one.read(row_of)
    assert (before["status"], before["generation"], before["fence"]) == ("queued", 1, fence_of(1, 0))
    assert await one.write(
        lambda connection: apply_completions(connection, [completion(fence=fence_of(0, 9), at=NOW + 99)])
    ) == ["queued"]
    assert await one.read(row_of) == before
    fresh = completion(fence=fence_of(1, 1), at=NOW + 99)
    assert await one.write(lambda connection: apply_completions(connection, [fresh])) == [None]


async def test_a_job_without_a_record_is_called_missing(database: Database) -> None:
    writes: list[tuple[Any, Any]] = [
        (apply_completions, completion()),
        (apply_endings, ending()),
        (apply_starts, start()),
    ]
    for apply, item in writes:
        assert await database.write(lambda connection, apply=apply, item=item: apply(connection, [item])) == ["missing"]


async def test_an_end_is_the_last_word(one: Database) -> None:
    """P3: what completed does not fail, restart or complete otherwise."""
    await one.write(lambda connection: apply_completions(connection, [completion()]))
    before = await one.read(row_of)
    later: list[tuple[Any, Any]] = [
        (apply_completions, completion(fence=SECOND, output="2", at=NOW + 99)),
        (apply_endings, ending(status="failed", fence=SECOND, at=NOW + 99, dead_letter="crashed")),
        (apply_starts, start(fence=SECOND, at=NOW + 99)),
    ]
    for apply, item in later:
        assert await one.write(lambda connection, apply=apply, item=item: apply(connection, [item])) == ["completed"]
    assert await one.read(row_of) == before


@pytest.mark.parametrize(
    ("apply", "item"),
    [(apply_completions, completion()), (apply_endings, ending(status="failed", dead_letter="permanent"))],
    ids=["completion", "failure"],
)
async def test_the_same_write_twice_is_granted_twice_and_written_once(one: Database, apply: Any, item: Any) -> None:
    """A commit whose answer was lost is repeated."""
    assert await one.write(lambda connection: apply(connection, [item])) == [None]
    before = await one.read(row_of)
    assert await one.write(lambda connection: apply(connection, [item])) == [None]
    assert await one.read(row_of) == before
    assert await one.read(lambda connection: _count(connection, dead_letter)) == (
        0 if apply is apply_completions else 1
    )


# Many at once --------------------------------------------------------------------------------------------------------------


async def test_in_one_batch_each_item_has_its_own_answer(database: Database) -> None:
    records = [new_record(id_) for id_ in ("a", "b", "c", "d")]
    await database.write(lambda connection: insert_records(connection, records))
    await database.write(lambda connection: apply_completions(connection, [completion("b")]))
    await database.write(lambda connection: apply_starts(connection, [start("c", fence=SECOND)]))
    items = [completion(id_, output=f'"{id_}"', at=NOW + 99) for id_ in ("a", "b", "c", "d", "e")]
    answers = await database.write(lambda connection: apply_completions(connection, items))
    assert answers == [None, "completed", "running", None, "missing"]
    assert (await database.read(lambda connection: row_of(connection, "d")))["output"] == '"d"'
    assert (await database.read(lambda connection: row_of(connection, "c")))["output"] is None


async def test_values_stay_with_their_jobs_in_a_large_batch(database: Database) -> None:
    ids = [f"job-{number}" for number in range(700)]
    await database.write(lambda connection: insert_records(connection, [new_record(id_) for id_ in ids]))
    items = [
        completion(id_, output=f'"{id_}"', progress="null" if number % 2 else None) for number, id_ in enumerate(ids)
    ]
    assert await database.write(lambda connection: apply_completions(connection, items)) == [None] * len(ids)
    rows = await database.read(lambda connection: connection.execute(select(job.c.id, job.c.output)).all())
    assert {row.id: row.output for row in rows} == {id_: f'"{id_}"' for id_ in ids}


async def test_one_job_twice_in_one_batch_has_one_end(one: Database) -> None:
    """A stale run and the true one may end in the same group commit; the record holds one of them, and is not a
    mixture.
    """
    items = [completion(output='"old"', at=NOW + 20), completion(fence=SECOND, output='"new"', attempts=2, at=NOW + 30)]
    await one.write(lambda connection: apply_completions(connection, items))
    row = await one.read(row_of)
    assert (row["output"], row["fence"], row["finished_at"], row["attempts"]) in [
        ('"old"', FIRST, NOW + 20, 1),
        ('"new"', SECOND, NOW + 30, 2),
    ]


# Dead letters and times ----------------------------------------------------------------------------------------------------


async def test_a_final_failure_has_its_dead_letter_in_the_same_transaction(one: Database) -> None:
    last = ending(status="failed", dead_letter="exhausted")
    await one.write(lambda connection: apply_endings(connection, [last]))
    row = await one.read(lambda connection: connection.execute(select(dead_letter)).one())
    assert (row.job_id, row.generation, row.type, row.queue, row.payload) == (
        "a",
        0,
        "mail.send",
        "mail",
        '{"to":"ann"}',
    )
    assert (row.error, row.reason, row.attempts, row.failed_at) == (last.error, "exhausted", 1, NOW + 20)
    assert (row.status, row.resolved_at, row.redriven_as) == ("open", None, None)


async def test_without_its_dead_letter_a_job_has_not_failed(one: Database) -> None:
    """Broken on purpose: the letter cannot be written, so the status is not either."""

    def spoilt(connection: Connection) -> None:
        apply_endings(connection, [ending(status="failed", dead_letter="gone mad")])  # type: ignore[arg-type]

    with pytest.raises(IntegrityError):
        await one.write(spoilt)
    assert (await one.read(row_of))["status"] == "queued"
    assert await one.read(lambda connection: _count(connection, attempt)) == 0


async def test_each_generation_that_fails_has_one_dead_letter(one: Database) -> None:
    for generation in range(3):
        fence = fence_of(generation, 1)
        last = ending(status="failed", fence=fence, at=NOW + 20, dead_letter="exhausted")
        for _ in range(2):
            assert await one.write(lambda connection, last=last: apply_endings(connection, [last])) == [None]
        await one.write(_again)
    rows = await one.read(lambda connection: connection.execute(select(dead_letter.c.generation)).scalars().all())
    assert sorted(rows) == [0, 1, 2]


async def test_updated_at_never_goes_back(one: Database) -> None:
    """SEED-232: clocks of workers differ, by an hour here."""
    seen = [(await one.read(row_of))["updated_at"]]
    writes: list[tuple[Any, Any]] = [
        (apply_starts, start(at=NOW + 1_000)),
        (apply_starts, start(at=NOW - 3_600_000)),
        (apply_endings, ending(at=NOW - 3_600_000)),
        (apply_starts, start(fence=SECOND, at=NOW + 500)),
        (apply_completions, completion(fence=SECOND, at=NOW - 3_600_000)),
    ]
    for apply, item in writes:
        assert await one.write(lambda connection, apply=apply, item=item: apply(connection, [item])) == [None]
        seen.append((await one.read(row_of))["updated_at"])
    assert seen == sorted(seen)
    assert seen[-1] == NOW + 1_000


async def test_a_partial_result_is_kept_with_a_cancelled_job_only(one: Database) -> None:
    await one.write(lambda connection: apply_endings(connection, [ending(status="cancelled", output='"half"')]))
    record = await one.read(lambda connection: get_record(connection, "a"))
    assert record is not None
    assert (record.status, record.phase, record.output) == ("cancelled", "failed", "half")


async def test_every_open_status_can_end() -> None:
    """No record is stuck in a status by the table itself."""
    for status in OPEN:
        assert any(status in allowed_from(end) for end in TERMINAL)
