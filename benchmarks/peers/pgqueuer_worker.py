"""pgqueuer, set up by its guide to performance: asyncpg, one connection for the worker and a pool for the producer, its
own settings for autovacuum, large batches. What has ended moves to its table of logs.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.program import JOB, OnDone, OnStart, Payload, Program, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

CONNECTIONS = 20


class PgqueuerWorker(Program):
    queries: Queries

    async def install(self) -> None:
        connection = await asyncpg.connect(self.database)
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    @asynccontextmanager
    async def producing(self) -> AsyncGenerator[None]:
        async with asyncpg.create_pool(self.database, min_size=1, max_size=CONNECTIONS) as pool:
            self.queries = Queries.from_asyncpg_pool(pool)
            yield

    async def add(self, payload: Payload) -> None:
        await self.queries.enqueue(JOB, json.dumps(payload).encode())

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        encoded = [json.dumps(payload).encode() for payload in payloads]
        await self.queries.enqueue([JOB] * len(encoded), [*encoded], [0] * len(encoded))

    @asynccontextmanager
    async def working(self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone) -> AsyncGenerator[None]:
        connection = await asyncpg.connect(self.database)
        worker = PgQueuer.from_asyncpg_connection(connection)

        @worker.entrypoint(JOB)
        async def handler(job: Job) -> None:
            on_start(json.loads(job.payload or b"{}"))
            on_done()

        # Its bound on concurrent tasks is left off, since it slows each claim and asks for batches of half its size.
        running = asyncio.create_task(worker.run(batch_size=concurrency))
        yield
        running.cancel()


if __name__ == "__main__":
    run(PgqueuerWorker)
