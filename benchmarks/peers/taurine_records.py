"""Taurine with records: jobs of a declared type, each with its record in SQL. The application itself, as users have it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from redis.asyncio import Redis

from benchmarks.peers.program import ATTEMPTS, KEEP_COMPLETED, QUEUE, OnDone, OnStart, Payload, Program, run
from taurine import Retry, Taurine
from taurine.queue import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

# Between two looks at whether the last jobs are settled.
LOOK_SECONDS = 0.001
# For the look at a new server, which holds nothing yet.
LOOK_SECONDS_IN_ALL = 30


class Noop(BaseModel):
    i: int
    user: str


class TimedNoop(Noop):
    at: float


class TaurineRecords(Program):
    def __init__(self, url: str, database: str = "") -> None:
        super().__init__(url, database)
        self.app = Taurine("bench", redis_url=url, database_url=database)
        self.noop = self._declare("bench.noop", Noop)
        self.timed = self._declare("bench.timed-noop", TimedNoop)

    def _declare(self, name: str, payload: type[Any]) -> Any:
        return self.app.declare(
            name, payload, type(None), queue=QUEUE, retry=Retry(attempts=ATTEMPTS), keep_completed=KEEP_COMPLETED
        )

    async def install(self) -> None:
        await self.app.migrate()
        async with (
            self.working(QUEUE, 1, lambda _: None, lambda: None),
            Redis.from_url(self.url) as redis,
            asyncio.timeout(LOOK_SECONDS_IN_ALL),
        ):
            # A worker that meets a server which it does not know compares all open records with it, once in the life of the server. Here every
            # measurement has a server of its own, so that it would be part of each.
            while not await redis.keys("*made-good*"):  # noqa: ASYNC110 - it is on another server
                await asyncio.sleep(0.05)
        await self.app.close()

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        async with self.app:
            yield

    async def add(self, payload: Payload) -> None:
        if "at" in payload:
            await self.timed.enqueue(TimedNoop(**payload))
        else:
            await self.noop.enqueue(Noop(**payload))

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        await self.noop.enqueue_many([Noop(**payload) for payload in payloads])

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        @self.noop.handler
        async def run_noop(payload: Noop) -> None:
            on_start({})
            on_done()

        @self.timed.handler
        async def run_timed_noop(payload: TimedNoop) -> None:
            on_start({"at": payload.at})
            on_done()

        # As `taurine worker` runs it.
        worker = self.app.worker(queues=[queue], concurrency=concurrency)
        async with self.app:
            working = asyncio.create_task(worker.run(handle_signals=True))
            try:
                yield
            finally:
                await worker.stop()
                await working

    async def settled(self) -> None:
        # A job leaves the queue's list of active ones after its record is complete.
        async with Queue(QUEUE, self.url) as queue:
            while await queue.count("waiting", "active"):  # noqa: ASYNC110 - it is on another server
                await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run(TaurineRecords)
