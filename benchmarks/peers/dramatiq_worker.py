"""dramatiq: threads, no event loop, no bulk call; results are kept by age."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Dramatiq(Program):
    actor: Any

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        def declared(payload: Payload) -> None: ...

        self._declare(QUEUE, declared)
        yield

    async def add(self, payload: Payload) -> None:
        self.actor.send(payload)

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()

        def handler(payload: Payload) -> None:
            on_start(payload)
            loop.call_soon_threadsafe(on_done)

        worker = dramatiq.Worker(self._declare(queue, handler), worker_threads=concurrency)
        worker.start()
        yield
        worker.stop()

    def _declare(self, queue: str, handler: Any) -> RedisBroker:
        broker = RedisBroker(url=self.url)
        broker.add_middleware(Results(backend=RedisBackend(url=self.url), store_results=True))
        options = {"max_retries": ATTEMPTS - 1}
        self.actor = dramatiq.Actor(
            handler, broker=broker, actor_name=JOB, queue_name=queue, priority=0, options=options
        )
        return broker


if __name__ == "__main__":
    run(Dramatiq)
