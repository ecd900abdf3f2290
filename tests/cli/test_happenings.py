"""`taurine events` and `taurine audit`: what happens, and who did what."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cli.terminal import Terminal
from taurine.app import Taurine
from taurine.retry import Retry


async def one_is_done_and_one_fails(app: Taurine) -> None:
    @app.job("note.write", queue="notes", retry=Retry.NONE)
    async def write(text: str) -> str:
        if text == "bad":
            raise ValueError("no such note")
        return text

    async with app.worker(queues=["notes"]):
        for text in ("good", "bad"):
            handle = await write.enqueue(text, job_id=text)
            await app.wait(handle.id, 20)


async def test_what_has_happened(app: Taurine, taurine: Callable[..., Any]) -> None:
    await one_is_done_and_one_fails(app)
    asked = ("events", "--queue", "notes", "--since", "1h", "--only", "completed", "--only", "failed", "--limit", "2")

    told = await taurine(*asked, "--json")
    shown = await taurine(*asked)
    unknown = await taurine("events", "--queue", "nots")

    completed, failed = map(json.loads, told.out.splitlines())
    assert (completed["event"], completed["job_id"], completed["result"]) == ("completed", "good", "good")
    assert (failed["event"], failed["queue"], failed["reason"]) == ("failed", "notes", "no such note")
    assert [line.split()[1:4] for line in shown.out.splitlines()] == [
        ["notes", "completed", "good"],
        ["notes", "failed", "bad"],
    ]
    assert unknown.code == 1
    assert "did you mean 'notes'?" in unknown.err


async def test_what_happens_in_several_queues_until_ctrl_c(
    app: Taurine, terminal: Callable[..., Terminal], taurine: Callable[..., Any]
) -> None:
    listening = terminal("events", columns=200)
    await listening.until("Listening")

    await taurine("enqueue", "file.copy", '"a"', "--id", "copy-a")
    await taurine("enqueue", "invite.send", '{"user": "ada", "address": "a@x.org"}')

    await listening.until(r"files +added +copy-a")
    await listening.until(r"mail +added +invite:ada")
    listening.press("\x03")
    assert await listening.ended() == 130
    assert "Traceback" not in listening.text


async def test_who_did_what(app: Taurine, taurine: Callable[..., Any]) -> None:

    await one_is_done_and_one_fails(app)
    await taurine("retry", "bad", "--user", "ada")
    await taurine("queues", "pause", "notes", "--user", "grace")

    of_job = await taurine("audit", "bad")
    by_grace = await taurine("audit", "--by", "grace", "--since", "1h", "--json")
    first = await taurine("audit", "--limit", "1")
    both = await taurine("audit", "bad", "--by", "ada")

    (row,) = of_job.out.splitlines()[1:]
    assert row.split()[2:5] == ["ada", "retry", "bad"]
    (action,) = by_grace.json["actions"]
    assert (action["action"], action["detail"], action["job_id"]) == ("pause_queue", {"queue": "notes"}, None)
    assert "pause_queue" in first.out
    assert "there are more: add --cursor" in first.err
    assert both.code == 2


async def test_dead_letters_are_counted_before_they_are_touched(app: Taurine, taurine: Callable[..., Any]) -> None:
    await one_is_done_and_one_fails(app)

    counted = await taurine("dead", "redrive", "--queue", "notes", "--dry-run")
    told = await taurine("dead", "discard", "--all", "--dry-run", "--json")
    by_id = await taurine("dead", "redrive", "bad", "--dry-run")

    assert counted.out == "There are 1 open dead letters of queue notes; nothing was changed.\n"
    assert told.json == {"number": 1, "exact": True}
    assert by_id.code == 2
    assert await app.dead_letters.depth() == {"notes": 1}
