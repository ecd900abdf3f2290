"""What workers learn from the audit: on which jobs somebody has acted."""

from __future__ import annotations

from sqlalchemy import text

from support.ledger import NOW
from taurine.ledger.audit import AuditEntry, jobs_acted_on, record_actions
from taurine.ledger.database import Database


async def _act(database: Database, *job_ids: str, action: str = "cancel") -> None:
    entries = [AuditEntry(NOW, "ann", action, job_id) for job_id in job_ids]
    await database.write(lambda connection: record_actions(connection, entries))


async def _acted_on(database: Database, after: int | None, limit: int = 100) -> tuple[int, list[str]]:
    return await database.read(lambda connection: jobs_acted_on(connection, after, limit))


async def test_each_look_reads_what_is_new(database: Database) -> None:
    assert await _acted_on(database, None) == (0, [])
    await _act(database, "a", "b")
    await _act(database, "c", action="enqueue")

    latest, ids = await _acted_on(database, None)

    assert ids == ["a", "b"]
    await _act(database, "d")
    assert (await _acted_on(database, latest))[1] == ["d"]
    assert (await _acted_on(database, None, limit=1))[1] == ["d"]


async def test_numbers_that_begin_again_after_a_purge_are_read(database: Database) -> None:
    await _act(database, "a", "b", "c")
    latest, _ = await _acted_on(database, None)
    await database.write(lambda connection: connection.execute(text("delete from taurine_audit")) and None)

    await _act(database, "d")

    assert (await _acted_on(database, latest))[1] == ["d"]
