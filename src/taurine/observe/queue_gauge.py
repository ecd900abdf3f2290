"""How many jobs each queue has, told to a telemetry's gauge by the workers of that queue."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from taurine.clock import Clock
from taurine.jobs.backend import Backend
from taurine.service import Service

__all__ = ["QueueGauge"]

_INTERVAL = 15.0
"""Seconds between two looks. Exporters send a minute's worth at a time, most of them."""


class QueueGauge(Service[None]):
    """Looks at the queues' counts, one call to the server for each. Several workers of a queue tell the same numbers."""

    def __init__(self, backend: Backend, queues: Sequence[str], *, clock: Clock, random: Random) -> None:
        super().__init__(name="queue gauge", interval=_INTERVAL, clock=clock, random=random)
        self._backend = backend
        self._queues = queues

    async def run_once(self) -> None:
        """Tell the gauge of each queue."""
        for name in self._queues:
            queue = await self._backend.queue(name)
            await queue.record_counts()
