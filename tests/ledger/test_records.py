"""Records are put in once per id, and a repeated request learns the true state."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, delete

from ledger.writing import NOW, completion, insert_raw, new_record, start
from taurine.ledger.audit import actions_on
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database
from taurine.ledger.records import Inserted, get_record, get_records, insert_records
from taurine.ledger.schema import job
from taurine.ledger.starts import apply_starts


async def test_a_record_reads_back_as_it_was_written(database: Database) -> None:
    """SEED-014, SEED-022, SEED-024: job id, tenant and the rest are there before anything is queued."""
    wanted = new_record(
        tenant="acme",
        priority=4,
        metadata='{"trace":"x"}',
        created_by="ann",
        source="api",
        scheduled_for=NOW + 5_000,
        expires_at=NOW + 9_000,
        tags=("red", "blue"),
    )
    assert await database.write(lambda connection: insert_records(connection, [wanted])) == [Inserted(None)]
    record = await database.read(lambda connection: get_record(connection, "a"))
    assert record is not None
    assert (record.id, record.type, record.queue, record.tenant) == ("a", "mail.send", "mail", "acme")
    assert (record.status, record.phase, record.generation, record.attempts) == ("queued", "queued", 0, 0)
    assert (record.payload, record.payload_json, record.metadata) == ({"to": "ann"}, '{"to":"ann"}', {"trace": "x"})
    assert (record.output, record.error, record.progress, record.state) == (None, None, None, None)
    assert (record.priority, record.max_attempts, record.created_by, record.source) == (4, 3, "ann", "api")
    assert record.created_at == record.updated_at == datetime.fromtimestamp(NOW / 1000, UTC)
    assert record.scheduled_for == datetime.fromtimestamp(NOW / 1000 + 5, UTC)
    assert record.dispatched_at is None
    assert record.finished_at is None


async def test_text_of_any_language_and_exact_numbers_survive(database: Database) -> None:
    payload = '{"name":"Łódź 東京 🐂","big":123456789012345678901234567890,"small":1e-320}'
    await database.write(lambda connection: insert_records(connection, [new_record(payload=payload)]))
    record = await database.read(lambda connection: get_record(connection, "a"))
    assert record is not None
    assert record.payload_json == payload
    assert record.payload["big"] == 123456789012345678901234567890


async def test_an_id_that_is_taken_gives_the_record_that_is_there(database: Database) -> None:
    """SEED-016, SEED-017, SEED-227: the second call learns the present record and its present status, and changes
    nothing.
    """
    await database.write(lambda connection: insert_records(connection, [new_record()]))
    await database.write(lambda connection: apply_starts(connection, [start()]))
    other = new_record(payload='{"to":"bob"}', created_at=NOW + 99)
    (answer,) = await database.write(lambda connection: insert_records(connection, [other]))
    assert answer.existing is not None
    assert (answer.existing.status, answer.existing.payload) == ("running", {"to": "ann"})
    await database.write(lambda connection: apply_completions(connection, [completion()]))
    (answer,) = await database.write(lambda connection: insert_records(connection, [other]))
    assert answer.existing is not None
    assert (answer.existing.status, answer.existing.output) == ("completed", {"sent": True})


async def test_of_two_with_one_id_in_one_call_the_first_counts(database: Database) -> None:
    both = [new_record("a"), new_record("b"), new_record("a", payload='{"to":"bob"}')]
    first, other, repeated = await database.write(lambda connection: insert_records(connection, both))
    assert (first.existing, other.existing) == (None, None)
    assert repeated.existing is not None
    assert repeated.existing.payload == {"to": "ann"}


async def test_calls_at_once_from_two_programs_make_one_record(database: Database, other_database: Database) -> None:
    """SEED-016: exactly one of twenty calls puts it in; the others learn of it."""
    for turn in range(5):
        answers = await asyncio.gather(
            *(
                side.write(lambda connection, turn=turn: insert_records(connection, [new_record(f"job-{turn}")]))
                for side in (database, other_database) * 10
            )
        )
        assert sum(answer.existing is None for (answer,) in answers) == 1


async def test_a_failed_transaction_leaves_no_record(database: Database) -> None:
    """SEED-014: no record, no job; with the tags and the audit row in the same transaction."""

    def fail(connection: Any) -> None:
        insert_records(connection, [new_record(tags=("red",), created_by="ann")])
        raise LookupError("the business rows were not there")

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.read(lambda connection: get_record(connection, "a")) is None
    assert await database.read(lambda connection: actions_on(connection, "a")) == []


async def test_who_asked_is_in_the_audit(database: Database) -> None:
    """SEED-233."""
    await database.write(
        lambda connection: insert_records(connection, [new_record(created_by="ann", tenant="acme"), new_record("b")])
    )
    (entry,) = await database.read(lambda connection: actions_on(connection, "a"))
    assert (entry.actor, entry.action, entry.tenant, entry.at) == ("ann", "enqueue", "acme", NOW)
    assert await database.read(lambda connection: actions_on(connection, "b")) == []


async def test_many_records_go_in_and_come_out_together(database: Database) -> None:
    """More than one statement's variables."""
    ids = [f"job-{number}" for number in range(1_700)]
    answers = await database.write(
        lambda connection: insert_records(connection, [new_record(id_, fresh=True) for id_ in ids])
    )
    assert answers == [Inserted(None)] * len(ids)
    found = await database.read(lambda connection: get_records(connection, [*ids, "none"]))
    assert found.keys() == set(ids)


async def test_a_record_that_is_not_there_is_none(database: Database) -> None:
    await database.write(insert_raw)
    assert await database.read(lambda connection: get_record(connection, "b")) is None
    assert await database.read(lambda connection: get_records(connection, [])) == {}


async def test_an_id_that_is_purged_just_then_is_free(postgres_ledger: Database) -> None:
    """The old record was in the way of the new one, and was gone when it was to be read: the answer must not be that
    the new one was put in unless it was.
    """
    await postgres_ledger.write(lambda connection: insert_raw(connection, id="a", payload='"old"'))

    class Purging:
        """A connection on which the records go after the first statement, as another transaction would let them."""

        def __init__(self, connection: Connection) -> None:
            self._connection = connection
            self.dialect = connection.dialect
            self._begun = False

        def execute(self, *given: Any) -> Any:
            done = self._connection.execute(*given)
            if not self._begun:
                self._begun = True
                self._connection.execute(delete(job).where(job.c.id == "a"))
            return done

    wanted = [new_record("b"), new_record("a", payload='"new"')]
    answers = await postgres_ledger.write(lambda connection: insert_records(Purging(connection), wanted))  # type: ignore[arg-type]
    assert answers == [Inserted(None), Inserted(None)]
    found = await postgres_ledger.read(lambda connection: get_records(connection, ["a", "b"]))
    assert {record.id: record.payload for record in found.values()} == {"a": "new", "b": {"to": "ann"}}
