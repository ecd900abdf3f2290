"""A search index that follows the documents: many edits are few writes, and the whole is built anew beside them.

    python examples/search_index.py

A job says which document has changed, not how: it reads the row as it is when it runs. Edits while it waits find it by its id and add none. Once it has read, the row is in
its next round, so an edit after that is a job of its own, and none is lost. Run it again: ten edits are one write again, and the rebuild is not done again.
"""

import asyncio
import sqlite3
from contextlib import closing

from pydantic import BaseModel

from taurine import Context, JobHandle, Retry, Taurine

PAGE = 200
SETTLE = 0.5  # seconds that a job waits for further edits

app = Taurine("library")
app.queue("rebuild", concurrency=1)  # of its own, so that edits do not wait for it


class Changed(BaseModel):
    document: str
    round: int


class Rebuild(BaseModel):
    mapping: int  # the version of the index's fields


class Index:
    """In place of your search engine. As with the external versions of most, a write of an older revision is refused."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, str | None]] = {}
        self.writes = 0

    def put(self, document: str, revision: int, body: str | None) -> None:
        """body: None takes the document away; its revision stays."""
        self.writes += 1
        if revision >= self.entries.get(document, (0, None))[0]:
            self.entries[document] = (revision, body)


def open_library() -> sqlite3.Connection:
    """Your own database. A deleted document stays as a row without a body, so that its numbers do not begin anew."""
    library = sqlite3.connect(app.settings.home / "library.db")
    table = "id text primary key, body text, revision integer not null default 1, round integer not null default 0"
    library.execute(f"create table if not exists document ({table})")
    return library


async def edit(document: str, body: str | None) -> JobHandle[int] | None:
    """What the rest of the code calls: the row, then the job. None if the document was like that before."""
    with closing(open_library()) as library, library:
        upsert = """insert into document (id, body) values (?, ?) on conflict (id) do update
            set body = excluded.body, revision = revision + 1 where body is not excluded.body returning round"""
        row = library.execute(upsert, (document, body)).fetchone()
    if row is None:
        return None
    # "rerun": a job of this round that has ended never read the row; somebody has cancelled it, say.
    return await index_document.enqueue(Changed(document=document, round=row[0]), delay=SETTLE, on_duplicate="rerun")


@app.job("document.index", queue="search", job_id="index:{document}:{round}")
def index_document(changed: Changed, ctx: Context) -> int:
    index: Index = ctx.deps
    with closing(open_library()) as library, library:  # reading and the end of the round are one
        claim = "update document set round = max(round, ?) where id = ? returning revision, body"
        revision, body = library.execute(claim, (changed.round + 1, changed.document)).fetchone()
    index.put(changed.document, revision, body)
    return revision


@app.job("index.rebuild", queue="rebuild", job_id="rebuild:{mapping}", retry=Retry.EXPORT)
def rebuild(wanted: Rebuild, ctx: Context) -> int:
    """In the order of ids, from where the last attempt was. Documents that are edited meanwhile are newer in the index."""
    index: Index = ctx.deps
    after, done = ctx.state.get("after", ""), ctx.state.get("done", 0)
    with closing(open_library()) as library:
        total = library.execute("select count(*) from document").fetchone()[0]
        wanted_page = "select id, revision, body from document where id > ? order by id limit ?"
        while page := library.execute(wanted_page, (after, PAGE)).fetchall():
            ctx.raise_if_cancelled()
            for row in page:
                index.put(*row)
            after, done = page[-1][0], done + len(page)
            ctx.state = {"after": after, "done": done}
            ctx.progress(done, total)
    return done


async def main() -> None:
    index = Index()
    async with app:
        with closing(open_library()) as library, library:
            notes = [(f"note-{number}", "a note") for number in range(500)]
            library.executemany("insert into document (id, body) values (?, ?) on conflict do nothing", notes)
        handles = [await edit("guide", f"draft {number}") for number in range(10)]
        async with app.worker(deps=index):
            for job_id in {handle.id for handle in handles if handle is not None}:
                await app.wait(job_id, timeout=30)
            print(f"10 edits: {index.writes} write, of {index.entries['guide'][1]!r}")
            handle = await rebuild.enqueue(Rebuild(mapping=2))
            done, share = await handle.result(timeout=30), (await handle.record()).progress["percentage"]
            print(f"rebuilt: {done} documents, {share} %{', before' if handle.duplicate else ''}")
    print(index.writes, "writes in this run")


if __name__ == "__main__":
    asyncio.run(main())
