"""Jobs for tests of worker processes: an errand's payload says what becomes of it, and what it did is in a history
outside of the system under test.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from support.history import History
from taurine.app import Taurine
from taurine.jobs.catalog.declaring import JobTypeOptions
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.enqueue.watching import RecordWatch
from taurine.jobs.handler.context import Context

__all__ = ["Errand", "declare_errands", "enqueue_errands", "process_errand"]


class Errand(BaseModel):
    """seconds: how long it takes. ends: how; "recorded": the worker is killed when the record has the end and the queue
    has not.
    """

    number: str
    seconds: float = 0.0
    ends: Literal["well", "exit", "segfault", "recorded"] = "well"


def declare_errands(app: Taurine, history: History | None = None, *, worker: str = "") -> JobType[Errand, str]:
    """Declare `errand.run` on queue "errands"; with a history, its handler writes down each start and effect, and each
    end that the ledger accepted.
    """
    rules: JobTypeOptions = {"queue": "errands", "job_id": "{number}", "keep_completed": True, "keep_failed": True}
    if history is None:
        return app.declare("errand.run", Errand, str, **rules)
    tokens: dict[str, str] = {}
    deadly: set[str] = set()

    async def run(errand: Errand, ctx: Context) -> str:
        token = tokens[errand.number] = f"{errand.number}/{ctx.fence}"
        history.start(errand.number, token=token, worker=worker)
        history.effect(errand.number, token=token, worker=worker)
        if errand.ends == "exit":
            os._exit(9)
        if errand.ends == "segfault":
            ctypes.string_at(0)
        if errand.ends == "recorded":
            deadly.add(errand.number)
        await asyncio.sleep(errand.seconds)
        return worker

    tell = RecordWatch.tell

    def tell_and_note(self: RecordWatch, job_id: str) -> None:
        tell(self, job_id)
        if token := tokens.pop(job_id, None):
            history.finish(job_id, token=token, worker=worker, outcome="completed")
        if job_id in deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    RecordWatch.tell = tell_and_note  # once the record has the end, and before the queue is told
    return app.declare("errand.run", Errand, str, **rules).handler(run)


async def enqueue_errands(
    errands: JobType[Errand, str], history: History, numbers: Sequence[str], *, seconds: float = 0.0
) -> None:
    """Enqueue them in slices, each put down as acked, refused or unknown."""
    for first in range(0, len(numbers), 500):
        part = numbers[first : first + 500]
        with history.enqueuing(*part):
            await errands.enqueue_many([Errand(number=number, seconds=seconds) for number in part])


def process_errand(errand: Errand) -> int:
    """For the executors: which process ran it."""
    return os.getpid()
