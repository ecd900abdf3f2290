"""Accepting requests: one job per id and per idempotency key, re-runs on demand, and quotas (P5, SEED-016, 017, 019,
227 to 229, 252; CON-14 to 16).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Update, delete, insert, select, text

from support.ledger import NOW, complete, fail, new_record, open_transaction, put_in, record_at, somebody_waits, start
from taurine.errors import IdempotencyConflict, QuotaExceeded, RecordError
from taurine.ledger.audit import actions_on
from taurine.ledger.database import Database
from taurine.ledger.fences import fence_of
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.idempotency import IdempotencyKey
from taurine.ledger.outbox import take_undispatched
from taurine.ledger.records import Inserted, NewRecord, get_records
from taurine.ledger.requests import accept_records
from taurine.ledger.schema import idempotency, job, job_tag, quota


def _key(key: str = "k", *, scope: str = "", request_hash: str = "h", life: int = 1000) -> IdempotencyKey:
    return IdempotencyKey(scope=scope, key=key, request_hash=request_hash, expires_at=NOW + life)


async def _accept(database: Database, *records: NewRecord) -> list[Inserted | RecordError]:
    return await database.write(lambda connection: accept_records(connection, records))


def _existing_id(answer: Inserted | RecordError) -> str | None:
    assert isinstance(answer, Inserted)
    return None if answer.existing is None else answer.existing.id


async def _purge(database: Database, job_id: str) -> None:
    await database.write(lambda connection: connection.execute(delete(job).where(job.c.id == job_id)))


async def _set_quota(database: Database, tenant: str, most: int, job_type: str = "") -> None:
    row = {"tenant": tenant, "type": job_type, "max_open": most}
    await database.write(lambda connection: connection.execute(insert(quota), row))


async def _ids(database: Database) -> set[str]:
    return await database.read(lambda connection: set(connection.execute(select(job.c.id)).scalars()))


# Ids --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", ["invite-email:42", "payment:7", "evt_1PqX"])
async def test_a_stable_id_gives_one_job_and_its_true_status(database: Database, job_id: str) -> None:
    """SEED-016, 017, 067, 078, 129, 227, 228; CON-14: the second request gets the present record, whatever became of
    it.
    """
    assert await _accept(database, new_record(job_id)) == [Inserted(None)]

    [running] = await _accept(database, new_record(job_id, payload='{"to":"b"}'))
    await start(database, job_id)
    [started] = await _accept(database, new_record(job_id))
    await complete(database, job_id)
    [ended] = await _accept(database, new_record(job_id))

    answers = [running, started, ended]
    statuses = [answer.existing.status for answer in answers if isinstance(answer, Inserted) and answer.existing]
    assert statuses == ["queued", "running", "completed"]
    assert (await record_at(database, job_id)).payload == {"to": "a"}


async def test_two_processes_that_accept_the_same_ids_make_one_job_each(
    database: Database, other_database: Database
) -> None:
    """SEED-016: at the same time, in opposite orders; nobody waits for the other for ever."""
    names = [f"job:{number}" for number in range(50)]

    async def accept(view: Database, ids: Sequence[str]) -> list[Inserted | RecordError]:
        return await _accept(view, *(new_record(job_id) for job_id in ids))

    for round_ in range(5):
        ids = [f"{round_}:{name}" for name in names]
        one, other = await asyncio.gather(accept(database, ids), accept(other_database, ids[::-1]))
        put_in_by_one = {job_id for job_id, answer in zip(ids, one, strict=True) if answer == Inserted(None)}
        put_in_by_other = {job_id for job_id, answer in zip(ids[::-1], other, strict=True) if answer == Inserted(None)}

        assert put_in_by_one | put_in_by_other == set(ids)
        assert not put_in_by_one & put_in_by_other


async def test_one_id_twice_in_one_batch_is_one_job(database: Database) -> None:
    first, second = await _accept(database, new_record("j"), new_record("j", payload='{"to":"b"}'))

    assert (_existing_id(first), _existing_id(second)) == (None, "j")
    assert (await record_at(database, "j")).payload == {"to": "a"}


# Running again ----------------------------------------------------------------------------------------------------------------


async def test_a_re_run_of_a_finished_job_is_a_new_generation_with_the_new_request(database: Database) -> None:
    """SEED-229, 252: the force of a new run is explicit, has a number, and both runs are linked by the audit."""
    await put_in(database, "j", expires_at=NOW + 3, tags=("old", "both"))
    await complete(database, "j")

    [answer] = await _accept(
        database,
        new_record(
            "j",
            payload='{"to":"b"}',
            created_at=NOW + 100,
            created_by="ann",
            max_attempts=7,
            priority=4,
            options={"tags": ["both", "new"]},
            tags=("both", "new"),
            on_taken="rerun",
        ),
    )

    assert isinstance(answer, Inserted)
    assert answer.rerun
    record = await record_at(database, "j")
    assert answer.existing == record
    assert (record.status, record.generation, record.fence) == ("queued", 1, fence_of(1, 0))
    assert (record.attempts, record.max_attempts, record.priority) == (0, 7, 4)
    assert (record.payload, record.output, record.tags) == ({"to": "b"}, None, ["both", "new"])
    assert (record.finished_at, record.started_at, record.expires_at) == (None, None, None)
    assert [found.id for found in await database.read(lambda c: take_undispatched(c, ["mail"], 9, NOW + 100))] == ["j"]
    tags = await database.read(lambda c: set(c.execute(select(job_tag.c.tag).where(job_tag.c.job_id == "j")).scalars()))
    assert tags == {"both", "new"}
    [entry] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (entry.action, entry.actor, entry.detail) == ("rerun", "ann", '{"generation": 1}')


async def test_a_re_run_of_an_open_job_is_a_duplicate(database: Database) -> None:
    await put_in(database, "j")

    [answer] = await _accept(database, new_record("j", on_taken="rerun"))

    assert isinstance(answer, Inserted)
    assert not answer.rerun
    assert (await record_at(database, "j")).generation == 0


async def test_two_re_runs_at_once_start_one_generation(database: Database, other_database: Database) -> None:
    await put_in(database, "j")
    await complete(database, "j")
    again = new_record("j", on_taken="rerun")

    answers = await asyncio.gather(_accept(database, again, again), _accept(other_database, again))

    flat = [answer for batch in answers for answer in batch]
    assert sum(isinstance(answer, Inserted) and answer.rerun for answer in flat) == 1
    assert {_existing_id(answer) for answer in flat} == {"j"}
    assert (await record_at(database, "j")).generation == 1


# Idempotency keys -------------------------------------------------------------------------------------------------------------


async def test_a_repeated_key_gives_the_job_that_took_it(database: Database) -> None:
    """SEED-065, 067: also when the repeat would have made another id."""
    await _accept(database, new_record("first", idempotency=_key()))

    [answer] = await _accept(database, new_record("second", idempotency=_key()))
    [other_tenant] = await _accept(database, new_record("third", idempotency=_key(scope="acme")))

    assert _existing_id(answer) == "first"
    assert _existing_id(other_tenant) is None
    assert await _ids(database) == {"first", "third"}


async def test_a_key_of_another_request_is_refused_for_that_one_only(database: Database) -> None:
    await _accept(database, new_record("first", idempotency=_key()))

    conflict, fine = await _accept(
        database, new_record("second", idempotency=_key(request_hash="other")), new_record("third")
    )

    assert isinstance(conflict, IdempotencyConflict)
    assert conflict.job_id == "first"
    assert "'k'" in str(conflict)
    assert fine == Inserted(None)
    assert await _ids(database) == {"first", "third"}


async def test_a_key_protects_after_the_record_is_purged(database: Database) -> None:
    """CON-16: the key has a life of its own."""
    await _accept(database, new_record("j", idempotency=_key()))
    await complete(database, "j")
    await _purge(database, "j")

    [answer] = await _accept(database, new_record("j", idempotency=_key()))

    assert answer == Inserted(None, purged="j")
    assert await _ids(database) == set()


async def test_an_expired_key_is_taken_over(database: Database) -> None:
    await _accept(database, new_record("first", idempotency=_key(life=10)))

    [early] = await _accept(database, new_record("second", created_at=NOW + 9, idempotency=_key(life=500)))
    [late] = await _accept(
        database, new_record("third", created_at=NOW + 10, idempotency=_key(request_hash="new", life=500))
    )
    [repeat] = await _accept(
        database, new_record("fourth", created_at=NOW + 11, idempotency=_key(request_hash="new", life=500))
    )

    assert [_existing_id(answer) for answer in (early, late, repeat)] == ["first", None, "third"]
    assert await _ids(database) == {"first", "third"}


async def test_a_repeat_does_not_run_a_finished_job_again(database: Database) -> None:
    """The answer to a re-run was lost and its client repeats it: one run, not two."""
    await put_in(database, "j")
    await complete(database, "j")
    again = new_record("j", idempotency=_key(), on_taken="rerun")
    await _accept(database, again)
    await complete(database, "j", fence=fence_of(1, 1))

    [repeat] = await _accept(database, again)

    assert isinstance(repeat, Inserted)
    assert not repeat.rerun
    assert repeat.existing is not None
    assert (repeat.existing.status, repeat.existing.generation) == ("completed", 1)


async def test_keys_within_one_batch(database: Database) -> None:
    answers = await _accept(
        database,
        new_record("a", idempotency=_key()),
        new_record("b", idempotency=_key()),
        new_record("c", idempotency=_key(request_hash="other")),
        new_record("a"),
    )

    assert [type(answer) for answer in answers] == [Inserted, Inserted, IdempotencyConflict, Inserted]
    assert _existing_id(answers[1]) == "a"
    assert _existing_id(answers[3]) == "a"
    assert await _ids(database) == {"a"}


async def test_two_processes_with_the_same_keys_make_one_job_for_each(
    database: Database, other_database: Database
) -> None:
    """SEED-016, 035: racing requests of one key, whose ids differ; in opposite orders."""

    async def accept(view: Database, name: str, keys: Sequence[str]) -> list[Inserted | RecordError]:
        return await _accept(view, *(new_record(f"{name}:{key}", idempotency=_key(key)) for key in keys))

    for round_ in range(5):
        keys = [f"{round_}:{number}" for number in range(40)]
        one, other = await asyncio.gather(accept(database, "one", keys), accept(other_database, "other", keys[::-1]))

        for key, mine, theirs in zip(keys, one, other[::-1], strict=True):
            assert {_existing_id(mine), _existing_id(theirs)} in ({None, f"one:{key}"}, {None, f"other:{key}"})
    assert len(await _ids(database)) == 5 * 40


async def test_two_batches_with_the_same_keys_or_ids_cannot_wait_for_each_other(
    postgres_ledger: Database, postgres_ledger_url: str
) -> None:
    """Each takes them in one order: while it waits for the first, it holds none of the later ones."""
    keys = [new_record(name, idempotency=_key(name)) for name in ("key-b", "key-a")]
    key = text(
        "INSERT INTO taurine_idempotency (scope, key, job_id, request_hash, created_at, expires_at) "
        f"VALUES ('', :name, 'theirs', 'h', {NOW}, {NOW + 9})"
    )
    ids = [new_record(name) for name in ("id-b", "id-a")]
    id_ = text(
        "INSERT INTO taurine_job (id, type, queue, status, max_attempts, payload, created_at, updated_at) "
        f"VALUES (:name, 'mail.send', 'mail', 'queued', 1, '1', {NOW}, {NOW})"
    )
    for insert_one, first, second, batch in ((key, "key-a", "key-b", keys), (id_, "id-a", "id-b", ids)):
        async with open_transaction(postgres_ledger_url) as other:
            await other.execute(insert_one, {"name": first})
            accepting = asyncio.create_task(_accept(postgres_ledger, *batch))
            await somebody_waits(postgres_ledger_url)
            await other.execute(insert_one, {"name": second})  # a deadlock, if the batch held it

        assert Inserted(None) not in await accepting


async def test_a_conflict_reaches_its_own_caller_and_the_neighbours_stand(database: Database) -> None:
    group = GroupCommit(database)
    await _accept(database, new_record("first", idempotency=_key()))

    answers = await asyncio.gather(
        group.submit(accept_records, new_record("a")),
        group.submit(accept_records, new_record("b", idempotency=_key(request_hash="other"))),
        group.submit(accept_records, new_record("c")),
        return_exceptions=True,
    )
    await group.close()

    assert [type(answer) for answer in answers] == [Inserted, IdempotencyConflict, Inserted]
    assert await _ids(database) == {"first", "a", "c"}


# Quotas -----------------------------------------------------------------------------------------------------------------------


async def test_a_request_over_its_quota_is_refused_and_stores_nothing(database: Database) -> None:
    """SEED-019: over quota, no job; and the key is free for a later try."""
    await _set_quota(database, "acme", 2)
    one, two, over, free = await _accept(
        database,
        new_record("a", tenant="acme"),
        new_record("b", tenant="acme"),
        new_record("c", tenant="acme", idempotency=_key()),
        new_record("d", tenant="other"),
    )

    assert one == two == free == Inserted(None)
    assert isinstance(over, QuotaExceeded)
    assert over.retryable
    assert (over.job_id, over.tenant, over.max_open, over.job_type) == ("c", "acme", 2, None)
    assert await _ids(database) == {"a", "b", "d"}
    assert await database.read(lambda connection: connection.execute(select(idempotency)).all()) == []

    await complete(database, "a")
    assert await _accept(database, new_record("c", tenant="acme", idempotency=_key())) == [Inserted(None)]


async def test_a_quota_of_a_type_and_one_of_the_tenant_both_hold(database: Database) -> None:
    await _set_quota(database, "acme", 3)
    await _set_quota(database, "acme", 1, "mail.send")

    answers = await _accept(
        database,
        new_record("a", tenant="acme"),
        new_record("b", tenant="acme"),
        *(new_record(f"s{number}", tenant="acme", type="sms.send") for number in range(3)),
    )

    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert [(error.job_id, error.max_open, error.job_type) for error in refused] == [
        ("b", 1, "mail.send"),
        ("s2", 3, None),
    ]


async def test_a_duplicate_needs_no_room_and_a_re_run_does(database: Database) -> None:
    await _set_quota(database, "acme", 2)
    await put_in(database, "open", "ended", tenant="acme")
    await complete(database, "ended")
    await put_in(database, "second", tenant="acme")

    duplicate, again, ended = await _accept(
        database,
        new_record("open", tenant="acme", on_taken="rerun"),
        new_record("ended", tenant="acme", on_taken="rerun"),
        new_record("ended", tenant="acme"),
    )

    assert _existing_id(duplicate) == "open"
    assert isinstance(again, QuotaExceeded)
    assert _existing_id(ended) == "ended"
    assert (await record_at(database, "ended")).generation == 0


async def test_two_requests_of_one_key_over_quota_are_both_told_so(database: Database) -> None:
    await _set_quota(database, "acme", 0)

    answers = await _accept(
        database,
        new_record("a", tenant="acme", idempotency=_key(scope="acme")),
        new_record("b", tenant="acme", idempotency=_key(scope="acme")),
    )

    assert [type(answer) for answer in answers] == [QuotaExceeded, QuotaExceeded]
    assert await _ids(database) == set()


async def test_processes_at_once_do_not_pass_a_quota(database: Database, other_database: Database) -> None:
    """SEED-019: the last place is taken once."""
    await _set_quota(database, "acme", 5)

    async def accept(view: Database, name: str) -> list[Inserted | RecordError]:
        answers: list[Inserted | RecordError] = []
        for number in range(5):
            answers += await _accept(view, new_record(f"{name}{number}", tenant="acme"))
        return answers

    answers = await asyncio.gather(accept(database, "a"), accept(other_database, "b"))

    refused = [answer for batch in answers for answer in batch if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 5
    assert len(await _ids(database)) == 5


async def test_many_requests_at_once(database: Database) -> None:
    """More than one statement may hold variables for."""
    await _set_quota(database, "acme", 1500)
    records = [new_record(f"j{n}", tenant="acme", idempotency=_key(f"k{n}", scope="acme")) for n in range(1200)]

    assert await _accept(database, *records) == [Inserted(None)] * 1200
    repeated = await _accept(database, *records)

    assert [_existing_id(answer) for answer in repeated] == [record.id for record in records]
    assert len(await database.read(lambda c: get_records(c, [record.id for record in records]))) == 1200


async def test_a_failed_job_runs_again_and_keeps_its_history(database: Database) -> None:
    await put_in(database, "j")
    await fail(database, "j")

    [answer] = await _accept(database, new_record("j", on_taken="rerun"))

    assert isinstance(answer, Inserted)
    assert answer.rerun
    assert (await record_at(database, "j")).error is None


async def test_a_record_that_is_purged_before_it_runs_again_is_made_anew(postgres_ledger: Database) -> None:
    """Without a record nothing would run, whatever the answer says."""
    await put_in(postgres_ledger, "j")
    await complete(postgres_ledger, "j")

    class Purging:
        """A connection on which the records go between the look at them and the new generation, as another transaction
        would let them.
        """

        def __init__(self, connection: Connection) -> None:
            self._connection = connection
            self.dialect = connection.dialect

        def execute(self, statement: Any, *given: Any) -> Any:
            if isinstance(statement, Update):
                self._connection.execute(delete(job))
            return self._connection.execute(statement, *given)

    wanted = new_record("j", payload='"new"', on_taken="rerun")
    answers = await postgres_ledger.write(lambda connection: accept_records(Purging(connection), [wanted]))  # type: ignore[arg-type]

    assert answers == [Inserted(None)]
    assert (await record_at(postgres_ledger, "j")).payload == "new"
