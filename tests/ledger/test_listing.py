"""Pages by keyset: each record once, in order, whatever comes and goes; and each filter walks an index."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from ledger.writing import NOW, new_record
from taurine.errors import InvalidOption
from taurine.ledger import listing, page_room
from taurine.ledger.database import Database, open_database
from taurine.ledger.listing import Count, RecordFilter, count_by_status, list_records
from taurine.ledger.records import insert_records
from taurine.ledger.schema import job, job_tag
from taurine.ledger.selecting import Chosen, RecordSelection, choose
from taurine.ledger.statuses import OPEN, STATUSES, TERMINAL, phase_of

TOTAL = 240


def _row(number: int) -> dict[str, Any]:
    """A job of every status, tenant, type and queue in turn; several share a millisecond."""
    status = STATUSES[number % 8]
    error = '{"type":"E"}' if status in ("failed", "retrying") else None
    return {
        "id": f"job-{number * 7919 % TOTAL:03}",
        "type": f"type.{number % 3}",
        "queue": f"queue-{number % 2}",
        "tenant": (None, "acme", "beta")[number % 3],
        "status": status,
        "max_attempts": 3,
        "payload": "{}",
        "error": error,
        "error_fingerprint": f"f{number % 2}" if error else None,
        "created_by": ("ann", "bob")[number % 2],
        "created_at": NOW + number // 5,
        "updated_at": NOW + number // 5,
        "finished_at": NOW + number // 5 if status in TERMINAL else None,
    }


ROWS = [_row(number) for number in range(TOTAL)]
TAGGED = [row for number, row in enumerate(ROWS) if number % 4 == 0]


async def test_a_page_of_large_payloads_ends_early_and_leaves_none_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A38: and more rows than are read at once."""
    monkeypatch.setattr(page_room, "MOST_TEXT", 1000)
    sizes = [10, 500, 2000, 10, 10, 900, *[1] * 150]
    records = [
        new_record(f"large-{n:03}", payload=json.dumps("x" * size), created_at=NOW + n) for n, size in enumerate(sizes)
    ]
    await database.write(lambda connection: insert_records(connection, records))
    pages: list[list[str]] = []
    cursor = None
    while not pages or cursor is not None:
        page = await database.read(
            lambda connection, cursor=cursor: list_records(
                connection, RecordFilter(), cursor=cursor, limit=100, newest_first=False
            )
        )
        pages.append([record.id for record in page.records])
        cursor = page.next_cursor
    assert [len(ids) for ids in pages[:3]] == [2, 1, 27]
    assert [id_ for ids in pages for id_ in ids] == [record.id for record in records]


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        connection.execute(insert(job), ROWS)
        tags = [{"job_id": row["id"], "tag": "red", "created_at": row["created_at"]} for row in TAGGED]
        connection.execute(insert(job_tag), tags + [tag | {"tag": "blue"} for tag in tags[::2]])

    await database.write(fill)
    return database


def _wanted(**conditions: Any) -> list[str]:
    rows = [row for row in ROWS if all(row[name] == value for name, value in conditions.items())]
    return [row["id"] for row in sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)]


async def _pages(database: Database, wanted: RecordFilter, limit: int, **options: Any) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await database.read(
            lambda connection, cursor=cursor: list_records(connection, wanted, cursor=cursor, limit=limit, **options)
        )
        ids += [record.id for record in page.records]
        cursor = page.next_cursor
        assert len(page.records) == limit or cursor is None
        if cursor is None:
            return ids


@pytest.mark.parametrize("limit", [7, 60, 240])
async def test_pages_hold_every_record_once_in_order(filled: Database, limit: int) -> None:
    assert await _pages(filled, RecordFilter(), limit) == _wanted()
    assert await _pages(filled, RecordFilter(), limit, newest_first=False) == _wanted()[::-1]


@pytest.mark.parametrize(
    "conditions",
    [
        *({"status": status} for status in STATUSES),
        {"type": "type.1"},
        {"queue": "queue-1"},
        {"tenant": "acme"},
        {"created_by": "bob"},
        {"error_fingerprint": "f1"},
        {"tenant": "beta", "status": "failed"},
        {"tenant": "beta", "type": "type.2", "queue": "queue-0", "status": "completed"},
        {"tenant": "nobody"},
    ],
    ids=str,
)
async def test_each_filter_lets_through_what_it_says(filled: Database, conditions: dict[str, Any]) -> None:
    assert await _pages(filled, RecordFilter(**conditions), 11) == _wanted(**conditions)


@pytest.mark.parametrize("phase", ["queued", "running", "completed", "failed"])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_phase_is_all_its_statuses_in_one_order(filled: Database, phase: Any, newest_first: bool) -> None:
    wanted = [id_ for id_ in _wanted() if phase_of(next(row["status"] for row in ROWS if row["id"] == id_)) == phase]
    ids = await _pages(filled, RecordFilter(phase=phase), 13, newest_first=newest_first)
    assert ids == (wanted if newest_first else wanted[::-1])


async def test_a_tag_alone_and_with_others(filled: Database) -> None:
    tagged = {row["id"] for row in TAGGED}
    assert await _pages(filled, RecordFilter(tag="red"), 9) == [id_ for id_ in _wanted() if id_ in tagged]
    both = [id_ for id_ in _wanted(tenant="acme") if id_ in tagged]
    assert await _pages(filled, RecordFilter(tag="red", tenant="acme"), 9) == both
    assert await _pages(filled, RecordFilter(tag="green"), 9) == []


async def test_since_is_included_and_until_is_not(filled: Database) -> None:
    times = RecordFilter(since=NOW + 10, until=NOW + 20)
    within = {row["id"] for row in ROWS if NOW + 10 <= row["created_at"] < NOW + 20}
    assert await _pages(filled, times, 7) == [id_ for id_ in _wanted() if id_ in within]
    tagged = within & {row["id"] for row in TAGGED}
    with_tag = RecordFilter(since=NOW + 10, until=NOW + 20, tag="red")
    assert await _pages(filled, with_tag, 7) == [id_ for id_ in _wanted() if id_ in tagged]


async def test_records_that_come_and_go_between_pages_move_nothing(filled: Database) -> None:
    """An offset would show one twice or leave one out."""
    first = await filled.read(lambda connection: list_records(connection, RecordFilter(), limit=20))
    await filled.write(
        lambda connection: insert_records(connection, [new_record(f"new-{n}", created_at=NOW + 999) for n in range(9)])
    )
    gone = [record.id for record in first.records[:10]]
    await filled.write(lambda connection: connection.execute(job.delete().where(job.c.id.in_(gone))))
    second = await filled.read(
        lambda connection: list_records(connection, RecordFilter(), limit=20, cursor=first.next_cursor)
    )
    assert [record.id for record in (*first.records, *second.records)] == _wanted()[:40]


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "a page",
        "ÿ",
        "=" * 50,
        "A" * 100_000,
        _encoded([1]),
        _encoded([1, "a", 2]),
        _encoded(["1", "a"]),
        _encoded([True, "a"]),
        _encoded([1.5, "a"]),
        _encoded([2**63, "a"]),
        _encoded([-(2**70), "a"]),
        _encoded([1, ""]),
        _encoded([1, "a\0"]),
        _encoded([1, "\ud800"]),
        _encoded([1, "a" * 5_000]),
        _encoded({"created_at": 1}),
        _encoded(None),
        base64.urlsafe_b64encode(b"[" * 50_000).decode(),
    ],
    ids=lambda cursor: repr(cursor)[:30],
)
async def test_a_cursor_that_no_page_gave_is_refused(filled: Database, cursor: str) -> None:
    with pytest.raises(InvalidOption, match="expected the cursor of an earlier page"):
        await filled.read(lambda connection: list_records(connection, RecordFilter(), cursor=cursor))


async def test_options_out_of_range_are_refused(filled: Database) -> None:
    for limit in (0, -1, 501):
        with pytest.raises(InvalidOption, match="limit"):
            await filled.read(lambda connection, limit=limit: list_records(connection, RecordFilter(), limit=limit))
    for wanted in (
        RecordFilter(status="done"),  # type: ignore[arg-type]
        RecordFilter(phase="done"),  # type: ignore[arg-type]
        RecordFilter(status="failed", phase="failed"),
    ):
        with pytest.raises(InvalidOption):
            await filled.read(lambda connection, wanted=wanted: list_records(connection, wanted))


# Indexes --------------------------------------------------------------------------------------------------------------------

PLANS: dict[str, tuple[RecordFilter, str]] = {
    "status": (RecordFilter(status="failed"), "taurine_job_unfinished"),
    "an open status": (RecordFilter(status="waiting"), "taurine_job_unfinished"),
    "completed": (RecordFilter(status="completed"), "taurine_job_created"),
    "nothing": (RecordFilter(), "taurine_job_created"),
    "tenant": (RecordFilter(tenant="tenant-7"), "taurine_job_by_tenant"),
    "type": (RecordFilter(type="type.7"), "taurine_job_by_type"),
    "tag": (RecordFilter(tag="tag-7"), "taurine_job_tag_by_tag"),
    "error": (RecordFilter(error_fingerprint="f7"), "taurine_job_by_error"),
}


@pytest.fixture
async def large(database: Database) -> Database:
    """Enough records, of which a filter finds few, for a planner to choose."""
    chance = random.Random(4)

    def fill(connection: Connection) -> None:
        rows = []
        for number in range(20_000):
            status = "completed" if number % 10 else ("failed", "waiting", "queued")[number % 3]
            rows.append(
                {
                    "id": f"{number:06}{chance.getrandbits(32):08x}",
                    "type": f"type.{number % 50}",
                    "queue": f"queue-{number % 20}",
                    "tenant": f"tenant-{number % 50}",
                    "status": status,
                    "max_attempts": 3,
                    "payload": "{}",
                    "error": '{"type":"E"}' if status == "failed" else None,
                    "error_fingerprint": f"f{number % 50}" if status == "failed" else None,
                    "created_at": NOW + number,
                    "updated_at": NOW + number,
                    "finished_at": NOW + number if status in TERMINAL else None,
                }
            )
        connection.execute(insert(job), rows)
        connection.execute(
            insert(job_tag),
            [
                {"job_id": row["id"], "tag": f"tag-{n % 50}", "created_at": row["created_at"]}
                for n, row in enumerate(rows)
            ],
        )
        connection.execute(text("ANALYZE"))

    await database.write(fill)
    return database


async def test_each_filter_walks_its_index_in_the_pages_order(large: Database) -> None:
    """EXPLAIN on both databases, for the first page and for one in the middle: no scan of the table, and nothing is
    sorted.
    """
    for name, (wanted, index) in PLANS.items():
        for after in (None, listing.Position(NOW + 10_000, "x")):
            for newest_first in (True, False):
                plan = await large.read(
                    lambda connection, wanted=wanted, after=after, newest_first=newest_first: _plan(
                        connection, wanted, after, newest_first
                    )
                )
                assert index in plan, f"{name}: {plan}"
                assert "Seq Scan" not in plan, f"{name}: {plan}"
                assert "Sort" not in plan, f"{name}: {plan}"
                assert "TEMP B-TREE" not in plan, f"{name}: {plan}"


def _plan(connection: Connection, wanted: RecordFilter, after: Any, newest_first: bool) -> str:
    status = (wanted.statuses() or (None,))[0]
    query = listing.query_of(connection, wanted, status, after, newest_first=newest_first).limit(51)
    if connection.dialect.name == "postgresql":
        # It plans with the values that it is given.
        words = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        return "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"EXPLAIN {words}"))
    # SQLite plans before it knows them.
    compiled = query.compile(connection, compile_kwargs={"render_postcompile": True})
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    return "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values))


# Counts ---------------------------------------------------------------------------------------------------------------------


async def test_counts_are_exact_where_few_records_are(filled: Database) -> None:
    counts = await filled.read(count_by_status)
    assert counts == {status: Count(30, True) for status in STATUSES}
    of_queue = await filled.read(lambda connection: count_by_status(connection, queue="queue-1"))
    assert {status: count.number for status, count in of_queue.items()} == {
        status: sum(row["status"] == status and row["queue"] == "queue-1" for row in ROWS) for status in STATUSES
    }
    of_tenant = await filled.read(lambda connection: count_by_status(connection, tenant="acme", queue="queue-1"))
    assert {status: count.number for status, count in of_tenant.items()} == {
        status: sum((row["status"], row["tenant"], row["queue"]) == (status, "acme", "queue-1") for row in ROWS)
        for status in STATUSES
    }
    assert all(count.exact for count in (*of_queue.values(), *of_tenant.values()))


async def test_counts_are_lower_bounds_where_there_are_more(filled: Database) -> None:
    counts = await filled.read(lambda connection: count_by_status(connection, exact_limit=10))
    assert counts["failed"] == Count(10, False)
    assert not counts["completed"].exact
    of_tenant = await filled.read(lambda connection: count_by_status(connection, tenant="acme", exact_limit=10))
    assert sum(count.number for count in of_tenant.values()) == 10
    assert not any(count.exact for count in of_tenant.values())
    with pytest.raises(InvalidOption):
        await filled.read(lambda connection: count_by_status(connection, exact_limit=0))


async def test_an_empty_ledger_has_empty_pages_and_counts_of_none(database: Database) -> None:
    page = await database.read(lambda connection: list_records(connection, RecordFilter()))
    assert page == ([], None)
    assert await database.read(count_by_status) == {status: Count(0, True) for status in STATUSES}


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_pages_of_several_statuses_follow_the_order_of_the_database(database: Database, ledger_url: str) -> None:
    """A PostgreSQL with another collation than C puts `a1` in front of `B1`; the one of these tests has none, so SQLite
    is given one.
    """
    await database.write(_ignore_case)
    opened = open_database(ledger_url)
    try:
        await opened.write(lambda connection: connection.execute(text("REINDEX")))
        records = [new_record(id=job_id) for job_id in ("a1", "B1", "C1", "d1")]
        await opened.write(lambda connection: insert_records(connection, records))
        await opened.write(
            lambda connection: connection.execute(job.update().where(job.c.id == "C1").values(status="retrying"))
        )
        selection = RecordSelection(wanted=RecordFilter(), statuses=OPEN, before=NOW + 1, ended=False, not_type="")
        chosen: list[Chosen] = []
        for _ in range(5):
            after = chosen[-1].position if chosen else None
            chosen += await opened.read(lambda connection, after=after: choose(connection, selection, after, 1))
        assert [one.id for one in chosen] == ["a1", "B1", "C1", "d1"]

        listed: list[str] = []
        cursor = None
        while True:
            listing_page = await opened.read(
                lambda connection, cursor=cursor: list_records(
                    connection, RecordFilter(phase="queued"), cursor=cursor, limit=1
                )
            )
            listed += [record.id for record in listing_page.records]
            if (cursor := listing_page.next_cursor) is None:
                break
        assert listed == ["d1", "C1", "B1", "a1"]
    finally:
        await opened.close()


def _ignore_case(connection: Connection) -> None:
    connection.execute(text("PRAGMA writable_schema = ON"))
    columns = "replace(sql, 'id TEXT NOT NULL', 'id TEXT COLLATE NOCASE NOT NULL')"
    connection.execute(text(f"UPDATE sqlite_master SET sql = {columns} WHERE name = 'taurine_job'"))
    connection.execute(text("PRAGMA writable_schema = OFF"))
