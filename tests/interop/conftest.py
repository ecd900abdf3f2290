"""Both sides of a queue: BullMQ on Node, and ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from interop.bullmq import Bullmq
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
