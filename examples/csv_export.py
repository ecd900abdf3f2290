"""An export of a table as a CSV file: page by page, with progress, from where the last attempt was.

    python examples/csv_export.py

The file has the rows that were there when somebody asked for it, each once, whatever is written meanwhile; and it has the name of that day, however late it is made.
"""

import asyncio
import csv
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from taurine import Context, Exponential, Keep, Retry, Taurine

BATCH = 500
COLUMNS = ("id", "name", "email", "created_at")

app = Taurine("back-office")
app.queue("export", concurrency=3)  # over all workers, so that exports leave the database to others


class ExportRequest(BaseModel):
    tenant_id: str
    user_id: str


class Exported(BaseModel):
    status: Literal["completed", "empty"]
    rows: int = 0
    url: str | None = None


def open_shop() -> sqlite3.Connection:
    """Your own database."""
    shop = sqlite3.connect(app.settings.home / "shop.db")
    shop.executescript("""
        create table if not exists customer (id integer primary key, tenant_id text, name text, email text, created_at integer);
        create index if not exists customer_in_order on customer (tenant_id, created_at, id);
        create table if not exists export (job_id text primary key, user_id text, tenant_id text, type text, url text, rows integer);
    """)
    return shop


def count(shop: sqlite3.Connection, tenant_id: str, until: int) -> int:
    wanted = "select count(*) from customer where tenant_id = ? and created_at <= ?"
    return shop.execute(wanted, (tenant_id, until)).fetchone()[0]


def pages(shop: sqlite3.Connection, tenant_id: str, until: int, after: list[int]) -> Iterator[list[tuple[int, ...]]]:
    """Batches in the order of creation. after: time and id of the last row so far; the id tells apart those of one time."""
    while True:
        wanted = f"""select {", ".join(COLUMNS)} from customer
            where tenant_id = ? and created_at <= ? and (created_at, id) > (?, ?) order by created_at, id limit ?"""
        rows = shop.execute(wanted, (tenant_id, until, *after, BATCH)).fetchall()
        if rows:
            yield rows
            after = [rows[-1][3], rows[-1][0]]
        if len(rows) < BATCH:
            return


def cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def write_file(part: Path, shop: sqlite3.Connection, request: ExportRequest, until: int, ctx: Context) -> None:
    """Write the rows after those that an earlier attempt has written."""
    total = count(shop, request.tenant_id, until)
    part.parent.mkdir(parents=True, exist_ok=True)
    state = ctx.state if part.exists() else {}  # another machine's file is not here: from the beginning
    rows = state.get("rows", 0)
    with part.open("r+" if state else "w", encoding="utf-8", newline="") as file:
        file.seek(state.get("bytes", 0))
        file.truncate()  # what was written after the state was saved last is written again
        if not state:
            csv.writer(file).writerow(COLUMNS)
        for page in pages(shop, request.tenant_id, until, state.get("after", [0, 0])):
            ctx.raise_if_cancelled()
            csv.writer(file).writerows([cell(value) for value in row] for row in page)
            file.flush()
            rows += len(page)
            ctx.state = {"rows": rows, "bytes": part.stat().st_size, "after": [page[-1][3], page[-1][0]]}
            ctx.progress(rows, total)


@app.job(
    "customers.export",
    queue="export",
    tenant="{tenant_id}",
    retry=Retry(attempts=2, backoff=Exponential(5.0)),
    keep_completed=Keep(age=24 * 3600),
)
def export_customers(request: ExportRequest, ctx: Context) -> Exported:
    until = round(ctx.created_at.timestamp() * 1000)
    key = f"{request.tenant_id}/{ctx.job_id}/customers-{ctx.created_at:%Y-%m-%d}.csv"
    target = app.settings.home / "files" / key  # in place of an object store
    part = target.with_suffix(".part")
    with closing(open_shop()) as shop:
        if count(shop, request.tenant_id, until) == 0:
            return Exported(status="empty")
        if not target.exists():
            write_file(part, shop, request, until, ctx)
            part.replace(target)
        with target.open(encoding="utf-8", newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        with shop:  # once, however often this is run
            written = (ctx.job_id, request.user_id, request.tenant_id, "customers", key, rows)
            shop.execute("insert into export values (?, ?, ?, ?, ?, ?) on conflict (job_id) do nothing", written)
    return Exported(status="completed", rows=rows, url=key)


async def main() -> None:
    async with app, app.worker():
        now = round(time.time() * 1000)
        customers = [(f"Customer {n}", f"customer-{n}@example.com", now - n // 100) for n in range(1_250)]
        with closing(open_shop()) as shop, shop:
            shop.execute("delete from customer")
            shop.executemany("insert into customer values (null, 'acme', ?, ?, ?)", customers)
            shop.executemany("insert into customer values (null, 'globex', ?, ?, ?)", customers[:3])

        for tenant_id in ("acme", "globex", "initech"):
            handle = await export_customers.enqueue(ExportRequest(tenant_id=tenant_id, user_id="ada"))
            exported = await handle.result(timeout=30)
            print(f"{tenant_id}: {exported.status}, {exported.rows} rows")
            if exported.url is not None:
                progress = (await handle.record()).progress
                print(
                    f"  {progress['percentage']} % of {progress['total']} rows, in files/{exported.url.partition('/')[0]}/"
                )


if __name__ == "__main__":
    asyncio.run(main())
