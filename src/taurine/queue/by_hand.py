"""Working by hand: jobs are claimed and settled one by one, without the worker's loop.

Each claim and each settlement is a turn of its own, on a shared link. What is wrong is raised, since somebody waits
for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from taurine.errors import NotInState, StoreError
from taurine.queue.attempt import AttemptPolicy
from taurine.queue.doorbell import put_marker
from taurine.queue.job import Job
from taurine.queue.leases import Lease, LeaseKeeper
from taurine.queue.states import not_in_state
from taurine.queue.store import QueueStore
from taurine.queue.tracing import WorkerTracing
from taurine.queue.turn import Outcome, Turn, TurnReply

__all__ = ["ByHand"]

_Marker: TypeAlias = "tuple[float, bytes]"
"""The score of what was popped, 0 for "claim now" or when a job is due, wall ms; and its member."""


class ByHand:
    """The jobs that the caller of a worker runs by hand; its methods are the worker's own.

    make_turn: a turn of the worker that asks for so many jobs and settles these: stored job id, token, outcome.
    advance: arms the next run of a fetched job's scheduler.
    look_every: seconds after which a fetch that waits looks for jobs that nobody announced.
    """

    def __init__(
        self,
        store: QueueStore,
        policy: AttemptPolicy,
        leases: LeaseKeeper,
        tracing: WorkerTracing | None,
        *,
        make_turn: Callable[[int, Sequence[tuple[str, str, Outcome]]], Turn],
        advance: Callable[[Job], Awaitable[None]],
        look_every: float,
    ) -> None:
        self._store = store
        self._policy = policy
        self._leases = leases
        self._tracing = tracing
        self._make_turn = make_turn
        self._advance = advance
        self._look_every = look_every

    async def fetch(self, timeout: float) -> Job | None:
        """See `Worker.fetch`."""
        clock = self._store.clock
        until = clock.monotonic() + timeout
        alarm: _Marker | None = None
        try:
            while True:
                turn = self._make_turn(1, [])
                reply = await self._take(turn)
                if alarm is not None:
                    alarm = (reply.due_ms, b"1") if reply.due_ms else None
                if reply.jobs:
                    return await self._fetched(reply, turn)
                left = until - clock.monotonic()
                if left <= 0:
                    return None
                wait = min(left, self._look_every)
                if reply.due_ms:
                    wait = min(wait, reply.due_ms / 1000 - clock.now())
                alarm = await self._pop_marker(max(wait, 0.001)) or alarm
        finally:
            if alarm is not None:
                await asyncio.sleep(0)  # until a read that was cancelled is closed, or the server would give it to that
                with contextlib.suppress(StoreError):
                    await put_marker(self._store.connection, self._store.keys.marker, *alarm)

    async def complete(self, job: Job, result: Any) -> None:
        """See `Worker.complete`."""
        await self._settle(job, self._policy.completed(job, result))

    async def fail(self, job: Job, error: BaseException) -> None:
        """See `Worker.fail`."""
        await self._settle(job, self._policy.failed(job, error))

    async def renew(self, job: Job) -> bool:
        """See `Worker.renew`."""
        lease = Lease(job.stored_id, job.token or "", job.attempts_started, self._store.clock.monotonic())
        return not (await self._leases.renew([lease])).lost

    async def _settle(self, job: Job, outcome: Outcome) -> None:
        stored_id = job.stored_id
        reply = await self._take(self._make_turn(0, [(stored_id, job.token or "", outcome)]))
        if reply.codes[0] == NotInState.code:
            raise await not_in_state(self._store, stored_id, ("active",), "settled")
        if reply.codes[0] < 0:
            raise self._store.error(reply.codes[0], stored_id)
        if self._tracing is not None:
            self._tracing.settled([(job, outcome)])

    async def _take(self, turn: Turn) -> TurnReply:
        return TurnReply.read(await self._store.run("turn", *turn.arguments()))

    async def _fetched(self, reply: TurnReply, turn: Turn) -> Job:
        raw_id, started, fields = reply.jobs[0]
        job = Job.claimed(self._store, raw_id, started, fields, turn.token)
        if job.scheduler_id is not None:
            await self._advance(job)
        if (error := job.corruption()) is not None:
            await self.fail(job, error)
            raise error
        return job

    async def _pop_marker(self, wait: float) -> _Marker | None:
        link = self._store.connection.link()  # its own: a shared one would be kept from others while it blocks
        try:
            popped = await link.blocking_call("BZPOPMIN", self._store.keys.marker, wait, block=wait)
        finally:
            await link.close()
        return None if popped is None else (float(popped[2]), popped[1])
