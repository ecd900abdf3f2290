"""Concurrent writes share transactions, and one that is bad fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, event, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from ledger.writing import completion, insert_raw, new_record
from support.eventually import eventually
from taurine.errors import LedgerUnavailable, SchemaMismatch
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database, Work
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.records import insert_records
from taurine.ledger.schema import job


class Watched:
    """A database that counts its transactions, and can be held up or made to fail."""

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self._database = database
        self.writes = 0
        self.at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []

    async def write(self, work: Work[Any]) -> Any:
        self.writes += 1
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return await self._database.write(work)

    async def write_at_once(self, work: Work[Any]) -> Any:
        self.at_once += 1
        return await self._database.write_at_once(work)

    async def read(self, work: Work[Any]) -> Any:
        return await self._database.read(work)

    async def close(self) -> None:
        await self._database.close()

    def abandon(self) -> None:
        self._database.abandon()


@pytest.fixture
def watched(database: Database) -> Watched:
    return Watched(database)


@pytest.fixture
def group(watched: Watched) -> GroupCommit:
    return GroupCommit(watched)


def put(connection: Connection, items: Sequence[str]) -> list[str]:
    """Put in a job for each id; an empty id is refused by the database."""
    for id_ in items:
        insert_raw(connection, id=id_, max_attempts=0 if id_.startswith("bad") else 3)
    return [f"put {id_}" for id_ in items]


async def _ids(database: Any) -> list[str]:
    return await database.read(lambda connection: list(connection.scalars(select(job.c.id).order_by(job.c.id))))


async def test_a_lone_write_waits_for_nobody(group: GroupCommit, watched: Watched) -> None:
    assert await group.submit(put, "a") == "put a"
    assert watched.writes == 1
    assert await _ids(watched) == ["a"]


async def test_a_thousand_concurrent_writes_share_a_few_commits(
    group: GroupCommit, watched: Watched, figure: Callable[[str], None]
) -> None:
    commits = 0

    def count(_: Connection) -> None:
        nonlocal commits
        commits += 1

    event.listen(Engine, "commit", count)
    try:
        records = [new_record(f"job-{number}") for number in range(1_000)]
        answers = await asyncio.gather(*(group.submit(insert_records, record) for record in records))
        assert all(answer.existing is None for answer in answers)
        done = [completion(record.id) for record in records]
        assert await asyncio.gather(*(group.submit(apply_completions, item) for item in done)) == [None] * 1_000
    finally:
        event.remove(Engine, "commit", count)
    kind = watched.url.get_backend_name()
    figure(f"{kind}: 1,000 records and 1,000 completions in {commits} commits")
    assert 2 <= commits <= 10
    assert commits == watched.writes


async def test_what_comes_during_a_commit_goes_with_the_next(group: GroupCommit, watched: Watched) -> None:
    watched.gate.clear()
    first = asyncio.create_task(group.submit(put, "a"))
    await eventually(lambda: watched.writes == 1)
    others = [asyncio.create_task(group.submit(put, f"b-{number}")) for number in range(50)]
    await asyncio.sleep(0)
    watched.gate.set()
    await asyncio.gather(first, *others)
    assert watched.writes == 2


async def test_items_keep_their_order_and_more_than_a_batch_is_split(group: GroupCommit, watched: Watched) -> None:
    seen: list[int] = []

    def note(_: Connection, items: Sequence[int]) -> list[int]:
        seen.extend(items)
        return [item * 2 for item in items]

    answers = await asyncio.gather(*(group.submit(note, number) for number in range(4_500)))
    assert seen == list(range(4_500))
    assert answers == [number * 2 for number in range(4_500)]
    assert watched.writes == 3


async def test_a_bad_item_fails_alone(group: GroupCommit, watched: Watched) -> None:
    """The others are written, each once, and the bad ones cost a few commits rather than one for each of all."""
    ids = [f"job-{number:03}" for number in range(200)]
    wanted = [*ids[:70], "bad-1", *ids[70:71], "bad-2", *ids[71:]]
    answers = await asyncio.gather(*(group.submit(put, id_) for id_ in wanted), return_exceptions=True)
    for id_, answer in zip(wanted, answers, strict=True):
        if id_.startswith("bad"):
            assert isinstance(answer, IntegrityError)
        else:
            assert answer == f"put {id_}"
    assert await _ids(watched) == ids
    assert watched.writes < 40


async def test_an_item_that_no_driver_takes_fails_alone(group: GroupCommit, watched: Watched) -> None:
    """Not every refusal comes from the database: half a pair of UTF-16 never reaches it."""
    answers = await asyncio.gather(
        *(group.submit(put, id_) for id_ in ("a", "half-\ud800", "b")), return_exceptions=True
    )
    assert (answers[0], answers[2]) == ("put a", "put b")
    assert isinstance(answers[1], Exception)
    assert await _ids(watched) == ["a", "b"]


async def test_kinds_that_meet_share_a_transaction_and_a_bad_one_does_not_spoil_the_other(
    group: GroupCommit, watched: Watched
) -> None:
    await group.submit(put, "a")
    answers = await asyncio.gather(
        group.submit(apply_completions, completion()),
        group.submit(put, "bad"),
        group.submit(put, "b"),
        return_exceptions=True,
    )
    assert answers[0] is None
    assert isinstance(answers[1], IntegrityError)
    assert answers[2] == "put b"


async def test_an_answer_that_is_an_error_is_raised_for_its_caller_only(group: GroupCommit, watched: Watched) -> None:
    def judge(_: Connection, items: Sequence[str]) -> list[str | Exception]:
        return [LookupError(item) if item == "no" else item for item in items]

    answers = await asyncio.gather(*(group.submit(judge, word) for word in ("yes", "no")), return_exceptions=True)
    assert answers[0] == "yes"
    assert isinstance(answers[1], LookupError)
    assert watched.writes == 1


@pytest.mark.parametrize("error", [LedgerUnavailable("gone"), SchemaMismatch("old")])
async def test_an_outage_is_told_to_all_at_once(group: GroupCommit, watched: Watched, error: Exception) -> None:
    """Trying each alone would only make them wait in turn."""
    watched.errors.append(error)
    answers = await asyncio.gather(*(group.submit(put, f"job-{n}") for n in range(20)), return_exceptions=True)
    assert answers == [error] * 20
    assert watched.writes == 1
    assert await group.submit(put, "a") == "put a"  # and the next one works


async def test_a_cancelled_caller_does_not_take_its_write_back(group: GroupCommit, watched: Watched) -> None:
    watched.gate.clear()
    given_up = asyncio.create_task(group.submit(put, "a"))
    stays = asyncio.create_task(group.submit(put, "b"))
    await eventually(lambda: watched.writes == 1)
    given_up.cancel()
    watched.gate.set()
    assert await stays == "put b"
    assert given_up.cancelled()
    assert await _ids(watched) == ["a", "b"]


async def test_close_waits_for_what_was_submitted_and_posted(group: GroupCommit, watched: Watched) -> None:
    waiting = asyncio.create_task(group.submit(put, "a"))
    group.post(put, "b")
    group.post(put, "bad")
    await asyncio.sleep(0)
    await group.close()
    assert await waiting == "put a"
    assert await _ids(watched) == ["a", "b"]


async def test_a_kind_that_writes_at_once_has_a_transaction_only_in_company(watched: Watched) -> None:
    """Alone its one statement commits by itself; beside another kind both are in one transaction, as everything is."""
    group = GroupCommit(watched, at_once=(apply_completions,))
    records = [new_record(f"job-{number}") for number in range(20)]
    await asyncio.gather(*(group.submit(insert_records, record) for record in records))
    assert (watched.writes, watched.at_once) == (1, 0)
    await asyncio.gather(*(group.submit(apply_completions, completion(record.id)) for record in records[:10]))
    assert (watched.writes, watched.at_once) == (1, 1)
    completed = [group.submit(apply_completions, completion(record.id)) for record in records[10:]]
    assert await asyncio.gather(*completed, group.submit(put, "other")) == [None] * 10 + ["put other"]
    assert (watched.writes, watched.at_once) == (2, 1)
    ended = await watched.read(
        lambda connection: list(connection.scalars(select(job.c.id).where(job.c.status == "completed")))
    )
    assert sorted(ended) == sorted(record.id for record in records)


async def test_a_completion_that_is_written_twice_is_granted_twice(watched: Watched) -> None:
    """What may be written at once may be written again, when the answer to the first time was lost."""
    group = GroupCommit(watched, at_once=(apply_completions,))
    await group.submit(insert_records, new_record("job"))
    assert await group.submit(apply_completions, completion("job")) is None
    assert await group.submit(apply_completions, completion("job")) is None


async def test_who_fails_at_hearing_of_its_write_keeps_nobody_from_hearing(
    group: GroupCommit, watched: Watched
) -> None:
    def deaf(_: Any) -> None:
        raise RuntimeError("no")

    for fails in (False, True):
        watched.errors = [LedgerUnavailable("away")] if fails else []
        other = asyncio.get_running_loop().create_future()
        group.hand_in(put, f"a{fails}", deaf)
        group.hand_in(put, f"b{fails}", other.set_result)  # in the same transaction
        async with asyncio.timeout(10):
            answer = await other
        assert isinstance(answer, LedgerUnavailable) if fails else answer == f"put b{fails}"
    assert await group.submit(put, "c") == "put c"
