"""How PostgreSQL finds the rows of a batch: by their ids, whatever its statistics say of a ledger at rest."""

from __future__ import annotations

from typing import Any, cast

import pytest
from sqlalchemy import Connection, text

from support.ledger import NOW
from taurine.ledger.database import Database
from taurine.ledger.outbox import _stamp
from taurine.ledger.outcomes import _complete
from taurine.ledger.progress import _save_over
from taurine.ledger.rows import OverRows

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
