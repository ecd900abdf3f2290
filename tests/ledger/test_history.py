"""What has happened to one job is read in pages, however much it is: its attempts and the actions on it."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from support.ledger import NOW, complete, put_in, record_at, start
from taurine.errors import InvalidOption
from taurine.ledger.attempts import latest_attempts, list_attempts
from taurine.ledger.audit import ActionFilter, AuditEntry, actions_on, list_actions, record_actions
from taurine.ledger.database import Database
from taurine.ledger.fences import fence_of
from taurine.ledger.schema import attempt


async def attempted(database: Database, *fences: int) -> None:
    """Attempts of the job `j` that did not complete it."""
    rows = [
        {"job_id": "j", "fence": fence, "number": number, "outcome": "retried", "finished_at": NOW}
        for number, fence in enumerate(fences, 1)
    ]
    await database.write(lambda connection: connection.execute(insert(attempt), rows) and None)


async def pages(database: Database, *, limit: int, newest_first: bool) -> list[list[int]]:
    """The numbers of the attempts of the job `j`, by page."""
    record, found, cursor = await record_at(database, "j"), list[list[int]](), None
    while True:
        page, cursor = await database.read(
            lambda connection, cursor=cursor: list_attempts(
                connection, record, cursor=cursor, limit=limit, newest_first=newest_first
            )
        )
        found.append([one.number for one in page])
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("ended", [False, True])
async def test_attempts_are_gone_through_once_in_either_order(database: Database, limit: int, ended: bool) -> None:
    """The one that runs, or has completed the job, is told by the record, and is on its page as any other."""
    await put_in(database, "j", max_attempts=9)
    await attempted(database, 1, 2, 3)
    await (complete if ended else start)(database, "j", 4)
    latest = 1 if ended else 5  # as these helpers count

    oldest_first = await pages(database, limit=limit, newest_first=False)
    newest_first = await pages(database, limit=limit, newest_first=True)

    in_order = [1, 2, 3, latest]
    assert [number for page in oldest_first for number in page] == in_order
    assert [number for page in newest_first for number in page] == in_order[::-1]
    assert {len(page) for page in (*oldest_first[:-1], *newest_first[:-1])} <= {limit}
    assert len(oldest_first) == len(newest_first) == -(-4 // limit)


async def test_the_latest_attempts_up_to_a_generation(database: Database) -> None:
    """What came after it does not push out what a dead letter is judged by."""
    await put_in(database, "j")
    await attempted(database, 1, 2, 3, fence_of(1, 1), fence_of(1, 2))
    record = await record_at(database, "j")

    first = await database.read(lambda connection: latest_attempts(connection, record, generation=0, limit=2))
    second = await database.read(lambda connection: latest_attempts(connection, record, generation=1, limit=9))

    assert [one.number for one in first] == [2, 3]
    assert [one.number for one in second] == [1, 2, 3, 4, 5]


async def test_actions_on_a_job_come_in_pages(database: Database) -> None:
    entries = [AuditEntry(NOW, f"u{number}", "retry", "j", "acme") for number in range(5)]
    others = [AuditEntry(NOW, "eve", "retry", "k", "acme"), AuditEntry(NOW, "eve", "retry", "j", "globex")]
    await database.write(lambda connection: record_actions(connection, [*entries[:2], *others, *entries[2:]]))
    wanted = ActionFilter(job_id="j", tenant="acme")

    first, cursor = await database.read(
        lambda connection: list_actions(connection, wanted, cursor=None, limit=3, newest_first=False)
    )
    rest, last = await database.read(
        lambda connection: list_actions(connection, wanted, cursor=cursor, limit=3, newest_first=False)
    )
    newest = await database.read(lambda connection: actions_on(connection, "j", limit=4))

    assert [one.actor for one in first] == ["u0", "u1", "u2"]
    assert ([one.actor for one in rest], last) == (["u3", "u4"], None)
    assert [one.actor for one in newest] == ["eve", "u2", "u3", "u4"]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "9" * 30, "1.5", "٣"])
async def test_a_cursor_that_no_page_gave_is_refused(database: Database, cursor: str) -> None:
    await put_in(database, "j")
    record = await record_at(database, "j")
    with pytest.raises(InvalidOption, match="cursor of an earlier page"):
        await database.read(
            lambda connection: list_attempts(connection, record, cursor=cursor, limit=1, newest_first=False)
        )
