"""SAQ. It has no bulk call; results are kept by age."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

# Each of the concurrent calls takes a connection of its own, and redis-py refuses above a limit.
CONNECTIONS = 2000


def _queue(url: str, name: str) -> RedisQueue:
    return RedisQueue(Redis.from_url(url, max_connections=CONNECTIONS), name=name)


class Saq(Program):
    queue: RedisQueue

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        self.queue = _queue(self.url, QUEUE)
        await self.queue.connect()
        yield
        await self.queue.disconnect()

    async def add(self, payload: Payload) -> None:
        await self.queue.enqueue(JOB, payload=payload, retries=ATTEMPTS)

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        async def handler(ctx: Any, *, payload: Payload) -> None:
            on_start(payload)

        async def after_process(ctx: Any) -> None:
            on_done()

        worker = Worker(
            _queue(self.url, queue),
            functions=[(JOB, handler)],
            concurrency=concurrency,
            after_process=after_process,
        )
        running = asyncio.create_task(worker.start())
        yield
        running.cancel()


if __name__ == "__main__":
    run(Saq)
