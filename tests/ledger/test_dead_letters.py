"""Dead letters: what they hold, finding them, redriving and discarding (SEED-135 to 138, 177, 179, 194, 198, 217, 259
to 261).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from support.ledger import NOW, complete, fail, new_record, open_transaction, put_in, record_at, somebody_waits, start
from taurine.errors import InvalidOption, RecordError, RecordNotFound, TransitionRefused
from taurine.ledger.audit import actions_on
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.database import Database
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.dead_letters import (
    DeadLetterFilter,
    DeadLetterPage,
    Discard,
    Redrive,
    depth,
    discard,
    get_dead_letter,
    list_dead_letters,
    mark_mirrored,
    redrive,
    take_unmirrored,
)
from taurine.ledger.fences import fence_of
from taurine.ledger.listing import RecordFilter, list_records
from taurine.ledger.outbox import take_undispatched
from taurine.ledger.records import JobRecord
from taurine.ledger.requests import accept_records
from taurine.ledger.schema import attempt, job

OPEN = DeadLetterFilter()
ALL = DeadLetterFilter(status=None)


async def _page(
    database: Database, wanted: DeadLetterFilter = OPEN, cursor: str | None = None, limit: int = 50
) -> DeadLetterPage:
    return await database.read(lambda connection: list_dead_letters(connection, wanted, cursor=cursor, limit=limit))


async def _entries(database: Database, wanted: DeadLetterFilter = OPEN) -> list[DeadLetter]:
    return (await _page(database, wanted)).entries


async def _entry_of(database: Database, job_id: str) -> DeadLetter:
    [entry] = await _entries(database, DeadLetterFilter(status=None, job_id=job_id))
    return entry


async def _redrive(database: Database, *items: Redrive) -> list[JobRecord | RecordError]:
    return await database.write(lambda connection: redrive(connection, items))


async def _discard(database: Database, *items: Discard) -> list[DeadLetter | RecordError]:
    return await database.write(lambda connection: discard(connection, items))


async def _purge(database: Database, job_id: str) -> None:
    await database.write(lambda connection: connection.execute(delete(job).where(job.c.id == job_id)))


# What an entry holds ------------------------------------------------------------------------------------------------------------


async def test_an_entry_has_what_is_needed_to_judge_it(database: Database) -> None:
    """SEED-135, 136, 138, 198, 261: job, queue, payload, error, time, and the attempts as the record counts them; the
    job is failed, never completed.
    """
    await put_in(database, "j", tenant="acme", queue="mail", max_attempts=5)
    await fail(database, "j", attempts=5, fence=5)

    entry = await _entry_of(database, "j")

    assert (entry.job_id, entry.generation, entry.type, entry.queue, entry.tenant) == (
        "j",
        0,
        "mail.send",
        "mail",
        "acme",
    )
    assert (entry.reason, entry.attempts, entry.status) == ("exhausted", 5, "open")
    assert (entry.payload, entry.error["message"], entry.error_fingerprint) == ({"to": "a"}, "no", "f1")
    assert entry.failed_at.timestamp() * 1000 == NOW + 5
    assert (entry.resolved_at, entry.resolved_by, entry.redriven_as, entry.mirrored_at) == (None, None, None, None)
    assert (await record_at(database, "j")).status == "failed"
    assert await database.read(lambda connection: get_dead_letter(connection, entry.id)) == entry
    assert await database.read(lambda connection: get_dead_letter(connection, "missing")) is None


async def test_a_job_fails_for_good_once(database: Database) -> None:
    """SEED-137, 259, 260: whoever says so again, and however the last attempt ended, there is one entry."""
    await put_in(database, "stalled")

    assert await fail(database, "stalled", dead_letter="crashed", worker=None) is None
    assert await fail(database, "stalled", dead_letter="crashed", worker=None) is None
    assert await fail(database, "stalled", fence=2, at=NOW + 9) == "failed"

    [entry] = await _entries(database)
    assert entry.reason == "crashed"


# Finding ------------------------------------------------------------------------------------------------------------------------


async def test_pages_go_from_the_latest_back_and_miss_nothing(database: Database) -> None:
    """SEED-217: also when entries come and go between two pages, and when several failed in one millisecond."""
    for number in range(12):
        await put_in(database, f"j{number:02}")
        await fail(database, f"j{number:02}", at=NOW + number // 3)
    everything = await _entries(database)
    assert [entry.failed_at for entry in everything] == sorted((e.failed_at for e in everything), reverse=True)

    seen: list[str] = []
    page = await _page(database, limit=5)
    await put_in(database, "new")
    await fail(database, "new", at=NOW + 100)
    while True:
        seen += [entry.id for entry in page.entries]
        if page.next_cursor is None:
            break
        page = await _page(database, cursor=page.next_cursor, limit=5)

    assert seen == [entry.id for entry in everything]


async def test_entries_are_found_by_what_they_have_in_common(database: Database) -> None:
    """SEED-194: a queue's own dead letters among the others'."""
    await put_in(database, "a", queue="mail", tenant="acme")
    await put_in(database, "b", queue="sms", type="sms.send")
    await put_in(database, "c", queue="mail")
    for job_id, fingerprint in (("a", "f1"), ("b", "f2"), ("c", "f2")):
        await fail(database, job_id, error_fingerprint=fingerprint)
    await _discard(database, Discard((await _entry_of(database, "c")).id, NOW + 9))

    async def found(wanted: DeadLetterFilter) -> set[str]:
        return {entry.job_id for entry in await _entries(database, wanted)}

    assert await found(OPEN) == {"a", "b"}
    assert await found(ALL) == {"a", "b", "c"}
    assert await found(DeadLetterFilter(status="discarded")) == {"c"}
    assert await found(DeadLetterFilter(status=None, queue="mail")) == {"a", "c"}
    assert await found(DeadLetterFilter(type="sms.send")) == {"b"}
    assert await found(DeadLetterFilter(tenant="acme")) == {"a"}
    assert await found(DeadLetterFilter(status=None, error_fingerprint="f2")) == {"b", "c"}
    assert await database.read(depth) == {"mail": 1, "sms": 1}


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.2", "1." + "g" * 32, "9" * 30 + "." + "a" * 32, "'; DROP TABLE", "-1." + "a" * 32]
)
async def test_a_cursor_that_no_page_gave_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidOption, match="cursor"):
        await _page(database, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 501])
async def test_a_page_has_one_to_500_entries(database: Database, limit: int) -> None:
    with pytest.raises(InvalidOption, match="limit"):
        await _page(database, limit=limit)


# Redriving ----------------------------------------------------------------------------------------------------------------------


async def test_a_redrive_runs_the_job_again_and_says_so(database: Database) -> None:
    """SEED-217: entry, record and audit in one."""
    await put_in(database, "j")
    await fail(database, "j")
    entry = await _entry_of(database, "j")

    [record] = await _redrive(database, Redrive(entry.id, NOW + 50, "ann"))

    assert isinstance(record, JobRecord)
    assert record == await record_at(database, "j")
    assert (record.status, record.generation, record.attempts, record.max_attempts) == ("queued", 1, 0, 3)
    assert [found.id for found in await database.read(lambda c: take_undispatched(c, ["mail"], 9, NOW))] == ["j"]
    resolved = await _entry_of(database, "j")
    assert (resolved.status, resolved.resolved_by, resolved.redriven_as) == ("redriven", "ann", "j#1")
    [action] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (action.action, action.actor) == ("redrive", "ann")
    assert entry.id in (action.detail or "")
    assert await complete(database, "j", fence=fence_of(1, 1)) is None


async def test_a_redrive_may_change_the_payload_and_the_attempts(database: Database) -> None:
    """SEED-217: edited; the entry keeps what failed."""
    await put_in(database, "j")
    await fail(database, "j")
    item = Redrive((await _entry_of(database, "j")).id, NOW + 50, "ann", '{"to":"b"}', 9, NOW + 60_000)

    [record] = await _redrive(database, item)

    assert isinstance(record, JobRecord)
    assert (record.payload, record.max_attempts) == ({"to": "b"}, 9)
    assert record.scheduled_for is not None
    assert (await _entry_of(database, "j")).payload == {"to": "a"}


async def test_a_job_whose_record_is_gone_is_made_again_from_its_entry(database: Database) -> None:
    await put_in(database, "j", tenant="acme")
    await fail(database, "j", attempts=4)
    await _purge(database, "j")
    entry = await _entry_of(database, "j")

    [record] = await _redrive(database, Redrive(entry.id, NOW + 50, "ann"))

    assert isinstance(record, JobRecord)
    assert record == await record_at(database, "j")
    assert (record.generation, record.fence, record.status) == (1, fence_of(1, 0), "queued")
    assert (record.payload, record.tenant, record.type, record.max_attempts) == ({"to": "a"}, "acme", "mail.send", 3)
    assert (await _entry_of(database, "j")).redriven_as == "j#1"
    assert await fail(database, "j", fence=fence_of(1, 1), at=NOW + 99) is None
    assert {found.generation for found in await _entries(database, ALL)} == {0, 1}


async def test_a_job_without_a_record_is_as_it_was_given(database: Database) -> None:
    """SEED-217: whatever a re-run would have found in the record is in the entry; what was asked of its start is over."""
    given: dict[str, Any] = {
        "tags": ("vip", "eu"),
        "options": {"tags": ["vip", "eu"], "retry": {"n": 7, "fixed": 1.0, "jitter": 0.0}},
        "metadata": '{"cart":7}',
        "priority": 4,
        "max_attempts": 7,
        "created_by": "bob",
        "trace": "00-1-2-01",
    }
    await put_in(database, "j", scheduled_for=NOW + 1, expires_at=NOW + 2, **given)
    await fail(database, "j", attempts=1)
    before = await record_at(database, "j")
    await _purge(database, "j")
    entry = await _entry_of(database, "j")
    assert (entry.tags, entry.metadata, entry.options) == (["vip", "eu"], {"cart": 7}, given["options"])

    [record] = await _redrive(database, Redrive(entry.id, NOW + 50, "ann"))

    assert isinstance(record, JobRecord)
    kept = ("tags", "options", "metadata", "priority", "max_attempts", "created_by", "trace", "payload", "tenant")
    assert {name: getattr(record, name) for name in kept} == {name: getattr(before, name) for name in kept}
    assert (record.scheduled_for, record.expires_at) == (None, None)
    found = await database.read(lambda connection: list_records(connection, RecordFilter(tag="vip")))
    assert [one.id for one in found.records] == ["j"]
    actions = await database.read(lambda connection: actions_on(connection, "j"))
    assert sorted((action.action, action.actor) for action in actions) == [("enqueue", "bob"), ("redrive", "ann")]


async def test_each_of_many_is_answered_by_itself(database: Database) -> None:
    """SEED-217: one that cannot be redriven does not keep the others."""
    await put_in(database, "a", "b", "c")
    for job_id in ("a", "b", "c"):
        await fail(database, job_id)
    entries = {job_id: (await _entry_of(database, job_id)).id for job_id in ("a", "b", "c")}
    await _discard(database, Discard(entries["b"], NOW + 9, "bob"))

    answers = await _redrive(
        database,
        *(Redrive(entry, NOW + 50) for entry in (entries["c"], entries["b"], "missing", entries["a"], entries["a"])),
    )

    kinds = [JobRecord, TransitionRefused, RecordNotFound, JobRecord, TransitionRefused]
    assert [type(answer) for answer in answers] == kinds
    assert str(answers[1]) == "the dead letter of job 'b' was discarded by bob already"


async def test_an_entry_of_an_earlier_generation(database: Database) -> None:
    """Its job was run again by its id meanwhile, with another payload: the entry is dealt with, and cannot be redriven
    on top.
    """
    await put_in(database, "j")
    await fail(database, "j")
    first = await _entry_of(database, "j")
    again = new_record("j", payload='{"to":"b"}', on_taken="rerun", created_by="ann")
    await database.write(lambda connection: accept_records(connection, [again]))

    [answer] = await _redrive(database, Redrive(first.id, NOW + 50))

    assert isinstance(answer, TransitionRefused)
    assert (await _entry_of(database, "j")).redriven_as == "j#1"
    assert await database.read(depth) == {}


async def test_an_id_that_was_used_again(database: Database) -> None:
    """The record is gone, and another job has the id: one that completed is not run again for it, one that failed runs
    with the entry's payload.
    """
    for job_id in ("done", "cancelled"):
        await put_in(database, job_id)
        await fail(database, job_id)
        await _purge(database, job_id)
        await put_in(database, job_id, payload='{"to":"b"}')
    await complete(database, "done")
    await database.write(lambda connection: request_cancel(connection, "cancelled", NOW + 9, "stop"))
    entries = [await _entry_of(database, job_id) for job_id in ("done", "cancelled")]

    done, cancelled = await _redrive(database, *(Redrive(entry.id, NOW + 50) for entry in entries))

    assert isinstance(done, TransitionRefused)
    assert "discard" in str(done)
    assert isinstance(cancelled, JobRecord)
    assert (cancelled.payload, cancelled.generation) == ({"to": "a"}, 1)


async def test_an_entry_is_dealt_with_once(postgres_ledger: Database, postgres_ledger_url: str) -> None:
    """Who comes second waits for the first, and is told what it did."""
    await put_in(postgres_ledger, "j")
    await fail(postgres_ledger, "j")
    entry = await _entry_of(postgres_ledger, "j")
    for second in (
        lambda: _discard(postgres_ledger, Discard(entry.id, NOW + 9, "bob")),
        lambda: _redrive(postgres_ledger, Redrive(entry.id, NOW + 9, "bob")),
    ):
        async with open_transaction(postgres_ledger_url) as first:
            resolved = f"UPDATE taurine_dead_letter SET status = 'discarded', resolved_at = {NOW}, resolved_by = 'ann'"
            await first.execute(text(resolved))
            waiting = asyncio.create_task(second())
            await somebody_waits(postgres_ledger_url)
        [answer] = await waiting

        assert isinstance(answer, TransitionRefused)
        assert "by ann" in str(answer)
        async with open_transaction(postgres_ledger_url) as first:
            reopened = "UPDATE taurine_dead_letter SET status = 'open', resolved_at = NULL, resolved_by = NULL"
            await first.execute(text(reopened))


async def test_two_redrives_of_one_entry_start_one_generation(database: Database, other_database: Database) -> None:
    ids = [f"j{number}" for number in range(10)]
    await put_in(database, *ids)
    for job_id in ids:
        await fail(database, job_id)
    for job_id in ids[::2]:
        await _purge(database, job_id)
    items = [Redrive(entry.id, NOW + 50) for entry in await _entries(database)]

    one, other = await asyncio.gather(_redrive(database, *items), _redrive(other_database, *items[::-1]))

    records = [answer for answer in (*one, *other) if isinstance(answer, JobRecord)]
    assert sorted(record.id for record in records) == ids
    assert {(await record_at(database, job_id)).generation for job_id in ids} == {1}


async def test_a_redrive_and_a_re_run_at_once_start_one_generation(
    database: Database, other_database: Database
) -> None:
    """Both touch the job and its entry: neither waits for the other for ever."""
    for number in range(8):
        job_id = f"j{number}"
        await put_in(database, job_id)
        await fail(database, job_id)
        entry = await _entry_of(database, job_id)
        again = new_record(job_id, on_taken="rerun")
        await asyncio.gather(
            _redrive(database, Redrive(entry.id, NOW + 50)),
            other_database.write(lambda connection, again=again: accept_records(connection, [again])),
        )
        assert (await record_at(database, job_id)).generation == 1
        assert (await _entry_of(database, job_id)).redriven_as == f"{job_id}#1"


async def test_a_redriven_job_may_fail_again(database: Database) -> None:
    """SEED-177: each generation has its own entry and its own attempts."""
    await put_in(database, "j")
    await fail(database, "j")
    await _redrive(database, Redrive((await _entry_of(database, "j")).id, NOW + 50))
    await start(database, "j", fence=fence_of(1, 1))
    await fail(database, "j", fence=fence_of(1, 1), at=NOW + 70)

    entries = await _entries(database, ALL)

    assert [(entry.generation, entry.status) for entry in entries] == [(1, "open"), (0, "redriven")]
    fences = await database.read(lambda c: c.execute(select(attempt.c.fence).order_by(attempt.c.fence)).scalars().all())
    assert fences == [1, fence_of(1, 1)]


# Putting aside and mirroring ----------------------------------------------------------------------------------------------------


async def test_a_discarded_entry_leaves_its_job_failed(database: Database) -> None:
    await put_in(database, "j", tenant="acme")
    await fail(database, "j")
    entry = await _entry_of(database, "j")

    first, second, missing = await _discard(
        database, Discard(entry.id, NOW + 9, "ann"), Discard(entry.id, NOW + 10, "bob"), Discard("missing", NOW)
    )

    assert isinstance(first, DeadLetter)
    assert (first.status, first.resolved_by, first.redriven_as) == ("discarded", "ann", None)
    assert isinstance(second, TransitionRefused)
    assert isinstance(missing, RecordNotFound)
    assert (await record_at(database, "j")).status == "failed"
    [action] = await database.read(lambda connection: actions_on(connection, "j"))
    assert (action.action, action.actor, action.tenant) == ("discard", "ann", "acme")


async def test_depth_counts_what_nobody_has_dealt_with(database: Database) -> None:
    """SEED-179: what an alert goes by."""
    assert await database.read(depth) == {}
    await put_in(database, "a", "b")
    await put_in(database, "c", queue="sms")
    for job_id in ("a", "b", "c"):
        await fail(database, job_id)

    assert await database.read(depth) == {"mail": 2, "sms": 1}


async def test_entries_are_mirrored_once(database: Database) -> None:
    """SEED-194."""
    await put_in(database, "a", "b")
    await put_in(database, "c", queue="sms")
    for number, job_id in enumerate(("a", "b", "c")):
        await fail(database, job_id, at=NOW + number)

    async def unmirrored(*queues: str) -> list[str]:
        return [entry.job_id for entry in await database.read(lambda c: take_unmirrored(c, queues, 10))]

    assert await unmirrored("mail") == ["a", "b"]
    entry = await _entry_of(database, "a")
    await database.write(lambda connection: mark_mirrored(connection, [entry.id], NOW + 9))
    await database.write(lambda connection: mark_mirrored(connection, [entry.id], NOW + 99))

    assert await unmirrored("mail", "sms") == ["b", "c"]
    mirrored_at = (await _entry_of(database, "a")).mirrored_at
    assert mirrored_at is not None
    assert mirrored_at.timestamp() * 1000 == NOW + 9


async def test_an_id_that_fails_again_after_its_record_was_purged_gets_its_entry(database: Database) -> None:
    """SEED-137: entries are kept for longer than records, and the new life of the id begins at generation 0 again."""
    await put_in(database, "a")
    await fail(database, "a")
    entry = await _entry_of(database, "a")
    await _discard(database, Discard(entry.id, NOW + 100))
    await database.write(lambda connection: connection.execute(delete(job).where(job.c.id == "a")))
    await put_in(database, "a", payload='{"second":true}')
    await fail(database, "a")

    again = await _entry_of(database, "a")
    assert (again.status, again.payload_json) == ("open", '{"second":true}')
