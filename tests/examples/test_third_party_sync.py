from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from taurine import RateLimit
from taurine.testing import TestClock, drain, run_at_failpoints


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("third_party_sync", clock=TestClock())


def contact(example: Any, version: int = 1, name: str = "Ada") -> Any:
    return example.Contact(contact="ada", version=version, name=name)


def there(crm: Any) -> list[tuple[str, int, str]]:
    found = zip(crm.references, crm.contacts.values(), strict=True)
    return [(reference, entry.version, entry.name) for reference, entry in found]


def test_the_program_calls_nobody_when_it_is_run_again(started: Callable[..., str]) -> None:
    """SEED-110."""
    *said, calls = started("third_party_sync").splitlines()
    assert said == [
        "sync:ada:2: written in attempt 1",
        "sync:ada:1: overtaken in attempt 1",
        "sync:grace:1: written in attempt 2",
        "sync:linus:1: written in attempt 2",
    ]
    assert calls == "12 calls in this run, 3 contacts created"

    assert started("third_party_sync").splitlines() == [*said, "0 calls in this run, 0 contacts created"]


async def test_the_api_says_when_to_come_back(example: Any) -> None:
    """SEED-110: a 429 at the creation, then one at the reading; each pause is the one that was asked for, and what is
    created stays so.
    """
    crm = example.Crm(ada=[example.ApiError(429, 40)], **{"c-1": [example.ApiError(429, 70)]})
    handle = await example.sync.enqueue(contact(example))
    await drain(example.app, until="ended", deps=crm)

    starts = [attempt.started_at async for attempt in example.app.attempts(handle.id)]
    pauses = [(later - sooner).total_seconds() for sooner, later in pairwise(starts)]
    assert [round(pause) for pause in pauses] == [40, 70]
    assert there(crm) == [("ada", 1, "Ada")]


async def test_a_creation_whose_answer_is_lost_is_looked_up(example: Any) -> None:
    """SEED-110: the answer to the question, too, is lost at first."""
    crm = example.Crm(ada=[example.ApiError(503), example.ApiError(502)])
    handle = await example.sync.enqueue(contact(example))
    await drain(example.app, until="ended", deps=crm)

    assert (await handle.record()).attempts == 3
    assert there(crm) == [("ada", 1, "Ada")]


async def test_an_old_version_that_comes_late_changes_nothing(example: Any) -> None:
    """SEED-110: and a version is one job, however often it is asked for."""
    crm = example.Crm()
    await example.sync.enqueue(contact(example, 2, "Ada King"))
    await drain(example.app, until="ended", deps=crm)
    late = await example.sync.enqueue(contact(example, 1, "Ada Byron"))
    again = await example.sync.enqueue(contact(example, 2, "Ada King"))
    await drain(example.app, until="ended", deps=crm)

    assert (await late.record()).output == "overtaken"
    assert again.duplicate
    assert there(crm) == [("ada", 2, "Ada King")]


async def test_a_version_that_is_overtaken_between_its_reading_and_its_writing(example: Any) -> None:
    """SEED-110: both have read the same; the old one writes last, is refused, and looks again."""
    crm = example.Crm()
    await example.sync.enqueue(contact(example))
    await drain(example.app, until="ended", deps=crm)
    both, newer = asyncio.Barrier(2), asyncio.Event()
    write = crm.write

    async def together(key: str, change: Any, *, if_match: int) -> None:
        if not newer.is_set():
            await asyncio.wait_for(both.wait(), 20)
        if change.version == 2:
            await asyncio.wait_for(newer.wait(), 20)
        await write(key, change, if_match=if_match)
        newer.set()

    crm.write = together
    handles = [await example.sync.enqueue(contact(example, version, f"Ada {version}")) for version in (2, 3)]
    await drain(example.app, until="ended", deps=crm)

    assert [(await handle.record()).output for handle in handles] == ["overtaken", "written"]
    assert there(crm) == [("ada", 3, "Ada 3")]


async def test_whoever_dies_wherever_there_is_one_contact(example: Any) -> None:
    """SEED-110."""
    crm = example.Crm()
    await run_at_failpoints(example.sync, contact(example), outside=lambda: there(crm), reset=crm.__init__, deps=crm)

    assert there(crm) == [("ada", 1, "Ada")]


def test_the_limit_is_the_queue_s(example: Any) -> None:
    """SEED-110: over all workers."""
    assert example.app.catalog.rules_of("crm").rate_limit == RateLimit(30, 1)
