"""Processes of an application under test, and what its records show afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from faults.job_process import Load
from faults.workers import WorkerProcess
from support.eventually import eventually
from support.history import History, Verdict, check
from support.store import RawStore
from taurine.app import Taurine
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.database import Database
from taurine.ledger.schema import job
from taurine.ledger.statuses import OPEN

__all__ = [
    "JobProcess",
    "backend_of",
    "enqueue_all",
    "generations",
    "hits_all_leases",
    "job_process",
    "judge",
    "open_ids",
    "statuses",
    "until_all_ended",
    "with_its_leases",
]


class JobProcess(WorkerProcess):
    """One process of the application: a worker with its loops, or a relay. options: see job_process.py."""

    program = "job_process.py"


def job_process(settings: Mapping[str, Any], history: History, name: str, **more: Any) -> JobProcess:
    """A process of the application with these settings, not started yet. more: settings of this process alone."""
    shared = {key: value for key, value in settings.items() if key not in ("url", "prefix")}
    return JobProcess(settings["url"], settings["prefix"], history, name=name, **shared, **more)


def hits_all_leases(history: History, note: str, *workers: str) -> None:
    """Put down a fault in every lease that these workers hold."""
    for worker in workers:
        history.fault(note, worker=worker)


async def with_its_leases(store: RawStore, prefix: str, *command: str | int) -> Counter[str]:
    """Have the server do something that ends all leases; returns the jobs of the queue `q` that were leased at that
    very moment.

    The workers' own notes tell of others: a handler starts a while after its lease, when the reply has come; and on a
    busy machine leases are granted between a note here and the command. So jobs would run twice that no fault explains.
    """
    async with store.pipeline(transaction=True) as both:
        both.lrange(f"{prefix}:q:active", 0, -1)
        both.execute_command(*command)
        active, _ = await both.execute()
    return Counter(active)


def backend_of(app: Taurine) -> Backend:
    """What is open on this loop."""
    return app._backend()  # pyright: ignore[reportPrivateUsage] - the tests look inside


async def enqueue_all(job_type: JobType[Load, str], history: History, names: Sequence[str], ms: float = 10.0) -> None:
    """Enqueue jobs of these names in slices, each put down as acked, refused or unknown."""
    for first in range(0, len(names), 500):
        part = names[first : first + 500]
        with history.enqueuing(*part):
            await job_type.enqueue_many([Load(name=name, ms=ms) for name in part])


async def statuses(database: Database) -> dict[str, str]:
    """The status of each record."""
    return await database.read(
        lambda connection: {row.id: row.status for row in connection.execute(select(job.c.id, job.c.status))}
    )


async def generations(database: Database) -> Mapping[str, int]:
    """The generation of each record."""
    return await database.read(
        lambda connection: {row.id: row.generation for row in connection.execute(select(job.c.id, job.c.generation))}
    )


async def open_ids(database: Database) -> set[str]:
    return {job_id for job_id, status in (await statuses(database)).items() if status in OPEN}


async def until_all_ended(database: Database, ended: int, *, within: float = 60.0) -> None:
    """Wait until so many records have ended."""

    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).where(job.c.status.not_in(OPEN))).scalar_one()

    async def have_ended() -> bool:
        found = await database.read(count)
        assert found >= ended, f"{found} of {ended} records have ended"
        return True

    await eventually(have_ended, within, "the jobs did not end", every=0.05)


async def _at_rest(app: Taurine) -> int:
    """The divergence that stays once everything has ended."""

    async def none() -> bool:
        found = await app.compare()
        assert found.total == 0, str(found)
        return True

    try:
        await eventually(none, 8, every=0.2)
    except AssertionError:
        return (await app.compare()).total
    return 0


async def judge(
    app: Taurine,
    history: History,
    figure: Callable[[str], None],
    figures: str = "",
    *,
    faults: Mapping[str, int] | None = None,
) -> Verdict:
    """Judge by the records what has come to rest, print the figures, and require that nothing is wrong and every job
    completed.

    figures: put before those of the verdict. faults: as for `check`.
    """
    divergent = await _at_rest(app)
    shown = await statuses(backend_of(app).database)
    verdict = check(history, states=shown, faults=faults, divergent=divergent)
    figure(f"{figures}; {verdict.summary()}" if figures else verdict.summary())
    verdict.require()
    assert set(shown.values()) == {"completed"}
    return verdict
