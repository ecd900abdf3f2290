"""What `/metrics` and `/health` look at: one look a second, however many ask."""

from __future__ import annotations

import asyncio
from functools import cached_property

from taurine.app import Taurine
from taurine.errors import LedgerError
from taurine.http.access.caller import Scope
from taurine.jobs.operations.readings import Readings
from taurine.jobs.operations.throughput import Throughput
from taurine.observe.health import HealthLimits, Liveness
from taurine.observe.prometheus import Exposition
from taurine.observe.shared_look import SharedLook

__all__ = ["Instruments"]

_WITHIN = 2.0
"""Seconds that each server has."""

_USUAL_WINDOW = HealthLimits().window


class Instruments:
    """Those of one application. metrics_for: the scope that `/metrics` asks for."""

    def __init__(self, app: Taurine, *, metrics_for: Scope) -> None:
        self.metrics_for: Scope = metrics_for
        self._app = app
        self._readiness = SharedLook(lambda: app.readiness(within=_WITHIN), app.clock)
        self._readings = SharedLook(lambda: app.readings(within=_WITHIN), app.clock)
        self._lately = SharedLook(lambda: self._throughput(_USUAL_WINDOW), app.clock)
        self.readiness = self._readiness.get
        self.lives = Liveness(f"the API of {app.name}", lambda: app.heartbeats).look

    @cached_property
    def exposition(self) -> Exposition:
        """Raises InvalidOption where the extra `metrics` is not installed."""
        return Exposition(self._app, within=_WITHIN)

    async def figures(self, window: float) -> tuple[Readings, list[Throughput] | None]:
        """How the queues are, and what their jobs came to in so many seconds; None where the ledger does not answer in
        time.
        """
        lately = self._lately.get() if window == _USUAL_WINDOW else self._throughput(window)
        readings, found = await asyncio.gather(self._readings.get(), lately)
        return readings, found

    async def _throughput(self, window: float) -> list[Throughput] | None:
        try:
            async with asyncio.timeout(_WITHIN):
                return await self._app.throughput(window=window)
        except (LedgerError, TimeoutError):
            return None
