"""streaq. Results are kept by age."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streaq import Worker

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


def _ignore_start(payload: Payload) -> None: ...


def _ignore_done() -> None: ...


class Streaq(Program):
    worker: Worker[Any]
    task: Any

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        self._declare(QUEUE, 100, _ignore_start, _ignore_done)
        async with self.worker:
            yield

    async def add(self, payload: Payload) -> None:
        await self.task.enqueue(payload)

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        await self.worker.enqueue_many([self.task.enqueue(payload) for payload in payloads])

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        self._declare(queue, concurrency, on_start, on_done)
        running = asyncio.create_task(self.worker.run_async())
        yield
        running.cancel()

    def _declare(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> None:
        self.worker = Worker(self.url, queue_name=queue, concurrency=concurrency, handle_signals=False)

        async def handler(payload: Payload) -> None:
            on_start(payload)
            on_done()

        self.task = self.worker.task(name=JOB, max_tries=ATTEMPTS)(handler)


if __name__ == "__main__":
    run(Streaq)
