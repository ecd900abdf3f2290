"""`taurine queues clean`, `concurrency` and `rate-limit`; `taurine dead` of very many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.eventually import eventually
from taurine.app import Taurine
from taurine.cli.commands import dead
from taurine.options import RateLimit
from taurine.retry import Retry


async def failed(app: Taurine, number: int) -> None:
    @app.job("note.write", queue="notes", retry=Retry.NONE)
    async def write(text: str) -> None:
        raise ValueError(text)

    await write.enqueue_many([f"bad {each}" for each in range(number)])
    async with app.worker(queues=["notes"]):
        await eventually(lambda: has_failed(app, number), 20, "not all have failed")


async def has_failed(app: Taurine, number: int) -> bool:
    return (await app.dead_letters.depth()).get("notes") == number


async def test_a_queue_is_cleaned(app: Taurine, taurine: Callable[..., Any]) -> None:
    """BMQ-042."""
    await failed(app, 2)

    unasked = await taurine("queues", "clean", "notes", "--status", "failed")
    young = await taurine("queues", "clean", "notes", "--status", "failed", "--older-than", "7d", "--yes")
    cleaned = await taurine("queues", "clean", "notes", "--status", "failed", "--yes", "--json", "--user", "ada")
    misspelt = await taurine("queues", "clean", "notes", "--status", "faild", "--yes")

    assert unasked.code == 2
    assert "say --yes" in unasked.err
    assert young.out == "0 failed jobs of queue notes are cleared away.\n"
    assert cleaned.json == {"queue": "notes", "cleaned": 2}
    assert "did you mean 'failed'?" in misspelt.err
    assert [entry.actor async for entry in app.actions(action="clean_queue")] == ["ada", None]


async def test_limits_are_set_and_lifted(app: Taurine, taurine: Callable[..., Any]) -> None:
    """BMQ-046, BMQ-047."""
    await failed(app, 1)

    few = await taurine("queues", "concurrency", "notes", "3")
    slow = await taurine("queues", "rate-limit", "notes", "100/1m")
    limited = (await app.queues.get("notes")).standing
    free = await taurine("queues", "concurrency", "notes", "none", "--json")
    fast = await taurine("queues", "rate-limit", "notes", "none")
    wrong = [await taurine("queues", "concurrency", "notes", word) for word in ("0", "-1", "many", "1e9")]
    wrong += [await taurine("queues", "rate-limit", "notes", word) for word in ("100", "0/1m", "5/", "5/now", "2/10")]

    assert (few.out, slow.out) == (
        "notes runs at most 3 jobs at once\n",
        "notes starts at most 100 jobs in 1m\n",
    )
    assert limited is not None
    assert (limited.concurrency, limited.rate_limit) == (3, RateLimit(100, 60.0))
    assert free.json[0]["standing"]["concurrency"] is None
    assert fast.out == "notes has no rate limit\n"
    assert [ended.code for ended in wrong] == [2] * 9
    assert "expected a unit in '2/10': 2/10s, or m, h, d" in wrong[-1].err


async def test_very_many_dead_letters_are_dealt_with_by_a_job(
    app: Taurine, taurine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRG-70: it needs no worker, and goes on should the command be killed."""
    await failed(app, 3)
    monkeypatch.setattr(dead, "_LARGE", 2)

    again = await taurine("dead", "redrive", "--all", "--limit", "2", "--yes", "--user", "ada")
    few = await taurine("dead", "discard", "--all", "--yes")
    (operation,) = await app.bulk.list()

    assert again.out == "2 jobs are queued again.\n", again.err
    assert few.out.endswith("is put aside\n")
    assert (operation.created_by, operation.output["done"]) == ("ada", 2)
    assert await app.dead_letters.depth() == {}


@pytest.mark.parametrize(
    "words",
    [
        ("queues", "pause", "nots"),
        ("queues", "drain", "nots", "--yes"),
        ("keys", "revoke", "0123456789abcdef"),
        ("admins", "remove", "nobody"),
    ],
)
async def test_what_is_not_there_ends_with_1(app: Taurine, taurine: Callable[..., Any], words: tuple[str, ...]) -> None:
    await failed(app, 1)

    ended = await taurine(*words)

    assert (ended.code, ended.out) == (1, "")
    assert words[2] in ended.err
