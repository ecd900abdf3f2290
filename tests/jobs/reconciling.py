"""What the tests of the loops work on: jobs that run at once, wait, or are kept running, on the queue `q`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.reconciler.full_look import FullLook
from taurine.jobs.reconciler.mending import Mender
from taurine.jobs.reconciler.reconciler import Reconciler
from taurine.jobs.reconciler.undeclared import UndeclaredJobs
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.alerts import Alerts
from taurine.jobs.worker.worker import JobWorker
from taurine.ledger.records import JobRecord

__all__ = ["NO_UPKEEP", "Note", "Notes", "backend_of", "full_look", "reconciler", "undeclared", "until_status"]

NO_UPKEEP = Upkeep(reconcile_every=None, expire_every=None, purge_every=None)
"""A worker with none of the loops: the test runs the one that it is about."""


class Note(BaseModel):
    name: str
    holds: bool = False
    """True for a job that runs until `Notes.go` is set."""


class Notes:
    """An application with the job type `note`, and what its handler has done."""

    def __init__(self, app: Taurine, **options: Any) -> None:
        self.app = app
        self.ran: list[str] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()

        @app.job("note", queue="q", job_id="note-{name}", **options)
        async def note(payload: Note) -> str:
            self.ran.append(payload.name)
            self.started.set()
            if payload.holds:
                await self.go.wait()
            return payload.name

        self.type: JobType[Note, str] = note

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[JobWorker]:
        """With a worker that runs them."""
        async with self.app.worker(concurrency=5, upkeep=NO_UPKEEP) as worker:
            yield worker

    async def add(self, *names: str, **options: Any) -> None:
        """Enqueue jobs of these names, and return when they are in the queue and their records say so."""
        for name in names:
            await self.type.enqueue(Note(name=name), **options)

        async def dispatched() -> bool:
            records = [await self.record(name) for name in names]
            return all(record.dispatched_at is not None for record in records)

        await eventually(dispatched, 10, "they were not handed over")

    async def record(self, name: str) -> JobRecord:
        record = await self.app.get(f"note-{name}")
        assert record is not None, f"no record of {name}"
        return record


def backend_of(app: Taurine) -> Backend:
    """What is open on this loop."""
    return app._backend()  # pyright: ignore[reportPrivateUsage] - the loops are made from it


def reconciler(app: Taurine, **options: Any) -> Reconciler:
    """A reconciler that looks at everything, however young."""
    backend, age = backend_of(app), options.get("age", 0.0)
    usual: dict[str, Any] = {
        "database": backend.database,
        "mender": _mender(backend, age),
        "undeclared": undeclared(app),
        "catalog": backend.catalog,
        "queue": backend.queue,
        "take_out": backend.take_out,
        "clock": backend.clock,
        "random": backend.random,
        "age": age,
    }
    return Reconciler(**(usual | options))


def full_look(app: Taurine, **options: Any) -> FullLook:
    """The service, which is to be asked."""
    backend = backend_of(app)
    return FullLook(
        mender=_mender(backend, 10.0),
        catalog=backend.catalog,
        queue=backend.queue,
        database=backend.database,
        clock=backend.clock,
        random=backend.random,
        **options,
    )


def undeclared(app: Taurine, alerts: Alerts | None = None) -> UndeclaredJobs:
    """What looks for jobs that nobody hands over. Default: nobody is alerted."""
    backend = backend_of(app)
    return UndeclaredJobs(
        database=backend.database,
        dispatcher=backend.dispatcher,
        catalog=backend.catalog,
        alerts=alerts or Alerts(None),
        clock=backend.clock,
    )


def _mender(backend: Backend, age: float) -> Mender:
    return Mender(
        database=backend.database,
        dispatcher=backend.dispatcher,
        catalog=backend.catalog,
        queue=backend.queue,
        told=backend.watch.tell,
        clock=backend.clock,
        age_ms=round(age * 1000),
    )


async def until_status(notes: Notes, name: str, status: str, within: float = 10.0) -> JobRecord:
    """The record of a job once it has this status."""

    async def has_status() -> JobRecord | None:
        record = await notes.record(name)
        assert record.status == status, f"it is {record.status}: {record.error}"
        return record

    found = await eventually(has_status, within, f"{name} did not get the status {status}")
    assert found is not None
    return found
