"""How databases find rows: those of a batch by their ids, whatever PostgreSQL's statistics say of a ledger at rest, and
those that a quota counts by an index of them alone.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from sqlalchemy import Connection, text

from support.ledger import NOW
from taurine.ledger.completions import _complete
from taurine.ledger.database import Database
from taurine.ledger.outbox import _stamp
from taurine.ledger.progress import _save_over
from taurine.ledger.quotas import Quota, _count_open
from taurine.ledger.rows import OverRows, is_postgresql

_FINISHED = text(
    """
    INSERT INTO taurine_job (id, type, queue, status, max_attempts, payload, created_at, updated_at, dispatched_at, finished_at)
    SELECT 'old' || number, 'mail.send', 'mail', 'completed', 3, '{}', :now, :now, :now, :now FROM generate_series(1, 20000) number
    """
)

BATCHES: dict[str, tuple[OverRows, tuple[object, ...]]] = {
    "complete": (_complete, (1, 1, "null", "w", NOW, NOW, None)),
    "save": (_save_over, (1, "{}", None, NOW)),
    "stamp": (_stamp, (0, NOW)),
}


@pytest.mark.parametrize("name", BATCHES)
async def test_a_batch_is_found_by_its_ids_when_nothing_was_open(postgres_ledger: Database, name: str) -> None:
    """The index of unfinished jobs looks empty then, and in the next burst would be read whole for each row."""
    statement, values = BATCHES[name]

    def plan(connection: Connection) -> str:
        connection.execute(_FINISHED, {"now": NOW})
        connection.execute(text("ANALYZE taurine_job"))
        compiled = cast("Any", statement._over_arrays).compile(dialect=connection.dialect)
        given = dict(zip(statement._names, ([value] * 30 for value in ("new", *values)), strict=True))
        words = str(compiled)
        numbered = tuple(given.get(key, compiled.params.get(key)) for key in compiled.positiontup or ())
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {words}", numbered))

    found = await postgres_ledger.write(plan)
    assert "taurine_job_unfinished" not in found, found
    assert "taurine_job_undispatched" not in found, found
    assert "taurine_job_pkey" in found, found


# Of one tenant: mostly jobs that have ended; of others: many that are open.
_OF_TENANTS = text(
    """
    INSERT INTO taurine_job (id, type, queue, tenant, status, max_attempts, payload, created_at, updated_at, finished_at)
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 20000)
    SELECT 'j' || number, 'type-' || (number % 3), 'mail', CASE WHEN number % 4 = 0 THEN 'other' ELSE 'acme' END,
        CASE WHEN number % 4 = 0 OR number < 40 THEN 'queued' ELSE 'completed' END, 3, '{}', :now, :now,
        CASE WHEN number % 4 = 0 OR number < 40 THEN NULL ELSE CAST(:now AS BIGINT) END
    FROM numbers
    """
)


@pytest.mark.parametrize("quota", [Quota("acme", 1000), Quota("acme", 1000, "type-1")], ids=["all types", "one type"])
@pytest.mark.parametrize("analysed", [True, False])
async def test_a_quota_walks_the_open_jobs_of_its_tenant_alone(
    database: Database, quota: Quota, analysed: bool
) -> None:
    """SEED-019: with each enqueue, inside the transaction that others wait for."""

    def plan(connection: Connection) -> str:
        connection.execute(_OF_TENANTS, {"now": NOW})
        if analysed:
            connection.execute(text("ANALYZE"))
        words = str(_count_open(quota).compile(connection, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN" if is_postgresql(connection) else "EXPLAIN QUERY PLAN"
        return "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {words}"))

    found = await database.write(plan)
    assert "taurine_job_open_by_tenant" in found, found
    # One look-up of the tenant, and not a walk over all that is open.
    assert "tenant=?" in found or "Cond: (tenant = " in found or "Cond: ((tenant = " in found, found
