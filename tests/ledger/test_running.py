"""What runs, and since when: `runs_before`."""

from __future__ import annotations

from support.ledger import NOW, complete, put_in, start
from taurine.ledger.database import Database
from taurine.ledger.running import Run, runs_before
from taurine.ledger.starts import Start, apply_starts


async def _begin(database: Database, job_id: str, at: int) -> None:
    item = Start(id=job_id, fence=1, attempts=1, worker="w", started_at=at, at=at)
    assert await database.write(lambda connection: apply_starts(connection, [item])) == [None]


async def test_what_runs_for_longest_comes_first(database: Database) -> None:
    """By the start of the run, whenever it was accepted; what waits or has ended runs no more."""
    await put_in(database, "late", "early", "waits", "done")
    await put_in(database, "other", queue="post")
    await start(database, "done")
    await complete(database, "done")
    for job_id, at in (("late", 300), ("early", 200), ("other", 100)):
        await _begin(database, job_id, NOW + at)

    of_all = await database.read(lambda connection: runs_before(connection, NOW + 900))
    of_queue = await database.read(lambda connection: runs_before(connection, NOW + 900, queue="mail"))
    first = await database.read(lambda connection: runs_before(connection, NOW + 900, limit=1))
    before = await database.read(lambda connection: runs_before(connection, NOW + 200))

    assert of_all[0] == Run("other", "post", "w", NOW + 100)
    assert [run.id for run in of_all] == ["other", "early", "late"]
    assert [run.id for run in of_queue] == ["early", "late"]
    assert [run.id for run in first] == [run.id for run in before] == ["other"]
