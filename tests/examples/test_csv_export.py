from __future__ import annotations

import csv
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taurine.testing import DetachedContext, TestClock, drain, run_job

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> TestClock:
    return TestClock(NOON)


@pytest.fixture
def example(imported: Callable[..., Any], clock: TestClock) -> Any:
    return imported("csv_export", clock=clock)


def add_customers(example: Any, number: int, *, tenant: str = "acme", at: datetime = NOON - timedelta(days=1)) -> None:
    with closing(example.open_shop()) as shop, shop:
        rows = [(tenant, f"Customer {each}", f"{each}@example.com", at.timestamp() * 1000) for each in range(number)]
        shop.executemany("insert into customer values (null, ?, ?, ?, ?)", rows)


async def exported(example: Any, tenant: str = "acme") -> Any:
    handle = await example.export_customers.enqueue(example.ExportRequest(tenant_id=tenant, user_id="ada"))
    await drain(example.app, until="ended")
    return await handle.record()


def lines(example: Any, url: str) -> list[list[str]]:
    with (example.app.settings.home / "files" / url).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_program_exports_two_tenants_and_nothing_for_the_third(started: Callable[..., str]) -> None:
    """SEED-206, SEED-207."""
    assert started("csv_export").splitlines() == [
        "acme: completed, 1250 rows",
        "  100 % of 1250 rows, in files/acme/",
        "globex: completed, 3 rows",
        "  100 % of 3 rows, in files/globex/",
        "initech: empty, 0 rows",
    ]


@pytest.mark.parametrize("number", [1, 499, 500, 501, 1000])
async def test_a_header_and_each_row_once(example: Any, number: int) -> None:
    """SEED-208, SEED-207: exact multiples of a page too, and nothing of another tenant.

    All rows are of one time, so that only ids tell pages apart (SEED-263).
    """
    add_customers(example, number)
    add_customers(example, 7, tenant="globex")

    record = await exported(example)
    header, *rows = lines(example, record.output["url"])

    assert header == list(example.COLUMNS)
    assert [row[1] for row in rows] == [f"Customer {each}" for each in range(number)]
    assert record.output["rows"] == record.progress["total"] == number


async def test_no_rows_are_an_answer_and_no_file(example: Any) -> None:
    """SEED-206."""
    record = await exported(example, "initech")

    assert record.output == {"status": "empty", "rows": 0, "url": None}
    assert not (example.app.settings.home / "files").exists()


async def test_exports_leave_the_database_to_others(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-150: three run at once, over all workers, though each worker has more room."""
    add_customers(example, 1)
    running: set[int] = set()
    seen: list[int] = []
    meeting, written = threading.Barrier(3), example.write_file

    def counted(*arguments: Any) -> None:
        running.add(threading.get_ident())
        meeting.wait(20)  # as many as run at once
        seen.append(len(running))
        written(*arguments)
        meeting.wait(20)
        running.discard(threading.get_ident())

    monkeypatch.setattr(example, "write_file", counted)
    for number in range(6):
        await example.export_customers.enqueue(example.ExportRequest(tenant_id="acme", user_id=f"u-{number}"))
    async with example.app.worker(concurrency=10):
        await drain(example.app, until="ended")

    assert seen == [3] * 6
    assert {record.status async for record in example.app.list()} == {"completed"}


async def test_rows_that_come_meanwhile_shift_no_page(
    example: Any, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-263, SEED-265: what is written before and after the cursor between two pages; none of the start set is
    missing or doubled, and the whole stays the whole.
    """
    add_customers(example, 1200)
    turned: list[int] = []
    pages = example.pages

    def disturbed(*arguments: Any) -> Iterator[Any]:
        for page in pages(*arguments):
            turned.append(len(page))
            yield page
            add_customers(example, 3, at=NOON + timedelta(hours=1))  # later than the request
            add_customers(example, 3, at=NOON - timedelta(days=2))  # behind the cursor

    monkeypatch.setattr(example, "pages", disturbed)
    context = DetachedContext(clock=clock)
    request = example.ExportRequest(tenant_id="acme", user_id="ada")
    result = await run_job(example.export_customers, request, context=context)
    shares = [told["share"] for told in context.told]

    assert turned == [500, 500, 200]
    assert [row[1] for row in lines(example, result.url)[1:]] == [f"Customer {each}" for each in range(1200)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


async def test_a_retry_goes_on_and_leaves_one_row(
    example: Any, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-204, SEED-210, SEED-266, SEED-267: it breaks in the third page, then after the file; each time five seconds
    before the other attempt, which is on the next day.
    """
    add_customers(example, 1200)
    clock.advance(NOON.replace(hour=23, minute=59, second=59) - clock.datetime)
    read: list[int] = []
    pages = example.pages

    def breaking(*arguments: Any) -> Iterator[Any]:
        for page in pages(*arguments):
            if len(read) == 2:
                read.append(0)
                raise ConnectionError("the database went away")
            read.append(len(page))
            yield page

    monkeypatch.setattr(example, "pages", breaking)
    record = await exported(example)
    assert read == [500, 500, 0, 200], "the second attempt reads what the first has not"
    assert clock.datetime.date() == NOON.date() + timedelta(days=1)
    await example.app.retry(record.id)
    again = (await drain(example.app, until="ended"))[record.id]

    url = f"acme/{record.id}/customers-2026-03-10.csv"
    assert record.output == again.output == {"status": "completed", "rows": 1200, "url": url}
    assert again.attempts == 1
    assert [row[1] for row in lines(example, url)[1:]] == [f"Customer {each}" for each in range(1200)]
    with closing(example.open_shop()) as shop:
        assert shop.execute("select * from export").fetchall() == [
            (record.id, "ada", "acme", "customers", url, 1200),
        ]


async def test_what_was_written_after_the_last_save_is_written_again(
    example: Any, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed leaves a file that is longer than the state says that was saved last; and rows that were
    in it may be gone since.
    """
    add_customers(example, 1200)
    request = example.ExportRequest(tenant_id="acme", user_id="ada")
    killed = DetachedContext(clock=clock)
    saved: list[dict[str, Any]] = []
    pages = example.pages

    def watched(*arguments: Any) -> Iterator[Any]:
        for page in pages(*arguments):
            saved.append(dict(killed.state))
            if len(page) < example.BATCH:
                raise ConnectionError("the process dies")
            yield page

    with monkeypatch.context() as patched:
        patched.setattr(example, "pages", watched)
        with pytest.raises(ConnectionError):
            await run_job(example.export_customers, request, context=killed)
    assert [state.get("rows", 0) for state in saved] == [0, 500, 1000]
    with closing(example.open_shop()) as shop, shop:
        shop.execute("delete from customer where id > 700")
    context = DetachedContext(clock=clock, attempt=2, state=saved[1])
    result = await run_job(example.export_customers, request, context=context)

    assert result.rows == 700
    assert [row[1] for row in lines(example, result.url)[1:]] == [f"Customer {each}" for each in range(700)]


async def test_memory_does_not_grow_with_the_table(example: Any, clock: TestClock) -> None:
    """SEED-264."""
    request = example.ExportRequest(tenant_id="acme", user_id="ada")
    peaks: list[int] = []
    for number in (1_000, 19_000):
        add_customers(example, number)
        tracemalloc.start()
        await run_job(example.export_customers, request, context=DetachedContext(clock=clock, job_id=f"of-{number}"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 2 * peaks[0], peaks


def test_the_rules_of_an_export(example: Any) -> None:
    """SEED-204, SEED-205."""
    options = example.export_customers.options

    assert (options.retry.attempts, options.retry.backoff.base, options.keep_completed.age) == (2, 5.0, 24 * 3600)
    assert example.BATCH == 500
    assert example.app.catalog.rules_of("export").concurrency == 3
