"""Knowing when the server of queues may have forgotten what it was told.

Jobs whose records say completed may stand in line again then as if they had never run. Their first delivery is no first
delivery: jobs that were added before the server's last change ask the ledger before they run. And others may be gone,
which somebody has to put back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from random import Random

from taurine.clock import Clock, now_ms
from taurine.errors import StoreRefused
from taurine.pauses import Pauses
from taurine.queue import Job
from taurine.queue.server_changes import ServerChanges
from taurine.service import Service

__all__ = ["RollbackGuard"]

_PAUSE = 0.1
"""Seconds to the next look while it is not known who answers, at first: all jobs ask the ledger meanwhile."""

log = logging.getLogger("taurine.jobs")


class RollbackGuard(Service[float]):
    """The service; one for each connection of workers. A pass returns `until`.

    lost: called with `changes` by each pass that finds a change which nobody has made good. Default: nobody is told.
    interval: seconds from one look to the next. Default: 1. A worker that has lost its connection calls `doubt`, which
    looks at once.
    """

    def __init__(
        self,
        *,
        changes: ServerChanges,
        clock: Clock,
        random: Random,
        lost: Callable[[ServerChanges], None] | None = None,
        interval: float = 1.0,
    ) -> None:
        super().__init__(name="rollback guard", interval=interval, clock=clock, random=random)
        self._changes = changes
        self._lost = lost
        self._asked = asyncio.Event()
        self._pauses = Pauses(first=_PAUSE, longest=interval)
        self._refused = False
        self.until: float = math.inf
        """Jobs that were added at or before this time, ms, ask the ledger before they run."""

    def doubts(self, job: Job) -> bool:
        """Whether a job that is delivered for the first time may have ended before."""
        return job.created_at * 1000 <= self.until

    async def run_once(self) -> float:
        self._asked.clear()
        try:
            change = await self._changes.latest(now_ms(self._clock))
        except StoreRefused as error:
            self._report(error)
            self.until = math.inf
            return self.until
        self._refused = False
        self._pauses.succeeded()
        if not self._asked.is_set():
            self.until = change.since_ms
        if self._lost is not None and not change.made_good:
            self._lost(self._changes)
        return change.since_ms

    def _report(self, error: StoreRefused) -> None:
        # A user who may not call INFO, say: that lasts.
        if not self._refused:
            log.warning(
                "it cannot be known which server of queues answers, so every job asks the ledger before it runs: %s",
                error,
            )
        self._refused = True

    def doubt(self, _: object = None) -> None:
        """The connection was lost: until it is known whom the next one leads to, every job asks."""
        self.until = math.inf
        self._asked.set()

    async def rest(self, seconds: float) -> None:
        if self.until == math.inf:
            await self._clock.sleep(min(seconds, self._pauses.failed()))
        else:
            await self._clock.wait(self._asked, seconds)
