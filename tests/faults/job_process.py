"""A process of an application, which the fault tests kill: a worker with its loops, or a relay of the outbox alone.

Its one argument is the JSON that JobProcess makes. It writes `ready`, works until SIGTERM or the end of its input, and
records in the history what its handler does. A relay may be told a point at which it kills itself, the first time that
it comes there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from support.history import History
from taurine.app import Taurine
from taurine.clock import SystemClock
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.handover.outbox import Outbox
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.runtime.execution import Execution
from taurine.ledger import database
from taurine.ledger.records import JobRecord
from taurine.options import Keep
from taurine.queue import Job

__all__ = ["POINTS", "Load", "make_application", "make_outbox"]

POINTS = (
    "before read",
    "after read",
    "before publish",
    "after publish of one queue",
    "after publish",
    "before mark",
    "after mark",
)
"""The points at which a relay may die, in the order in which it comes to them."""


_token: ContextVar[str] = ContextVar("token", default="")
"""Of the handler that was called in this task; empty in the task of a job that was not run."""


class Load(BaseModel):
    name: str
    ms: float = 0.0


def make_application(
    settings: dict[str, Any], history: History | None = None, worker: str = ""
) -> tuple[Taurine, JobType[Load, str], JobType[Load, str]]:
    """The application of the fault tests, with one job type on the queue `q` and one on `r`.

    The setting `lock_seconds` is for tests whose ledger is away: how long a call waits for it. It holds for the whole
    process.
    """
    if "lock_seconds" in settings:
        database._LOCK_SECONDS = settings["lock_seconds"]  # pyright: ignore[reportPrivateUsage] - scaled
    app = Taurine(
        "faults",
        redis_url=settings["url"],
        database_url=settings["database_url"],
        prefix=settings["prefix"],
        home=settings["home"],
        lease=settings.get("lease", 3.0),
    )
    starts = 0

    async def task(payload: Load) -> str:
        nonlocal starts
        starts += 1
        token = f"{worker}/{starts}"
        _token.set(token)
        if history is not None:
            history.start(payload.name, token=token, worker=worker)
            history.effect(payload.name, token=token, worker=worker)
        try:
            await asyncio.sleep(payload.ms / 1000)
        finally:
            if history is not None:
                # It is the record that says whether the job has ended; until it does, whoever loses the lease has the job run again.
                history.finish(payload.name, token=token, worker=worker, outcome="returned")
        return payload.name

    kept = Keep(count=settings.get("keep", 50))  # few, so that an end is not remembered by the queue
    one = app.job("load.one", queue="q", job_id="{name}", keep_completed=kept)(task)
    two = app.job("load.two", queue="r", job_id="{name}", keep_completed=kept)(task)
    return app, one, two


def make_outbox(backend: Backend, outbox: Callable[..., Outbox] = Outbox, **options: Any) -> Outbox:
    """An outbox beside the application's own."""
    return outbox(
        database=backend.database,
        dispatcher=backend.dispatcher,
        catalog=backend.catalog,
        take_out=backend.take_out,
        clock=SystemClock(),
        random=Random(),
        **options,
    )


def _note_ends(history: History, worker: str) -> None:
    """Put down the end of each delivery that has run: the ledger has answered to its outcome, and what befalls its
    lease from now on repeats nothing.
    """
    run = Execution.run

    async def run_and_note(self: Execution, job: Job) -> Any:
        try:
            return await run(self, job)
        finally:
            if token := _token.get():
                history.finish(job.id, token=token, worker=worker, outcome="over")

    Execution.run = run_and_note


def _die_at(point: str) -> None:
    """Make this process kill itself at a point of POINTS."""

    def reach(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    read, dispatch, add = Outbox._next, Dispatcher.dispatch, Dispatcher._add  # pyright: ignore[reportPrivateUsage] - the points are inside

    async def next_(self: Outbox, age: int) -> list[JobRecord]:
        reach("before read")
        records = await read(self, age)
        if records:
            reach("after read")
        return records

    async def add_(self: Dispatcher, queue: Any, entries: Sequence[Any]) -> None:
        reach("before publish")
        await add(self, queue, entries)
        reach("after publish of one queue" if queue.name == "q" else "after publish")

    async def dispatch_(self: Dispatcher, records: Sequence[JobRecord]) -> int:
        submit = self._group.submit  # pyright: ignore[reportPrivateUsage]

        def marking(*arguments: Any) -> Awaitable[Any]:
            reach("before mark")
            return submit(*arguments)

        self._group.submit = marking  # pyright: ignore
        try:
            done = await dispatch(self, records)
        finally:
            self._group.submit = submit  # pyright: ignore
        reach("after mark")
        return done

    Outbox._next, Dispatcher.dispatch, Dispatcher._add = next_, dispatch_, add_  # pyright: ignore


async def main(settings: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.ERROR)
    name = settings["name"]
    history = History(Path(settings["history"]))
    app, *_ = make_application(settings, history, name)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin, stopping.set)
    if settings.get("role") == "relay":
        _die_at(settings.get("point", ""))
        backend = app._backend()  # pyright: ignore[reportPrivateUsage] - a relay is not made by users
        await backend.ready()
        outbox = make_outbox(backend, interval=0.1)
        print("ready", flush=True)
        outbox.start()
        await stopping.wait()
        await outbox.stop()
    else:
        _note_ends(history, name)
        upkeep = Upkeep(reconcile_every=settings.get("reconcile_every", 0.5), reconcile_age=0.5)
        async with app.worker(
            concurrency=settings["concurrency"], stalled_interval=1.0, upkeep=upkeep, name=name, max_crashes=50
        ):
            print("ready", flush=True)
            await stopping.wait()
    await app.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
