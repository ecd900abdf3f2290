"""The lines of a job: in order, the newest of them, and only from who holds it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.writing import FIRST, NOW, completion, new_record, start
from taurine.errors import InvalidOption
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database
from taurine.ledger.fences import fence_of
from taurine.ledger.job_logs import LONGEST_LINE, JobLines, LogLine, NumberedLine, append_lines, read_lines
from taurine.ledger.records import insert_records
from taurine.ledger.starts import apply_starts


@pytest.fixture
async def jobs(database: Database) -> Database:
    """Two queued jobs, `a` and `b`."""
    await database.write(lambda connection: insert_records(connection, [new_record("a"), new_record("b")]))
    return database


def _lines(id_: str, *messages: str, fence: int = FIRST, **given: Any) -> JobLines:
    return JobLines(id=id_, fence=fence, lines=tuple(LogLine(NOW, "info", message) for message in messages), **given)


async def _messages(database: Database, id_: str = "a", **options: Any) -> list[str]:
    lines = await database.read(lambda connection: read_lines(connection, id_, **options))
    return [line.message for line in lines]


async def test_lines_are_numbered_from_1_in_their_order(jobs: Database) -> None:
    batch = [_lines("a", "one", "two"), _lines("b", "other"), _lines("a", "three"), _lines("b")]
    assert await jobs.write(lambda connection: append_lines(connection, batch)) == [True] * 4
    assert await jobs.write(lambda connection: append_lines(connection, [_lines("a", "four")])) == [True]
    lines = await jobs.read(lambda connection: read_lines(connection, "a"))
    assert lines == [
        NumberedLine(number, NOW, "info", message)
        for number, message in enumerate(["one", "two", "three", "four"], start=1)
    ]
    assert await _messages(jobs, "b") == ["other"]


async def test_pages_of_lines_go_on_where_the_last_ended(jobs: Database) -> None:
    words = [f"line {number}" for number in range(1, 26)]
    await jobs.write(lambda connection: append_lines(connection, [_lines("a", *words)]))
    assert await _messages(jobs, limit=10) == words[:10]
    assert await _messages(jobs, limit=10, after=20) == words[20:]
    assert await _messages(jobs, limit=10, after=25) == []
    assert await _messages(jobs, limit=3, newest_first=True) == words[:-4:-1]
    assert await _messages(jobs, limit=3, newest_first=True, after=3) == words[1::-1]
    for limit in (0, 1001):
        with pytest.raises(InvalidOption):
            await _messages(jobs, limit=limit)


async def test_the_newest_lines_stay_and_keep_their_numbers(jobs: Database) -> None:
    for number in range(4):
        batch = [_lines("a", *(f"{number}.{line}" for line in range(4)), keep=10), _lines("b", f"b{number}", keep=10)]
        await jobs.write(lambda connection, batch=batch: append_lines(connection, batch))
    lines = await jobs.read(lambda connection: read_lines(connection, "a"))
    assert [line.number for line in lines] == list(range(7, 17))
    assert lines[-1].message == "3.3"
    assert len(await _messages(jobs, "b")) == 4


async def test_a_worker_that_lost_the_job_cannot_write_to_its_log(jobs: Database) -> None:
    """P4. Lines of an attempt that ended are taken, since they may come with its end; those of an earlier one are not."""
    second = fence_of(0, 2)
    await jobs.write(lambda connection: apply_starts(connection, [start(fence=second)]))
    batch = [_lines("a", "late"), _lines("a", "mine", fence=second), _lines("none", "of no job")]
    assert await jobs.write(lambda connection: append_lines(connection, batch)) == [False, True, False]
    await jobs.write(lambda connection: apply_completions(connection, [completion(fence=second)]))
    batch = [_lines("a", "late"), _lines("a", "last", fence=second)]
    assert await jobs.write(lambda connection: append_lines(connection, batch)) == [False, True]
    assert await _messages(jobs) == ["mine", "last"]


async def test_programs_that_write_at_once_give_each_line_its_number(jobs: Database, other_database: Database) -> None:
    await asyncio.gather(
        *(
            side.write(
                lambda connection, number=number: append_lines(connection, [_lines("a", f"{number}"), _lines("b", "x")])
            )
            for number, side in enumerate((jobs, other_database) * 15)
        )
    )
    lines = await jobs.read(lambda connection: read_lines(connection, "a"))
    assert [line.number for line in lines] == list(range(1, 31))
    assert {line.message for line in lines} == {str(number) for number in range(30)}


async def test_fields_stay_apart_from_the_text(jobs: Database) -> None:
    """What is too long to be kept whole is a part of the text, and cut with it."""
    long = '{"body": "' + "x" * LONGEST_LINE + '"}'
    lines = (LogLine(NOW, "info", "sent", '{"to": "a\\u0000b", "n": 5}'), LogLine(NOW, "info", "got", long))
    await jobs.write(lambda connection: append_lines(connection, [JobLines(id="a", fence=FIRST, lines=lines)]))
    sent, got = await jobs.read(lambda connection: read_lines(connection, "a"))
    assert sent == NumberedLine(1, NOW, "info", "sent", {"to": "a\0b", "n": 5})
    assert (got.message, got.fields) == (f"got {long}"[:LONGEST_LINE], None)


async def test_no_text_makes_a_line_fail(jobs: Database) -> None:
    words = ["a\0b", "half \ud800", "x" * (LONGEST_LINE + 5), "", "東京 🐂"]
    assert await jobs.write(lambda connection: append_lines(connection, [_lines("a", *words)])) == [True]
    assert await _messages(jobs) == ["a\ufffdb", "half ?", "x" * LONGEST_LINE, "", "東京 🐂"]
