"""arq. It has no bulk call and polls; results are kept by age."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from arq import Worker, func
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

# Each of the concurrent calls takes a connection of its own, and redis-py refuses above a limit.
CONNECTIONS = 2000


def _pool(url: str, queue: str) -> ArqRedis:
    return ArqRedis(ConnectionPool.from_url(url, max_connections=CONNECTIONS), default_queue_name=queue)


class Arq(Program):
    pool: ArqRedis

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        self.pool = _pool(self.url, QUEUE)
        yield
        await self.pool.aclose()

    async def add(self, payload: Payload) -> None:
        await self.pool.enqueue_job(JOB, payload)

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        async def handler(ctx: dict[str, Any], payload: Payload) -> None:
            on_start(payload)

        async def after_job_end(ctx: dict[str, Any]) -> None:
            on_done()

        worker = Worker(
            [func(handler, name=JOB, max_tries=ATTEMPTS)],
            queue_name=queue,
            redis_pool=_pool(self.url, queue),
            max_jobs=concurrency,
            after_job_end=after_job_end,
            handle_signals=False,
        )
        running = asyncio.create_task(worker.async_run())
        yield
        running.cancel()


if __name__ == "__main__":
    run(Arq)
