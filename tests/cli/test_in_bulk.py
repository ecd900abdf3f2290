"""`taurine retry` and `taurine cancel` with a filter: how many, a question, how far it is, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.terminal import Terminal
from taurine.app import Taurine
from taurine.retry import Retry


async def waiting_and_failed(app: Taurine, *, waiting: int = 3, failed: int = 0) -> None:
    """Jobs of two types: `waiting` of each that wait, and `failed` of the first that failed for good."""

    @app.job("note.write", queue="notes", retry=Retry.NONE)
    async def write(text: str) -> None:
        raise ValueError(text)

    @app.job("late.write", queue="late")
    async def late(text: str) -> None: ...

    if failed:
        async with app.worker(queues=["notes"]):
            for handle in await write.enqueue_many([f"bad {number}" for number in range(failed)], tenant="acme"):
                await app.wait(handle.id, 20)
    for job_type, queue in ((write, "notes"), (late, "late")):
        await job_type.enqueue_many([f"{queue} {number}" for number in range(waiting)], tags=[queue])


async def statuses(app: Taurine, **filters: Any) -> list[str]:
    return sorted([record.status async for record in app.list(**filters) if record.type != "taurine.bulk"])


async def test_all_of_a_filter_are_cancelled(app: Taurine, taurine: Callable[..., Any]) -> None:
    """No worker is needed; what the filter does not let through stays, and the reason is in the records."""
    await waiting_and_failed(app)

    few = await taurine("cancel", "--type", "note.write", "--limit", "1", "--yes", "--reason", "no more")
    rest = await taurine("cancel", "--queue", "notes", "--status", "queued", "--yes", "--json", "--user", "ada")
    nothing_left = await taurine("cancel", "--queue", "notes", "--yes")

    assert (few.code, few.out) == (0, "1 jobs are cancelled, or told to stop.\n"), few.err
    assert (rest.code, rest.json["status"], rest.json["done"], rest.json["refused"]) == (0, "completed", 2, 0)
    assert nothing_left.out == "There are 0 open jobs of queue notes; nothing was changed.\n"
    assert await statuses(app, queue="notes") == ["cancelled"] * 3
    assert await statuses(app, queue="late") == ["queued"] * 3
    assert "no more" in [record.cancel_reason async for record in app.list(queue="notes")]
    operation = await app.get(rest.json["job"])
    assert operation is not None
    assert operation.created_by == "ada"


async def test_all_that_failed_are_retried(app: Taurine, taurine: Callable[..., Any]) -> None:
    """Of a filter those that failed, where no status is said; of the tenant that is named."""
    await waiting_and_failed(app, waiting=1, failed=3)

    counted = await taurine("retry", "--tenant", "acme", "--dry-run", "--json")
    others = await taurine("retry", "--tenant", "globex", "--all", "--yes", "--json")
    again = await taurine("retry", "--tenant", "acme", "--since", "1h", "--yes")

    assert counted.json == {"number": 3, "exact": True}
    assert others.json == {"number": 0, "exact": True}
    assert (again.code, again.out) == (0, "3 jobs are queued again.\n"), again.err
    assert await statuses(app, type="note.write") == ["queued"] * 4


async def test_a_question_says_how_many_and_which(
    app: Taurine, taurine: Callable[..., Any], terminal: Callable[..., Terminal]
) -> None:
    await waiting_and_failed(app)
    nobody = await taurine("cancel", "--tag", "late")
    asked = terminal("cancel", "--tag", "late", "--limit", "2")

    await asked.until(r"Cancel 2 of 3 open jobs with the tag late\? \[y/N\] ")
    asked.press("\r")

    assert (await asked.ended(), nobody.code) == (4, 2)
    assert "say --yes" in nobody.err
    assert await statuses(app, tag="late") == ["queued"] * 3


async def test_ctrl_c_stops_it_half_way(app: Taurine, terminal: Callable[..., Terminal]) -> None:
    """What was changed until then stays so, and is said; the rest is left alone."""
    await waiting_and_failed(app, waiting=40)
    slow = terminal("cancel", "--type", "late.write", "--rate", "5", "--yes")
    await slow.until(r"running .* of 40")

    slow.press("\x03")

    assert await slow.ended() == 130
    assert "Traceback" not in slow.text
    left = await statuses(app, type="late.write", status="queued")
    assert 0 < len(left) < 40
    assert f"Stopped; {40 - len(left)} were changed." in slow.text
    assert [record.status for record in await app.bulk.list()] == ["cancelled"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel"], "expected the ids of jobs, a filter such as --type, or --all"),
        (["retry", "a", "--type", "x"], "expected ids, or a filter, or --all; got several of them"),
        (["retry", "a", "--dry-run"], "--limit, --rate and --dry-run are of a filter"),
        (["retry", "--all", "--edit", "7"], "--edit is for one job"),
        (["cancel", "--status", "quued"], "expected --status to be one of queued, "),
        (["cancel", "--status", "failed", "--yes"], "expected the status of jobs to cancel to be one of queued, "),
        (["cancel", "--all", "--since", "soon"], "expected --since to be seconds"),
    ],
)
async def test_what_is_meant_must_be_said(taurine: Callable[..., Any], words: list[str], said: str) -> None:
    """Exit code 2: nothing at all is not taken for everything."""
    ended = await taurine(*words)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
