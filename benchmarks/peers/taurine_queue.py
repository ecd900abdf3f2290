"""Taurine's queue engine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.peers.program import ATTEMPTS, JOB, KEEP_COMPLETED, QUEUE, OnDone, OnStart, Payload, Program, run
from taurine.options import AddOptions, Keep
from taurine.queue import Job, Queue, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

OPTIONS: AddOptions = {"attempts": ATTEMPTS, "remove_on_complete": Keep(count=KEEP_COMPLETED)}


class TaurineQueue(Program):
    queue: Queue

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        async with Queue(QUEUE, self.url) as self.queue:
            yield

    async def add(self, payload: Payload) -> None:
        await self.queue.add(JOB, payload, **OPTIONS)

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        await self.queue.add_many([(JOB, payload, OPTIONS) for payload in payloads])

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        async def handler(job: Job) -> None:
            on_start(job.data)

        worker = Worker(queue, handler, self.url, concurrency=concurrency)
        worker.on("completed", lambda *_: on_done())
        async with worker:
            yield


if __name__ == "__main__":
    run(TaurineQueue)
