"""The worker: claims jobs of one queue, runs them, and settles what became of them.

The loop is made of turns (`turn.lua`). A turn settles the attempts that ended and claims jobs for the slots that are free, in one
script call. The next turn is sent as soon as the reply is in and before its jobs are started, so that the server works while this
process does. Nothing waits for company: whatever ended while a turn was under way goes with the next.

Outages: a turn whose reply is lost may have happened. Its connection is killed at the server first, so that it cannot happen later; then
its outcomes are sent again (those already settled are refused by their leases, which is right), and the jobs that it claimed, recognised by its
token, are claimed again. No job waits for a sweep because of a broken connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Any, Self, TypeAlias

from redis.exceptions import NoScriptError

from taurine.clock import Clock, SystemClock
from taurine.errors import CorruptJob, InvalidOption, PendingChildren, FailedChildren, RateLimited, StoreError, StoreUnavailable
from taurine.ids import public_id, unique_id
from taurine.options import Keep, RateLimit, Seconds, to_seconds
from taurine.queue.attempt import AttemptPolicy, BackoffStrategies, unreadable
from taurine.queue.connection import Connection, Target
from taurine.queue.doorbell import Doorbell, shared_doorbell
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.leases import Lease, LeaseKeeper, Renewal
from taurine.queue.scripts import load
from taurine.queue.stalled import StalledSweep
from taurine.queue.store import QueueStore
from taurine.queue.turn import BLOCKED, Completed, Failed, Outcome, Released, RetryLater, RetryNow, Turn, TurnReply

__all__ = ["Handler", "Worker"]

log = logging.getLogger("taurine.queue")

Handler: TypeAlias = Callable[[Job], Awaitable[Any]]
"""An async function of a job; what it returns is the job's result, what it raises fails the attempt."""

_FIRST_RETRY, _LONGEST_RETRY = 0.05, 2.0
"""Seconds between attempts to reach a server that is down: soon enough to resume at once, seldom enough to cost nothing."""


class _Running:
    """One job that runs now."""

    __slots__ = ("cancelled_for", "job", "lease", "task")

    def __init__(self, job: Job, lease: Lease) -> None:
        self.job = job
        self.lease = lease
        self.task: asyncio.Task[None] | None = None
        self.cancelled_for: str | None = None


class Worker:
    def __init__(
        self,
        queue: str,
        handler: Handler,
        target: Target,
        *,
        prefix: str = "bull",
        concurrency: int = 5,
        name: str = "",
        lease: Seconds = 30.0,
        stalled_interval: Seconds = 30.0,
        max_stalled: int = 1,
        max_started_attempts: int | None = None,
        rate_limit: RateLimit | None = None,
        remove_on_complete: bool | int | Keep | None = None,
        remove_on_fail: bool | int | Keep | None = None,
        backoff_strategy: BackoffStrategies | None = None,
        metrics_points: int = 0,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        random = random or SystemRandom()
        self._handler = handler
        self._store = QueueStore(QueueKeys(queue, prefix), Connection.to(target), clock or SystemClock())
        self._clock = self._store.clock
        self.name = name
        self._concurrency = concurrency
        self._lease_ms = round(to_seconds(lease, "lease", minimum=0.1) * 1000)
        self._rate_limit = rate_limit
        self._metrics_points = metrics_points
        self._policy = AttemptPolicy(
            remove_on_complete=remove_on_complete,
            remove_on_fail=remove_on_fail,
            max_started_attempts=max_started_attempts,
            backoff_strategy=backoff_strategy,
            random=random,
        )
        self._id = unique_id()
        self._turns = 0
        self._link = self._store.connection.link(client_name=self._store.keys.client_name(name))
        self._running: dict[str, _Running] = {}
        self._ended: list[tuple[str, str, Outcome]] = []
        self._wake = asyncio.Event()
        self._claimable = True
        self._due_ms = 0
        self._stopping = False
        self._lost_token = ""

    # The loop -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with shared_doorbell(self._store.connection, prefix=self._store.keys.prefix, block=5.0) as doorbell:
            try:
                while not (self._stopping and not self._running and not self._ended):
                    turn = self._next_turn()
                    if turn is None:
                        await self._rest(doorbell)
                    else:
                        await self._take_turns(turn)
            finally:
                await self._link.close()

    def stop_now(self):
        self._stopping = True
        self._wake.set()

    async def _take_turns(self, turn: Turn | None) -> None:
        """Turns without a pause, as long as each leaves something for the next."""
        assert turn is not None
        script = load("turn")
        await self._link.send(("EVALSHA", script.digest, 1, self._store.keys.meta, *turn.arguments()))
        while turn is not None:
            try:
                raw = await self._link.receive()
            except NoScriptError:
                raw = await self._link.call("EVAL", script.text, 1, self._store.keys.meta, *turn.arguments())
            reply = TurnReply(*raw)
            if reply.jobs or turn.want:
                self._claimable = len(reply.jobs) == turn.want and turn.want > 0
            following = self._next_turn(arriving=len(reply.jobs))
            if following is not None:
                await self._link.send(("EVALSHA", script.digest, 1, self._store.keys.meta, *following.arguments()))
            self._due_ms = reply.due_ms
            self._start(reply, turn.token)
            turn = following

    def _next_turn(self, arriving: int = 0) -> Turn | None:
        free = self._concurrency - len(self._running) - arriving
        ended = self._ended
        if not ended and (free <= 0 or not self._claimable):
            return None
        self._ended = []
        self._turns += 1
        want = 0 if self._stopping else max(0, min(free, (self._concurrency + 1) // 2))
        return Turn(self._store.now_ms(), f"{self._id}:{self._turns}", self._lease_ms, want, ended)

    async def _rest(self, doorbell: Doorbell) -> None:
        self._wake.clear()
        if len(self._running) < self._concurrency and not self._stopping:
            doorbell.arm(self._store.keys, self._ring)
        timeout = None
        if self._due_ms:
            timeout = max(0.0, self._due_ms / 1000 - self._clock.now())
        if not await self._clock.wait(self._wake, timeout):
            self._claimable = True

    def _ring(self, due):
        self._claimable = True
        self._wake.set()

    def _start(self, reply, token):
        now = self._clock.monotonic()
        create = asyncio.get_running_loop().create_task
        for raw_id, fields in reply.jobs:
            job = Job.claimed(self._store, raw_id, fields, token)
            running = _Running(job, Lease(job.stored_id, token, job.attempts_started, now))
            self._running[job.stored_id] = running
            running.task = create(self._attempt(running))

    async def _attempt(self, running: _Running) -> None:
        job = running.job
        try:
            result = await self._handler(job)
            outcome = self._policy.completed(job, result)
        except Exception as error:
            outcome = self._policy.failed(job, error)
        del self._running[job.stored_id]
        self._ended.append((job.stored_id, running.lease.token, outcome))
        self._wake.set()
