"""taskiq on its acknowledging stream broker, with retries and results. It has no bulk call; results are kept by age."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from taskiq import SimpleRetryMiddleware
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RESULT_SECONDS = 3600


class Taskiq(Program):
    task: Any

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        broker = self._broker(QUEUE)

        async def declared(payload: Payload) -> None: ...

        self.task = broker.register_task(declared, JOB, retry_on_error=True)
        await broker.startup()
        yield
        await broker.shutdown()

    async def add(self, payload: Payload) -> None:
        await self.task.kiq(payload)

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        broker = self._broker(queue)

        async def handler(payload: Payload) -> None:
            on_start(payload)
            on_done()

        broker.register_task(handler, JOB, retry_on_error=True)
        running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency, run_startup=True))
        yield
        running.cancel()

    def _broker(self, queue: str) -> RedisStreamBroker:
        results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(self.url, result_ex_time=RESULT_SECONDS)
        # "0": jobs that were added before the first worker made the consumer group are also read.
        broker = RedisStreamBroker(self.url, queue_name=queue, consumer_id="0").with_result_backend(results)
        return broker.with_middlewares(SimpleRetryMiddleware(default_retry_count=ATTEMPTS))


if __name__ == "__main__":
    run(Taskiq)
