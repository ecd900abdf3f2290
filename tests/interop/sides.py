"""The same few calls on either engine, for tests that ask them of both: one side adds, the other claims and settles by
hand.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

from interop.bullmq import Bullmq
from taurine.options import AddOptions, Dedup
from taurine.queue import Job, Queue, Worker

__all__ = ["NodeSide", "OurSide", "Side", "SideName"]

SideName: TypeAlias = Literal["node", "ours"]


class Side(Protocol):
    """One engine on the queue `q`. Times are seconds."""

    async def add(
        self, data: Any, *, delay: float = 0, attempts: int = 1, backoff: float = 0, dedup: Dedup | None = None
    ) -> str:
        """Add a job; the id that the add returned."""
        ...

    async def take(self) -> str | None:
        """Claim one job, if there is one."""
        ...

    async def settle(self, job_id: str, *, result: Any = None, error: str | None = None) -> None:
        """End a job that this side has taken."""
        ...


class NodeSide:
    def __init__(self, node: Bullmq) -> None:
        self._node = node

    async def add(
        self, data: Any, *, delay: float = 0, attempts: int = 1, backoff: float = 0, dedup: Dedup | None = None
    ) -> str:
        options: dict[str, Any] = {"delay": round(delay * 1000), "attempts": attempts, "backoff": round(backoff * 1000)}
        if dedup is not None:
            options["deduplication"] = _wire(dedup)
        return (await self._node.add("q", "job", data, **options))["id"]

    async def take(self) -> str | None:
        job = await self._node.take("q")
        return job and job["id"]

    async def settle(self, job_id: str, *, result: Any = None, error: str | None = None) -> None:
        await self._node.settle(job_id, result=result, error=error)


class OurSide:
    def __init__(self, queue: Queue, worker: Worker) -> None:
        self._queue = queue
        self._worker = worker
        self._held: dict[str, Job] = {}

    async def add(
        self, data: Any, *, delay: float = 0, attempts: int = 1, backoff: float = 0, dedup: Dedup | None = None
    ) -> str:
        options: AddOptions = {"delay": delay, "attempts": attempts, "backoff": backoff}
        if dedup is not None:
            options["deduplication"] = dedup
        return (await self._queue.add("job", data, **options)).stored_id

    async def take(self) -> str | None:
        job = await self._worker.fetch()
        if job is None:
            return None
        self._held[job.stored_id] = job
        return job.stored_id

    async def settle(self, job_id: str, *, result: Any = None, error: str | None = None) -> None:
        job = self._held.pop(job_id)
        await (self._worker.complete(job, result) if error is None else self._worker.fail(job, RuntimeError(error)))


def _wire(dedup: Dedup) -> dict[str, Any]:
    words = {
        "id": dedup.id,
        "ttl": dedup.ttl and round(float(dedup.ttl) * 1000),  # pyright: ignore[reportArgumentType] - these tests give seconds
        "extend": dedup.extend,
        "replace": dedup.replace,
        "reschedule": dedup.reschedule,
        "keepLastIfActive": dedup.keep_last_if_active,
    }
    return {word: value for word, value in words.items() if value}
