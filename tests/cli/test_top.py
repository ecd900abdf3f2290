"""`taurine top` and `taurine workers`: how the queues do, and who works on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cli.terminal import Terminal
from support.eventually import eventually
from taurine.app import Taurine
from taurine.ledger.database import open_database
from taurine.ledger.workers import list_workers, write_worker


async def one_waits_and_one_is_done(app: Taurine) -> None:
    @app.job("note.write", queue="notes")
    async def write(text: str) -> str:
        return text

    @app.job("late.write", queue="late")
    async def late(text: str) -> None: ...

    async with app.worker(queues=["notes"]):
        handle = await write.enqueue("a")
        await app.wait(handle.id, 20)
    await late.enqueue("b")


async def test_one_look_at_the_queues(app: Taurine, taurine: Callable[..., Any]) -> None:
    await one_waits_and_one_is_done(app)

    shown = await taurine("top", "--once")
    told = await taurine("top", "--once", "--json")

    head, *rows = shown.out.splitlines()
    assert (shown.code, told.code) == (0, 0), shown.err
    assert head.split()[:5] == ["queue", "waiting", "active", "retrying", "jobs/s"]
    (late,) = [row for row in rows if row.startswith("late")]
    assert late.split()[:4] == ["late", "1", "0", "0"]
    assert late.endswith("nobody works on it")
    assert re.search(r"UTC · 1 waiting · 0 active · \d", shown.err)
    (line,) = told.out.splitlines()
    queues = {queue["queue"]: queue for queue in json.loads(line)["queues"]}
    assert queues["late"]["oldest"] > 0
    assert (queues["late"]["workers"], queues["notes"]["waiting"]) == (0, 0)
    assert queues["notes"]["rate"] > 0, "a worker counts what it has run by its end"
    assert queues["notes"]["failed"] == 0


async def test_it_looks_again_until_ctrl_c(app: Taurine, terminal: Callable[..., Terminal]) -> None:
    await one_waits_and_one_is_done(app)
    watching = terminal("top", "--every", "100ms")
    as_lines = terminal("top", "--every", "100ms", "--json", columns=2000)
    await watching.until(r"late +1 +0 ")
    await as_lines.until('"queue": "late", "waiting": 1')

    async for record in app.list(type="late.write"):
        await app.cancel(record.id)

    await watching.until(r"late +0 +0 ")
    await as_lines.until('"queue": "late", "waiting": 0')
    for one in (watching, as_lines):
        one.press("\x03")
        assert await one.ended() == 130
        assert "Traceback" not in one.text


async def test_workers_that_run_and_that_are_lost(app: Taurine, taurine: Callable[..., Any], tmp_path: Path) -> None:
    """One that was killed is shown until it is forgotten; one that has stopped only where that is asked for."""
    await one_waits_and_one_is_done(app)
    none = await taurine("workers")
    async with app.worker(queues=["notes"], concurrency=7, name="w-1"):

        async def told() -> bool:
            return bool(await app.workers.list())

        await eventually(told, 20, "it tells of itself")
        running = await taurine("workers", "--json")
        database = open_database(f"sqlite:///{tmp_path / 'taurine.db'}")
        (row,) = [row for row in await database.read(list_workers) if row.stopped_at is None]
        long_ago = row.seen_at - round(timedelta(hours=1).total_seconds() * 1000)
        await database.write(lambda connection: write_worker(connection, _as_of(row, long_ago)))
        await database.close()
        lost = await taurine("workers")
    stopped = await taurine("workers", "--all")

    assert (none.code, none.out) == (0, "")
    assert "hint: `taurine worker` starts one" in none.err
    (worker,) = running.json["workers"]
    assert (worker["name"], worker["queues"], worker["slots"], worker["state"]) == ("w-1", ["notes"], 7, "running")
    assert re.search(r"w-1 .*notes .* lost\n", lost.out)
    assert "a lost worker was killed" in lost.err
    assert stopped.out.count("stopped") == 2


def _as_of(row: Any, seen_at: int) -> Any:
    from dataclasses import replace

    return replace(row, id="killed", seen_at=seen_at)


async def test_busy_slots_are_shown_where_they_are_told(taurine: Callable[..., Any], app: Taurine) -> None:
    """A worker of two queues tells of all its jobs together, so that neither queue's line has them; the last line has
    the sum.
    """
    for name, queue in (("invite.send", "mail"), ("file.copy", "files"), ("list.walk", "slow")):
        app.job(name, queue=queue)(_nothing)
    async with app.worker(queues=["mail", "files"], concurrency=3), app.worker(queues=["slow"], concurrency=2):
        await eventually(lambda: _both_report(app), 20, "the workers do not report")
        shown = await taurine("top", "--once", "--json")
        said = await taurine("top", "--once")
    lines = {line["queue"]: (line["busy"], line["slots"]) for line in shown.json["queues"]}
    assert lines == {"slow": (0, 2), "mail": (None, None), "files": (None, None)}
    assert "0 of 8 slots busy" in said.err  # three of each queue of the one, two of the other


async def _both_report(app: Taurine) -> bool:
    return len([one for one in await app.workers.list() if one.state == "running"]) == 2


async def _nothing(_: None) -> None: ...
