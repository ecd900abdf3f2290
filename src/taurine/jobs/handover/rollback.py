"""Knowing when the server of queues may have forgotten what it was told.

A server that was restarted, or a replica that took over, may have lost its newest writes: jobs whose records say completed stand in line again as if they had
never run. Their first delivery is then no first delivery. Data can be lost in this way only where another server process answers than before, so the one that was seen
last is noted on the server itself, and with it when another one was first seen. Jobs that were added before that ask the ledger before they run.
"""

from __future__ import annotations

import asyncio
import logging
import math
from random import Random

from taurine.clock import Clock
from taurine.errors import StoreRefused
from taurine.queue import Job
from taurine.queue.connection import Connection
from taurine.queue.keys import private_key
from taurine.queue.server_check import parse_info
from taurine.service import Service

__all__ = ["RollbackGuard", "doubted_until"]

_SKEW_MS = 10_000
"""Jobs bear the time of the process that added them, whose clock may be behind by so much."""


_PAUSE = 0.1
"""Seconds between looks while it is not known who answers, at first: all jobs ask the ledger meanwhile. Twice as long after each further one, up to the interval."""

log = logging.getLogger("taurine.jobs")


async def doubted_until(connection: Connection, prefix: str, now_ms: int) -> int:
    """Jobs that were added at or before this time, ms, may have ended without the server knowing it. Raises StoreUnavailable or StoreRefused."""
    key = private_key(prefix, "server")
    info, noted = await connection.pipeline([("INFO", "server"), ("GET", key)])
    server = parse_info(info.decode("utf-8", "replace")).get("run_id", "")
    seen, _, since = (b"" if noted is None else noted).decode("utf-8", "replace").partition(" ")
    if seen == server and since.isdecimal():
        return int(since)
    # Where nothing is noted, nothing has been lost that was noted before it: the server is new, or empty.
    since_ms = now_ms + _SKEW_MS if seen else now_ms
    await connection.call("SET", key, f"{server} {since_ms}")
    return since_ms


class RollbackGuard(Service[float]):
    """The service; one for each connection of workers. A pass returns `until`.

    interval: seconds from one look to the next. Default: 1. A worker that has lost its connection calls `doubt`, which looks at once.
    """

    def __init__(
        self, *, connection: Connection, prefix: str, clock: Clock, random: Random, interval: float = 1.0
    ) -> None:
        super().__init__(name="rollback guard", interval=interval, clock=clock, random=random)
        self._connection = connection
        self._prefix = prefix
        self._asked = asyncio.Event()
        self._pause = _PAUSE
        self._refused = False
        self.until: float = math.inf
        """Jobs that were added at or before this time, ms, ask the ledger before they run."""

    def doubts(self, job: Job) -> bool:
        """Whether a job that is delivered for the first time may have ended before."""
        return job.created_at * 1000 <= self.until

    async def run_once(self) -> float:
        self._asked.clear()
        try:
            until = await doubted_until(self._connection, self._prefix, round(self._clock.now() * 1000))
        except StoreRefused as error:
            self._report(error)
            return math.inf
        self._pause, self._refused = _PAUSE, False
        if not self._asked.is_set():
            self.until = until
        return until

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
            await self._clock.sleep(min(seconds, self._pause))
            self._pause = min(self.interval, self._pause * 2)
        else:
            await self._clock.wait(self._asked, seconds)
