"""Both sides of a queue: BullMQ on Node, and ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from interop.bullmq import Bullmq
from interop.sides import NodeSide, OurSide, Side, SideName
from support.tasks import perform
from taurine.queue import Queue, Worker

StartWorker = Callable[..., Worker]


@pytest.fixture
async def node(redis_url: str, prefix: str) -> AsyncIterator[Bullmq]:
    """BullMQ on the shared server."""
    async with Bullmq(redis_url, prefix) as node:
        yield node


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Queue]:
    """Our queue `q`, which Node has too."""
    async with Queue("q", redis_url, prefix=prefix) as queue:
        yield queue


@pytest.fixture
def worker(redis_url: str, prefix: str) -> StartWorker:
    """Make a worker of ours: `async with worker("q"):` runs it. It does what each job's data says."""

    def make(queue: str = "q", **options: Any) -> Worker:
        return Worker(queue, perform, redis_url, prefix=prefix, **options)

    return make


@pytest.fixture
async def sides(node: Bullmq, queue: Queue, worker: StartWorker) -> AsyncIterator[dict[SideName, Side]]:
    """Both engines on the queue `q`, by hand; no worker of either runs."""
    ours = worker(lease=60)
    yield {"node": NodeSide(node), "ours": OurSide(queue, ours)}
    await ours.stop()
