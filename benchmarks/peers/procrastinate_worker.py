"""procrastinate, on psycopg's pool. Its jobs stay in its table when they have ended."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import procrastinate

from benchmarks.peers.program import ATTEMPTS, JOB, QUEUE, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

# Of 4 (its default) to 90 connections the number with the least CPU per job, and none was faster.
CONNECTIONS = 20


class Procrastinate(Program):
    def __init__(self, url: str, database: str = "") -> None:
        super().__init__(url, database)
        # It warns of an application in the main module, whose tasks another program would not find.
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        connector = procrastinate.PsycopgConnector(conninfo=database, min_size=CONNECTIONS, max_size=CONNECTIONS)
        self.app = procrastinate.App(connector=connector)

    def _task(self, handler: Any) -> Any:
        return self.app.task(name=JOB, queue=QUEUE, retry=ATTEMPTS - 1)(handler)

    async def install(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        async def never_run(**payload: Any) -> None: ...

        self.task = self._task(never_run)
        async with self.app.open_async():
            yield

    async def add(self, payload: Payload) -> None:
        await self.task.defer_async(**payload)

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        await self.task.batch_defer_async(*payloads)

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        async def handler(**payload: Any) -> None:
            on_start(payload)
            on_done()

        self._task(handler)
        async with self.app.open_async():
            worker = self.app.run_worker_async(queues=[queue], concurrency=concurrency, install_signal_handlers=False)
            running = asyncio.create_task(worker)
            yield
            running.cancel()


if __name__ == "__main__":
    run(Procrastinate)
