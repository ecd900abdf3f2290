"""Finding records by a text, on either database."""

from __future__ import annotations

from typing import Any

import pytest

from support.ledger import NOW, fail, put_in, start
from taurine.errors import InvalidOption
from taurine.ledger.database import Database
from taurine.ledger.listing import Page, RecordFilter
from taurine.ledger.searching import search_records


async def search(database: Database, text: str, *, looked_at: int = 10_000, **options: Any) -> Page:
    wanted = RecordFilter(**options.pop("wanted", {}))
    return await database.read(
        lambda connection: search_records(connection, text, wanted, looked_at=looked_at, **options)
    )


async def ids(database: Database, text: str, **options: Any) -> list[str]:
    return [record.id for record in (await search(database, text, **options)).records]


async def test_a_text_is_found_in_the_id_the_type_the_tags_and_the_error(database: Database) -> None:
    await put_in(database, "invite:ada", created_at=NOW)
    await put_in(database, "b", type="mail.Adapted", created_at=NOW + 1)
    await put_in(database, "c", tags=("canada", "ada"), created_at=NOW + 2)
    await put_in(database, "d", created_at=NOW + 3)
    await start(database, "d")
    await fail(database, "d", error='{"type":"KeyError","message":"no ADA here"}')
    await put_in(database, "e", created_at=NOW + 4)

    assert await ids(database, "ada") == ["d", "c", "b", "invite:ada"]


@pytest.mark.parametrize("text", ["%", "_", "a%b", "'; drop table taurine_job; --", "\\", "/", "/%", "*", ".*"])
async def test_each_character_stands_for_itself(database: Database, text: str) -> None:
    """A49: no wildcard, no statement of the caller's."""
    await put_in(database, "axb", "ayb")
    assert await ids(database, text) == []

    await put_in(database, f"x{text}x")
    assert await ids(database, text) == [f"x{text}x"]


async def test_pages_go_on_where_the_one_before_has_ended_also_where_little_is_found(database: Database) -> None:
    for number in range(10):
        await put_in(database, f"{'yes' if number % 3 == 0 else 'no'}-{number}", created_at=NOW + number)

    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await search(database, "yes", cursor=cursor, limit=2, looked_at=4)
        seen += [record.id for record in page.records]
        cursor, pages = page.next_cursor, pages + 1

    assert seen == ["yes-9", "yes-6", "yes-3", "yes-0"]
    assert pages == 3


async def test_the_record_of_that_very_id_comes_first_however_old(database: Database) -> None:
    await put_in(database, "ada", created_at=NOW)
    for number in range(5):
        await put_in(database, f"ada-{number}", created_at=NOW + 1 + number)

    assert (await ids(database, "ada", looked_at=2)) == ["ada", "ada-4", "ada-3"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
async def test_the_record_of_that_very_id_is_on_the_first_page_alone(database: Database, limit: int) -> None:
    """And the page has no more than was asked for."""
    for number in range(4):
        await put_in(database, f"ada-{number}", created_at=NOW + number)
    await put_in(database, "ada", created_at=NOW + 1)
    await put_in(database, "bob", created_at=NOW + 9)

    seen: list[str] = []
    cursor, more = None, True
    while more:
        page = await search(database, "ada", cursor=cursor, limit=limit)
        assert len(page.records) <= limit
        seen += [record.id for record in page.records]
        cursor, more = page.next_cursor, page.next_cursor is not None
    assert seen == ["ada", "ada-3", "ada-2", "ada-1", "ada-0"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"tenant": "acme"}, ["ada"]),
        ({"tenant": "other"}, []),
        ({"status": "completed"}, []),
        ({"phase": "queued"}, ["ada"]),
        ({"type": "x"}, []),
        ({"tag": "t"}, ["ada"]),
        ({"tag": "u"}, []),
        ({"since": NOW}, ["ada"]),
        ({"since": NOW + 1}, []),
        ({"until": NOW}, []),
    ],
    ids=str,
)
async def test_filters_hold_for_the_very_id_too(
    database: Database, wanted: dict[str, Any], expected: list[str]
) -> None:
    """A37: another tenant's job is not found by its id."""
    await put_in(database, "ada", tenant="acme", tags=("t",))
    assert await ids(database, "ada", wanted=wanted) == expected


@pytest.mark.parametrize("text", ["", "a\0b", "\n", "x" * 201])
async def test_a_text_that_is_none_is_refused(database: Database, text: str) -> None:
    with pytest.raises(InvalidOption, match="1 to 200 printable"):
        await ids(database, text)
