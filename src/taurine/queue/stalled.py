"""Putting back jobs whose worker is gone."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from taurine.ids import public_id
from taurine.queue.store import QueueStore
from taurine.service import Service

__all__ = ["StalledSweep"]


_COUNTS_FOR = 0.85
"""Part of the interval for which one worker's look counts for all. Jitter makes the pause between two looks of a worker
up to a tenth shorter than the interval, and a look that comes too early is left out: it would be the next one then
that finds the job, a whole interval later.
"""


class StalledSweep(Service[list[str]]):
    """Looks for active jobs without a lease; the first of all workers to look in an interval does it for all.

    interval: seconds. max_stalled: times that a job may be put back before it is failed by its next claim.
    known_empty: tells that the queue was seen to hold nothing lately, which spares the look.
    """

    def __init__(
        self,
        store: QueueStore,
        *,
        interval: float,
        max_stalled: int,
        on_stalled: Callable[[str], None],
        known_empty: Callable[[], bool],
        random: Random,
    ) -> None:
        super().__init__(
            name=f"stalled sweep of {store.keys.name}", interval=interval, clock=store.clock, random=random
        )
        self._store = store
        self._max_stalled = max_stalled
        self._on_stalled = on_stalled
        self._known_empty = known_empty

    async def run_once(self) -> list[str]:
        """One sweep; returns the ids of the jobs that were put back, none when another worker swept lately."""
        if self._known_empty():
            return []
        counts_ms = int(self.interval * 1000 * _COUNTS_FOR)
        stored = await self._store.run("sweep", self._store.now_ms(), counts_ms, self._max_stalled)
        recovered = [public_id(raw.decode()) for raw in stored or ()]
        for job_id in recovered:
            self._on_stalled(job_id)
        return recovered
