"""One queue of a test, from all sides: its Queue, workers on it, and what the server's own keys say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from support.eventually import eventually
from taurine.clock import Clock
from taurine.queue.connection import Connection
from taurine.queue.keys import QueueKeys
from taurine.queue.queue import Queue
from taurine.queue.store import QueueStore
from taurine.queue.worker import Handler, Worker

__all__ = ["Site"]


class Site:
    """A queue named `name` under the test's prefix.

    Workers and Queue share one Connection, unless a worker is given another target.
    """

    def __init__(self, name: str, prefix: str, url: str, raw: Redis, *, clock: Clock | None = None) -> None:
        self.url = url
        self.raw: Any = raw  # its replies, str here, are typed as unions
        self.keys = QueueKeys(name, prefix)
        self.connection = Connection(url)
        self.clock = clock
        self.queue = Queue(name, self.connection, prefix=prefix, clock=clock)
        self.store = QueueStore(self.keys, self.connection, self.queue._store.clock)

    async def close(self) -> None:
        await self.connection.close()

    def worker(self, handler: Handler | None, target: Any = None, **options: Any) -> Worker:
        """A worker of this queue that does not run yet."""
        options.setdefault("clock", self.clock)
        return Worker(self.keys.name, handler, target or self.connection, prefix=self.keys.prefix, **options)

    @contextlib.asynccontextmanager
    async def working(self, handler: Handler, target: Any = None, **options: Any) -> AsyncGenerator[Worker]:
        """A worker that runs during the block. If the block fails, its handlers are not waited for."""
        async with self.running(self.worker(handler, target, **options)) as worker:
            yield worker

    @contextlib.asynccontextmanager
    async def running(self, worker: Worker) -> AsyncGenerator[Worker]:
        async with worker:
            try:
                yield worker
            except BaseException:
                await worker.stop(grace=0)
                raise

    async def counts(self) -> dict[str, int]:
        """How many ids each collection of the queue holds; the empty ones are left out."""
        raw, keys = self.raw, self.keys
        async with raw.pipeline() as pipe:
            pipe.llen(keys.wait)
            pipe.llen(keys.active)
            for key in (keys.prioritized, keys.delayed, keys.waiting_children, keys.completed, keys.failed):
                pipe.zcard(key)
            sizes = await pipe.execute()
        names = ("wait", "active", "prioritized", "delayed", "waiting_children", "completed", "failed")
        return {name: size for name, size in zip(names, sizes, strict=True) if size}

    async def until(self, *, within: float = 15.0, **wanted: int) -> None:
        """Wait until the queue's collections hold just this: `until(completed=3)`."""

        async def reached() -> bool:
            try:
                counts = await self.counts()
            except RedisError as error:  # a test that restarts its server
                raise AssertionError(str(error)) from None
            assert counts == wanted, f"{counts}, want {wanted}"
            return True

        await eventually(reached, within, f"the queue {self.keys.name!r} did not come to {wanted}")

    async def hash(self, stored_id: str) -> dict[str, str]:
        """The job's hash as the server has it."""
        return await self.raw.hgetall(self.keys.job(stored_id))

    async def line(self) -> list[str]:
        """The ids in `wait`, next to run first."""
        return (await self.raw.lrange(self.keys.wait, 0, -1))[::-1]

    async def due_ms(self, stored_id: str) -> int:
        """When a delayed job is due."""
        score = await self.raw.zscore(self.keys.delayed, stored_id)
        assert score is not None, f"{stored_id} is not delayed"
        return int(score) // 4096

    async def events(self, *names: str) -> list[dict[str, str]]:
        """The queue's events so far, of these names or all."""
        entries = await self.raw.xrange(self.keys.events)
        return [fields for _, fields in entries if not names or fields["event"] in names]
