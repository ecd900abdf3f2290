"""BullMQ's Python port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from bullmq import Job, Queue, Worker

from benchmarks.peers.program import ATTEMPTS, JOB, KEEP_COMPLETED, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

OPTIONS: Any = {"attempts": ATTEMPTS, "removeOnComplete": {"count": KEEP_COMPLETED}}


class BullMQPython(Program):
    queue: Queue

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        self.queue = Queue(QUEUE, {"connection": self.url})
        yield
        await self.queue.close()

    async def add(self, payload: Payload) -> None:
        await self.queue.add(JOB, payload, OPTIONS)

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        await self.queue.addBulk([{"name": JOB, "data": payload, "opts": OPTIONS} for payload in payloads])

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        async def handler(job: Job, token: str) -> None:
            on_start(job.data)

        def completed(job: Job, result: Any) -> None:
            on_done()

        # The port's annotation asks for a future; its documentation and its code take a coroutine function.
        processor = cast("Any", handler)
        worker = Worker(queue, processor, {"connection": self.url, "concurrency": concurrency, "autorun": False})
        worker.on("completed", completed)
        running = asyncio.create_task(worker.run())
        yield
        running.cancel()


if __name__ == "__main__":
    run(BullMQPython)
