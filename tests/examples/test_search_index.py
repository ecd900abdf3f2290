from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from taurine.testing import TestClock, drain, run_job, run_twice


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("search_index", clock=TestClock())


def add_documents(example: Any, number: int) -> None:
    with closing(example.open_library()) as library, library:
        rows = [(f"note-{each:04}", "a note") for each in range(number)]
        library.executemany("insert into document (id, body) values (?, ?)", rows)


def test_the_program_rebuilds_nothing_when_it_is_run_again(started: Callable[..., str]) -> None:
    """SEED-110."""
    edits, rebuilt = "10 edits: 1 write, of 'draft 9'", "rebuilt: 501 documents, 100 %"

    assert started("search_index").splitlines() == [edits, rebuilt, "502 writes in this run"]
    assert started("search_index").splitlines() == [edits, f"{rebuilt}, before", "1 writes in this run"]


async def test_edits_while_the_job_waits_are_one_write(example: Any) -> None:
    """SEED-110: the last of them; and an edit that changes nothing is no job."""
    index = example.Index()
    handles = [await example.edit("guide", f"draft {number}") for number in range(10)]
    await drain(example.app, until="ended", deps=index)

    assert [handle.duplicate for handle in handles] == [False] + [True] * 9
    assert (index.writes, index.entries) == (1, {"guide": (10, "draft 9")})
    assert await example.edit("guide", "draft 9") is None


async def test_an_edit_after_the_row_was_read_is_not_lost(example: Any) -> None:
    """SEED-110: it comes while the first job is at the index, so that job does not know of it."""
    index, loop = example.Index(), asyncio.get_running_loop()
    put = index.put

    def disturbed(document: str, revision: int, body: str) -> None:
        if revision == 1:
            asyncio.run_coroutine_threadsafe(example.edit("guide", "late"), loop).result(20)
        put(document, revision, body)

    index.put = disturbed
    await example.edit("guide", "first")
    drained = await drain(example.app, until="ended", deps=index)

    assert sorted(drained) == ["index:guide:0", "index:guide:1"]
    assert index.entries == {"guide": (2, "late")}


async def test_a_job_that_was_cancelled_is_no_end_of_indexing(example: Any) -> None:
    """SEED-110: the next edit runs the same one."""
    index = example.Index()
    first = await example.edit("guide", "first")
    await first.cancel(reason="a mistake")
    await drain(example.app, until="ended", deps=index)
    assert not index.entries
    second = await example.edit("guide", "second")
    await drain(example.app, until="ended", deps=index)

    assert (second.id, second.rerun) == (first.id, True)
    assert index.entries == {"guide": (2, "second")}


async def test_an_old_revision_and_a_deletion(example: Any) -> None:
    """SEED-110: what was read before the document was deleted does not bring it back, and a new one of that name is
    found.
    """
    index = example.Index()
    for body in ("first", None):
        await example.edit("guide", body)
        await drain(example.app, until="ended", deps=index)
    index.put("guide", 1, "first")
    assert index.entries == {"guide": (2, None)}
    await example.edit("guide", "anew")
    await drain(example.app, until="ended", deps=index)

    assert index.entries == {"guide": (3, "anew")}


async def test_a_job_that_runs_twice_leaves_what_one_run_leaves(example: Any) -> None:
    """SEED-110."""
    index = example.Index()
    await example.edit("guide", "first")

    await run_twice(
        example.index_document,
        example.Changed(document="guide", round=0),
        outside=lambda: dict(index.entries),
        deps=index,
    )
    assert index.entries == {"guide": (1, "first")}


async def test_a_rebuild_that_breaks_goes_on_with_the_page_where_it_was(example: Any) -> None:
    """SEED-110: and is there once for each version of the fields."""
    add_documents(example, 450)
    index, seen = example.Index(), []
    put = index.put

    def breaking(document: str, revision: int, body: str) -> None:
        seen.append(document)
        if len(seen) == 420:
            raise ConnectionError("the search engine went away")
        put(document, revision, body)

    index.put = breaking
    handle = await example.rebuild.enqueue(example.Rebuild(mapping=2))
    await drain(example.app, until="ended", deps=index)
    again = await example.rebuild.enqueue(example.Rebuild(mapping=2))
    record = await handle.record()

    assert seen[420:] == [f"note-{each:04}" for each in range(400, 450)]
    assert len(index.entries) == 450
    assert (record.attempts, record.output, record.progress["percentage"]) == (2, 450, 100)
    assert again.duplicate


async def test_a_rebuild_does_not_undo_what_is_edited_meanwhile(example: Any) -> None:
    """SEED-110: the page has been read, then its last document changes and is indexed."""
    add_documents(example, 3)
    index, loop = example.Index(), asyncio.get_running_loop()
    put, indexed = index.put, []

    def disturbed(document: str, revision: int, body: str) -> None:
        put(document, revision, body)
        if document == "note-0000" and not indexed:
            indexed.append(document)
            asyncio.run_coroutine_threadsafe(edited(), loop).result(20)

    async def edited() -> None:
        await example.edit("note-0002", "newer")
        await run_job(example.index_document, example.Changed(document="note-0002", round=0), deps=index)

    index.put = disturbed
    await example.rebuild.enqueue(example.Rebuild(mapping=2))
    await drain(example.app, deps=index)  # the job of the edit is not due, so it mends nothing

    assert indexed
    assert index.entries["note-0002"] == (2, "newer")
