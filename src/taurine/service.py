"""The one shape of a background loop: start, stop, run_once.

A subclass says what one pass does; this class owns the task, the interval, the waiting and the logging. `start` twice,
`stop` twice and `stop` before `start` are all harmless. A pass that fails is logged under the service's name and tried
again after the next interval; only cancellation ends the loop.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from random import Random
from typing import Generic, TypeVar

from taurine.clock import Clock
from taurine.errors import LedgerUnavailable, StoreUnavailable
from taurine.heartbeat import Heartbeat

__all__ = ["Service"]

log = logging.getLogger("taurine")

ResultT = TypeVar("ResultT")


class Service(ABC, Generic[ResultT]):
    """A loop that runs `run_once` every `interval` seconds until it is stopped.

    jitter: 0 to 1, the part of each interval that is random, so that many processes do not work in step.
    """

    def __init__(self, *, name: str, interval: float, clock: Clock, random: Random, jitter: float = 0.1) -> None:
        self.name = name
        self.interval = interval
        self._clock = clock
        self._random = random
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None
        self.heartbeat = Heartbeat(name, clock)
        """When it turned last. A pass that may take longer than a minute tells of its steps by `heartbeat.turn()`."""

    @abstractmethod
    async def run_once(self) -> ResultT:
        """One pass; returns what it did."""

    async def rest(self, seconds: float) -> None:
        """Wait for the next pass. A subclass that can be told of work waits for that too."""
        await self._clock.sleep(seconds)

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Run passes in the background, the first one at once."""
        if not self.running:
            self._task = asyncio.create_task(self._loop(), name=f"taurine {self.name}")

    async def stop(self) -> None:
        """End the loop, in the middle of a pass if need be, and wait until it has ended."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})  # `await task` would not tell its cancellation from one of the caller
        self.heartbeat.rest()

    async def _loop(self) -> None:
        while True:
            self.heartbeat.turn()
            try:
                await self.run_once()
            except (StoreUnavailable, LedgerUnavailable) as error:
                # Who serves a caller reports an outage once; a line a pass from each loop would only repeat it.
                log.debug("%s: %s", self.name, error)
            except Exception:
                log.exception("%s failed; it goes on", self.name)
            spread = self._jitter * (self._random.random() * 2 - 1)
            self.heartbeat.turn(2 * self.interval)
            await self.rest(self.interval * (1 + spread))
