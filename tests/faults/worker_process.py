"""A worker as a process of its own, which the fault tests freeze and kill. Its one argument is a WorkerSettings as JSON.

It writes one line when it is ready, works until its input ends or SIGTERM comes, and records what it does in the history.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.history import History
from support.tasks import perform
from taurine.queue import Job, Worker
from taurine.queue import scripts
from taurine.queue import turn_link


async def main(settings: dict[str, Any]) -> None:
    broken = settings.pop("broken")
    directory, queue, url = Path(settings.pop("history")), settings.pop("queue"), settings.pop("url")
    history = History(directory)
    name = settings["name"]
    ended_at: dict[str, float] = {}

    def lease(job: Job) -> str:
        return f"{job.token}/{job.id}"

    async def work(job: Job) -> Any:
        history.start(job.id, token=lease(job), worker=name)
        history.effect(job.id, token=lease(job), worker=name)
        try:
            return await perform(job)
        finally:
            ended_at[lease(job)] = time.monotonic()

    async def work_after_the_answer(job: Job) -> Any:
        later.add(asyncio.create_task(work_late(job)))

    async def work_late(job: Job) -> None:
        await perform(job)
        await work(job)

    later = set[asyncio.Task[None]]()

    def finish(job: Job, outcome: str, *, accepted: bool = True) -> None:
        called = ended_at.pop(lease(job), None)
        history.finish(job.id, token=lease(job), worker=name, outcome=outcome, accepted=accepted, called=called)

    if broken == "heeds no lease":
        _patch_turn("if not holder then return -2 end", "")
        _patch_turn("if holder ~= owner then return -6 end", "")
    elif broken == "drops one":
        _patch_turn("local job = activate(id)", "local job = id ~= 'j500' and activate(id)")
    handler = work_after_the_answer if broken == "answers before it runs" else work

    worker = Worker(queue, handler, url, **settings)
    worker.on("completed", lambda job, _: finish(job, "completed"))
    worker.on("failed", lambda job, _: job and finish(job, "retried" if job.attempts_made + 1 < job.options.attempts else "failed"))
    worker.on("lease_lost", lambda job: finish(job, "completed", accepted=False))
    worker.on("error", lambda error: print(json.dumps({"error": repr(error)}), file=sys.stderr, flush=True))
    worker.on("ready", lambda: print("ready", flush=True))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin, stopping.set)
    async with worker:
        await stopping.wait()


def _patch_turn(old: str, new: str) -> None:
    """Break the turn script of this process, as a bug in it would."""
    script = scripts.load("turn")
    assert old in script.text
    broken = scripts.Script.of(script.text.replace(old, new)) if hasattr(scripts.Script, "of") else None
    raise NotImplementedError


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(sys.argv[1])))
