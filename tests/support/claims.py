"""Claim and settle jobs by hand, one turn at a time, as a worker does; schedulers are advanced as it does."""

from __future__ import annotations

import itertools

from taurine.clock import Clock
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.scheduler import ScheduleStrategy, advance
from taurine.queue.store import QueueStore
from taurine.queue.turn import Completed, Outcome, RetryNow, Turn, TurnReply

__all__ = ["ByHand"]


class ByHand:
    """A worker without a loop. strategy: what it advances schedulers with."""

    def __init__(
        self, keys: QueueKeys, connection: Connection, clock: Clock, *, strategy: ScheduleStrategy | None = None
    ) -> None:
        self.store = QueueStore(keys, connection, clock)
        self._strategy = strategy
        self._tokens = (f"by-hand:{number}" for number in itertools.count(1))

    async def claim(self) -> Job | None:
        """Claim the next job, if one can be claimed, and do nothing else with it."""
        turn = Turn(self.store.now_ms(), next(self._tokens), lease_ms=30_000, want=1)
        reply = TurnReply.read(await self.store.run("turn", *turn.arguments()))
        if not reply.jobs:
            return None
        raw_id, started, fields = reply.jobs[0]
        return Job.claimed(self.store, raw_id, started, fields, turn.token)

    async def advance(self, job: Job) -> str | None:
        return await advance(self.store, job, strategy=self._strategy)

    async def start(self) -> Job | None:
        """Claim the next job and advance its scheduler."""
        job = await self.claim()
        if job is not None:
            await self.advance(job)
        return job

    async def complete(self, job: Job, *, keep: str = "::") -> None:
        await self._settle(job, Completed("null", keep))

    async def retry(self, job: Job) -> None:
        await self._settle(job, RetryNow("again", "[]", False))

    async def run(self) -> Job | None:
        """Claim, advance and complete the next job."""
        job = await self.start()
        if job is not None:
            await self.complete(job)
        return job

    async def _settle(self, job: Job, outcome: Outcome) -> None:
        assert job.token is not None
        turn = Turn(self.store.now_ms(), "none", 30_000, 0, [(job.stored_id, job.token, outcome)])
        reply = TurnReply.read(await self.store.run("turn", *turn.arguments()))
        assert reply.codes == [0]
