"""A worker as a process of its own, which the fault tests freeze and kill.

Its one argument is the JSON that WorkerProcess makes.

It writes `ready`, works until SIGTERM or the end of its input, and records in the history what it does. `broken` makes
it break a promise, as a bug would: the checker must find that. Beside what perform() knows, a job's data may say
`reports`: how often it is to report progress and a log line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from support.history import History
from support.tasks import perform
from taurine.errors import JobError
from taurine.queue import Job, Worker, turn_link
from taurine.queue.scripts import Script, load
from taurine.queue.worker import Handler

__all__ = ["Broken"]

Broken: TypeAlias = Literal["", "answers before it runs", "heeds no lease", "drops one of 1,000"]


class Recorder:
    """Writes down the starts, effects and ends of one worker."""

    def __init__(self, history: History, worker: str) -> None:
        self._history = history
        self._worker = worker
        self._leases: dict[Job, str] = {}
        self._ended_at: dict[Job, float] = {}

    async def work(self, job: Job) -> Any:
        # One token serves all jobs of a turn, and a job that has ended bears none.
        token = self._leases[job] = f"{job.token}/{job.id}"
        self._history.start(job.id, token=token, worker=self._worker)
        self._history.effect(job.id, token=token, worker=self._worker)
        try:
            for number in range(job.data.get("reports", 0)):
                await asyncio.sleep(0.02)
                await self._report(job, number)
            return await perform(job)
        finally:
            self._ended_at[job] = time.monotonic()

    async def _report(self, job: Job, number: int) -> None:
        """Progress and a log line, each put down as accepted or refused; a refusal does not end the handler."""
        for note, write in (("progress", job.update_progress(number)), ("log", job.log(f"line {number}"))):
            called, accepted = time.monotonic(), True
            try:
                await write
            except JobError:
                accepted = False
            self._history.write(
                job.id, token=self._leases[job], worker=self._worker, called=called, accepted=accepted, note=note
            )

    def listen(self, worker: Worker) -> None:
        worker.on("completed", lambda job, _: self._finish(job, "completed"))
        worker.on("failed", lambda job, _: self._finish(job, "retried" if self._has_attempts(job) else "failed"))
        worker.on("lease_lost", lambda job: self._finish(job, "completed", accepted=False))
        worker.on("error", lambda error: print(error, file=sys.stderr, flush=True))
        worker.on("ready", lambda: print("ready", flush=True))

    @staticmethod
    def _has_attempts(job: Job) -> bool:
        return job.attempts_made + 1 < job.options.attempts and job.deferred_failure is None

    def _finish(self, job: Job, outcome: str, *, accepted: bool = True) -> None:
        token, called = self._leases.pop(job, ""), self._ended_at.pop(job, None)
        self._history.finish(
            job.id, token=token, worker=self._worker, outcome=outcome, accepted=accepted, called=called
        )


def _break(how: Broken, work: Handler) -> Handler:
    if how == "heeds no lease":
        owners = "for i = 1, attemptCount do holders[i] = ARGV[HEADER + (i - 1) * FIELDS + 3] end"
        _patch_turn({"return holders\n": f"{owners}\n  return holders\n"})
    elif how == "drops one of 1,000":
        _patch_turn({"if activate(id) then": "if not string.find(id, '500$') and activate(id) then"})
    elif how == "answers before it runs":
        late = set[asyncio.Future[Any]]()

        async def work_late(job: Job) -> None:
            await asyncio.sleep(60)  # longer than the process lives
            await work(job)

        async def answer(job: Job) -> None:
            late.add(asyncio.ensure_future(work_late(job)))

        return answer
    return work


def _patch_turn(changes: dict[str, str]) -> None:
    text = load("turn").text
    for old, new in changes.items():
        assert old in text, f"the turn script has no {old!r} any more"
        text = text.replace(old, new)
    broken = Script("turn", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    turn_link.load = lambda name: broken


async def main(settings: dict[str, Any]) -> None:
    queue, url, directory, broken = (settings.pop(name) for name in ("queue", "url", "history", "broken"))
    recorder = Recorder(History(Path(directory)), settings["name"])
    worker = Worker(queue, _break(broken, recorder.work), url, **settings)
    recorder.listen(worker)

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin, stopping.set)
    async with worker:
        await stopping.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
