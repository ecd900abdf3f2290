"""Running a worker in this process, with something beside it: what `worker` and `dev` share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.jobs.worker.processes import WorkerProcesses
    from taurine.jobs.worker.worker import JobWorker

__all__ = ["plan_of", "run_beside", "until_empty"]

_LOOK_SECONDS = 0.2
"""Seconds between two looks whether anything is left to do."""


def plan_of(app: Taurine, queues: list[str] | None, concurrency: Any) -> dict[str, int]:
    """Jobs at once by queue, as a worker of these options will have it.

    Raises InvalidOption for a queue that no job type goes to.
    """
    from taurine.jobs.worker.options import WorkerRules

    rules = WorkerRules.made({"queues": queues, "concurrency": concurrency})
    return {
        queue: rules.slots_of(queue, app.catalog, app.settings.concurrency) for queue in rules.queues_of(app.catalog)
    }


async def run_beside(
    app: Taurine,
    worker: JobWorker | WorkerProcesses,
    beside: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Run a worker until a signal, or until what runs beside it comes to its end.

    A second signal ends its grace at once.
    """
    async with app:
        running = asyncio.ensure_future(worker.run(handle_signals=True))
        other = None if beside is None else asyncio.ensure_future(beside())
        try:
            await asyncio.wait({running} if other is None else {running, other}, return_when=asyncio.FIRST_COMPLETED)
            if other is not None and other.done():
                await worker.stop()
            await running
        finally:
            if other is not None:
                other.cancel()
                await asyncio.wait({other})
        if other is not None and not other.cancelled():
            other.result()


async def until_empty(app: Taurine, queues: list[str]) -> None:
    """Return when nothing of these queues is due, runs, or is to go on; see `Queues.has_work`.

    An outage of a server is waited out.
    """
    from taurine.errors import LedgerUnavailable, StoreUnavailable

    while True:
        try:
            if not await app.queues.has_work(queues):
                return
        except (LedgerUnavailable, StoreUnavailable):
            pass
        await asyncio.sleep(_LOOK_SECONDS)
