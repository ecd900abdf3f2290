"""A worker process that a test stops, kills and continues: python executed_worker.py '{"redis_url": …, …, "mode":
"…"}'.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.executed import Task, note
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry

RETRY = Retry(attempts=5, backoff=Fixed(0))


def declare(app: Taurine, mode: str) -> Any:
    """The job type `task`, whose handler behaves as the mode says. The test declares it too, for its own worker."""

    @app.job("ticket.triage", queue="tasks", job_id="task:{number}", tenant="{tenant_id}", retry=RETRY)
    async def task(task: Task, ctx: Context) -> str:
        note(task, f"begins {os.getpid()}")
        match mode:
            case "slow":
                ctx.log("from the first")
                try:
                    while True:
                        ctx.progress(90, 100)
                        await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    note(task, f"cancelled {os.getpid()}")
                    raise
            case "finish":
                await asyncio.sleep(0.05)
            case "hog":  # blocks the event loop and every lease with it
                time.sleep(4)  # noqa: ASYNC251 - what is tested
                return "hog"
            case "kill in effect":
                await ctx.once("charge:1", kill_after, task)
            case "effect":
                return await ctx.once("charge:1", charge, task)
            case "look up":
                return await ctx.once("charge:1", charge, task, look_up=lambda: looked_up(task))
            case "batches" | "dying batches":
                await in_batches(task, ctx, dies=mode.startswith("dying"))
            case _:
                raise AssertionError(mode)
        return f"by {mode}"

    return task


def charge(task: Task) -> str:
    note(task, "charged")
    return "receipt"


def kill_after(task: Task) -> None:
    note(task, "charged")
    os.kill(os.getpid(), signal.SIGKILL)


def looked_up(task: Task) -> str | None:
    return "found receipt" if "charged" in Path(task.path).read_text() else None


async def in_batches(task: Task, ctx: Context, *, dies: bool) -> None:
    """A cursor over 50 items in batches of 5, saved after each; a process that dies does so in the middle of a batch."""
    for first in range(ctx.state.get("cursor", 0), 50, 5):

        def do_batch(first: int = first) -> None:
            for item in range(first, first + 5):
                note(task, f"item {item}")

        await ctx.once(f"batch:{first}", do_batch)
        if dies and first == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        ctx.state = {"cursor": first + 5}
        ctx.progress(first + 5, 50)
        await ctx.save()


async def main() -> None:
    settings = json.loads(sys.argv[1])
    mode = settings.pop("mode")
    app = Taurine("executed", **settings)
    declare(app, mode)
    await app.worker(concurrency=1, lease=0.6, stalled_interval=0.2).run(handle_signals=True)
    await app.close()


if __name__ == "__main__":
    asyncio.run(main())
