"""Progress and saved state: fenced, refused once a job has ended, and kept for the next attempt (SEED-146, 148)."""

from __future__ import annotations

from support.ledger import NOW, complete, put_in, record_at, start
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.database import Database
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import Granted, fence_of
from taurine.ledger.progress import Progress, save_progress


async def _save(database: Database, *items: Progress) -> list[Granted]:
    return await database.write(lambda connection: save_progress(connection, items))


def _said(
    job_id: str, progress: str | None, state: str | None = None, *, fence: int = 1, at: int = NOW + 9
) -> Progress:
    return Progress(job_id, fence, progress, state, at)


async def test_progress_and_state_are_saved_each_by_itself(database: Database) -> None:
    await put_in(database, "a", "b")

    saved = [_said("a", '{"done":1}', '{"cursor":5}'), _said("b", '{"done":2}')]
    assert await _save(database, *saved) == [None, None]
    assert await _save(database, _said("a", None, '{"cursor":6}'), _said("b", None)) == [None, None]

    a, b = await record_at(database, "a"), await record_at(database, "b")
    assert (a.progress, a.state, a.status) == ({"done": 1}, {"cursor": 6}, "queued")
    assert (b.progress, b.state) == ({"done": 2}, None)
    assert a.updated_at.timestamp() * 1000 == NOW + 9


async def test_an_attempt_that_lost_its_job_saves_nothing(database: Database) -> None:
    """P4: neither before nor after the later attempt wrote; its own neighbours in the batch are saved."""
    await put_in(database, "j", "fine", "done")
    await start(database, "j", fence=2)
    await complete(database, "done")

    answers = await _save(
        database,
        _said("j", "1"),
        _said("fine", "2"),
        _said("done", "3"),
        _said("missing", "4"),
        _said("j", "5", fence=2),
    )

    assert answers == ["running", None, "completed", "missing", None]
    progress = [(await record_at(database, job_id)).progress for job_id in ("j", "fine", "done")]
    assert progress == [5, 2, None]
    assert await complete(database, "j", fence=1) == "running"


async def test_progress_of_a_later_attempt_fences_the_earlier_one(database: Database) -> None:
    await put_in(database, "j")

    assert await _save(database, _said("j", "1", fence=fence_of(1, 1))) == [None]

    assert await complete(database, "j", fence=fence_of(0, 7)) == "queued"


async def test_of_several_of_one_job_the_last_counts(database: Database) -> None:
    """On PostgreSQL one statement over them all would keep any of them."""
    await put_in(database, "j", "k")

    answers = await _save(
        database, *(_said("j", str(number)) for number in range(30)), _said("k", "0"), _said("j", None, '"last"')
    )

    assert answers == [None] * 32
    record = await record_at(database, "j")
    assert (record.progress, record.state) == (29, "last")


async def test_saved_state_outlives_a_failed_attempt(database: Database) -> None:
    """SEED-146: the cursor of a batch is there for the next attempt."""
    await put_in(database, "j")
    await _save(database, _said("j", '{"done":100}', '{"cursor":100}'))
    again = Ending(id="j", fence=1, status="retrying", attempts=1, at=NOW + 20, error='"e"')
    await database.write(lambda connection: apply_endings(connection, [again]))

    record = await record_at(database, "j")

    assert (record.status, record.state, record.progress) == ("retrying", {"cursor": 100}, {"done": 100})


async def test_a_job_that_is_asked_to_stop_still_saves(database: Database) -> None:
    await put_in(database, "j")
    await start(database, "j")
    await database.write(lambda connection: request_cancel(connection, "j", NOW + 2, "stop"))

    assert await _save(database, _said("j", "1", '"s"')) == [None]


async def test_a_clock_that_is_behind_does_not_turn_back_the_record(database: Database) -> None:
    await put_in(database, "j")
    await _save(database, _said("j", "1", at=NOW + 50))
    await _save(database, _said("j", "2", at=NOW + 20))

    record = await record_at(database, "j")
    assert (record.progress, record.updated_at.timestamp() * 1000) == (2, NOW + 50)
