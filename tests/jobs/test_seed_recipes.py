"""Recipes that the product's own pieces must carry: handlers that may run twice, exports, reports (SEED-059, 064, 066,
242, 249, 263, 266 to 268).
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.operated import ended
from jobs.reconciling import NO_UPKEEP
from taurine.app import Taurine
from taurine.errors import PayloadInvalid, Permanent
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry, classify
from taurine.testing import TestClock

TWICE = Retry(attempts=2, backoff=Fixed(0.001))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The application's own database."""
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as connection:
        yield connection


# What is handed in ----------------------------------------------------------------------------------------------------------------


async def test_two_workers_of_one_process_have_what_each_was_given(app: Taurine) -> None:
    """SEED-242, SEED-059: one handler, two queues, and for each queue a worker with services of its own."""

    async def greet(name: str, ctx: Context) -> str:
        return f"{ctx.deps} {name}"

    german = app.job("greet.german", queue="german")(greet)
    english = app.job("greet.english", queue="english")(greet)

    async with app.worker(queues=["german"], deps="Hallo"), app.worker(queues=["english"], deps="Hello"):
        one, other = await german.enqueue("Ada"), await english.enqueue("Ada")
        assert await one.result(timeout=10) == "Hallo Ada"
        assert await other.result(timeout=10) == "Hello Ada"


async def test_most_tests_of_an_application_need_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-249, SEED-076: declarations, payloads, ids, the judging of errors, and handlers; here no socket can be
    opened.
    """

    def refuse(*_: Any) -> None:
        raise AssertionError("it opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    app = Taurine("shop", home=tmp_path / "home")

    class Invite(BaseModel):
        user_id: str

    @app.job("invite.send", job_id="invite:{user_id}")
    async def send(invite: Invite) -> str:
        return f"sent to {invite.user_id}"

    invite = Invite(user_id="ada")
    assert await send(invite) == "sent to ada"
    assert send.payload.accept(invite) == (invite, '{"user_id":"ada"}')
    with pytest.raises(PayloadInvalid):
        send.payload.accept({})
    assert (classify(Permanent("gone")).kind, classify(TimeoutError()).kind) == ("permanent", "transient")
    assert not (tmp_path / "home").exists()


# Handlers that may run twice ------------------------------------------------------------------------------------------------------


async def test_a_unique_index_absorbs_the_second_write(app: Taurine, shop: sqlite3.Connection) -> None:
    """SEED-064, SEED-066: the second run, of a retry or by hand, is no work at all."""
    shop.execute("create table payment (order_id text primary key, processed_at text)")
    wrote: list[bool] = []

    @app.job("payment.book", job_id="book:{order_id}", retry=TWICE)
    async def book(payment: dict[str, str], ctx: Context) -> None:
        inserted = shop.execute(
            "insert into payment values (?, ?) on conflict do nothing",
            (payment["order_id"], ctx.created_at.isoformat()),
        )
        wrote.append(inserted.rowcount == 1)
        if ctx.attempt == 1:
            raise ConnectionError("after the write")

    async with app.worker():
        handle = await book.enqueue({"order_id": "o-7"})
        await handle.result(timeout=10)
        await app.retry(handle.id)
        await ended(handle.record, "completed")

    assert wrote == [True, False, False, False]
    assert shop.execute("select count(*) from payment").fetchone() == (1,)


async def test_a_processed_at_column_absorbs_the_second_run(app: Taurine, shop: sqlite3.Connection) -> None:
    """SEED-064, SEED-066."""
    shop.execute("create table invoice (number integer primary key, processed_at text, mails integer not null)")
    shop.execute("insert into invoice values (7, null, 0)")

    @app.job("invoice.mail", retry=TWICE)
    async def mail(number: int, ctx: Context) -> None:
        shop.execute(
            "update invoice set mails = mails + 1, processed_at = ? where number = ? and processed_at is null",
            (ctx.created_at.isoformat(), number),
        )
        if ctx.attempt == 1:
            raise ConnectionError("after the mail")

    async with app.worker():
        await (await mail.enqueue(7)).result(timeout=10)

    assert shop.execute("select mails from invoice").fetchone() == (1,)


# Exports --------------------------------------------------------------------------------------------------------------------------


async def test_an_export_misses_and_repeats_nothing_while_rows_are_inserted(
    app: Taurine, shop: sqlite3.Connection
) -> None:
    """SEED-263: the cursor is (time, id), since times may be equal; it is kept in the state, and the set is what there
    was at the job's start.
    """
    shop.execute("create table sale (at integer, id text, primary key (at, id))")
    before = [(1_000 + number // 10, f"s{number:03}") for number in range(95)]  # ten share each time
    shop.executemany("insert into sale values (?, ?)", before)
    written: list[str] = []

    @app.job("sale.export", retry=TWICE)
    async def export(size: int, ctx: Context) -> int:
        end = round(ctx.created_at.timestamp() * 1000)
        while True:
            after = ctx.state.get("after", [0, ""])
            page = shop.execute(
                "select at, id from sale where (at, id) > (?, ?) and at < ? order by at, id limit ?",
                (*after, end, size),
            ).fetchall()
            if not page:
                return len(written)
            written.extend(sale_id for _, sale_id in page)
            ctx.state["after"] = page[-1]
            await ctx.save()
            shop.execute("insert into sale values (?, ?)", (end + 1, f"new{len(written)}"))
            if ctx.attempt == 1 and len(written) > 40:
                raise ConnectionError("the database went away")

    async with app.worker():
        assert await (await export.enqueue(7)).result(timeout=10) == 95

    assert written == [sale_id for _, sale_id in before]


async def test_a_list_misses_and_repeats_nothing_while_jobs_are_accepted(ledger_url: str, app: Taurine) -> None:
    """SEED-263: records of one call share their time; what comes later is before the first page, not on the next one."""
    sale = app.declare("sale.book", int)
    before = {handle.id for handle in await sale.enqueue_many(range(30))}
    seen: list[str] = []
    cursor = None
    while True:
        page = await app.list(limit=7, cursor=cursor)
        seen.extend(record.id for record in page)
        await sale.enqueue_many(range(3))
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen))
    assert set(seen) == before


async def test_an_exports_row_is_one_however_often_it_is_written(app: Taurine, shop: sqlite3.Connection) -> None:
    """SEED-266: unique by the job's id, which is the same in each attempt."""
    shop.execute("create table export (job_id text primary key, url text, attempt integer)")

    @app.job("data-export.run", retry=TWICE)
    async def export(report: str, ctx: Context) -> None:
        url = f"{report}/{ctx.job_id}.csv"
        shop.execute(
            "insert into export values (?, ?, ?) on conflict (job_id) do update set url = excluded.url, attempt = excluded.attempt",
            (ctx.job_id, url, ctx.attempt),
        )
        if ctx.attempt == 1:
            raise ConnectionError("after the upload")

    async with app.worker():
        handle = await export.enqueue("sales")
        await handle.result(timeout=10)

    assert shop.execute("select * from export").fetchall() == [(handle.id, f"sales/{handle.id}.csv", 2)]


async def test_a_files_name_comes_from_the_jobs_time(app_factory: Callable[..., Taurine]) -> None:
    """SEED-267: a retry after midnight writes the same file."""
    clock = TestClock(datetime(2027, 3, 1, 23, 59, 50, tzinfo=UTC).timestamp())
    app = app_factory(clock=clock)
    names: list[str] = []

    @app.job("data-export.run", retry=Retry(attempts=2, backoff=Fixed(60)))
    async def export(report: str, ctx: Context) -> None:
        names.append(f"{report}-{ctx.created_at:%Y-%m-%d}.csv")
        if ctx.attempt == 1:
            raise ConnectionError("the upload was cut")

    handle = await export.enqueue("sales")
    async with app.worker(upkeep=NO_UPKEEP):
        await ended(handle.record, "retrying")
    clock.advance(61)
    async with app.worker(upkeep=NO_UPKEEP):
        record = await ended(handle.record, "completed")

    assert names == ["sales-2027-03-01.csv"] * 2
    assert record.started_at is not None
    assert record.started_at.day == 2


# Reports --------------------------------------------------------------------------------------------------------------------------


class ReportMail(BaseModel):
    date: str
    admin: str


async def test_a_daily_report_reaches_each_admin_once(app: Taurine) -> None:
    """SEED-268: the mail's id is the date and the admin, so the retry of the fan-out adds those that are missing."""
    mailed: list[str] = []

    @app.job("report.mail", job_id="daily-report:{date}:{admin}")
    async def mail(letter: ReportMail) -> None:
        mailed.append(f"{letter.date} {letter.admin}")

    @app.job("report.daily", job_id="daily-report:{date}", retry=TWICE)
    async def report(day: dict[str, str], ctx: Context) -> list[bool]:
        duplicates: list[bool] = []
        for admin in ("ada", "bob", "eve"):
            if admin == "eve" and ctx.attempt == 1:
                raise ConnectionError("after two of three")
            handle = await mail.enqueue(ReportMail(date=day["date"], admin=admin))
            duplicates.append(handle.duplicate)
        return duplicates

    async with app.worker():
        monday = await report.enqueue({"date": "2027-03-01"})
        assert await monday.result(timeout=10) == [True, True, False]
        tuesday = await report.enqueue({"date": "2027-03-02"})
        await tuesday.result(timeout=10)
        for date in ("2027-03-01", "2027-03-02"):
            for admin in ("ada", "bob", "eve"):
                await app.wait(f"daily-report:{date}:{admin}", timeout=10)

    assert sorted(mailed) == [f"2027-03-0{day} {admin}" for day in (1, 2) for admin in ("ada", "bob", "eve")]
