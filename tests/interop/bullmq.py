"""BullMQ on Node, driven from a test: each call here is a call there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.eventually import eventually
from support.node import NodeProcess

__all__ = ["Bullmq", "NodeError"]


class NodeError(Exception):
    """A call threw in Node; the text is its message."""


class Bullmq:
    """One Node process with BullMQ on one server and prefix; it starts with `async with`.

    Options are BullMQ's own, in its own words: milliseconds and camelCase.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._node = NodeProcess("bullmq.mjs", url, prefix)
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._node.__aenter__()
        self._reader = asyncio.create_task(self._read(), name="node answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_reading()
        await self._node.__aexit__(kind, error, trace)

    async def call(self, do: str, *, within: float = 20.0, **message: Any) -> Any:
        """One call of the script. Raises NodeError with what it threw, and AssertionError without an answer in time."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._node.send({"call": number, "do": do, **message})
        try:
            reply = await asyncio.wait_for(answer, within)
        except TimeoutError:
            raise AssertionError(
                f"Node did not answer {do} within {within:g} s; stderr:\n{self._node.stderr}"
            ) from None
        if "error" in reply:
            raise NodeError(reply["error"])
        return reply["value"]

    async def queue(self, queue: str, method: str, *args: Any, within: float = 20.0) -> Any:
        """A method of `Queue`; jobs come back as dicts."""
        return await self.call("queue", queue=queue, method=method, args=args, within=within)

    async def add(self, queue: str, name: str, data: Any, **options: Any) -> Any:
        """`Queue.add`; the job that BullMQ returns."""
        return await self.queue(queue, "add", name, data, options)

    async def job(self, queue: str, job_id: str, method: str, *args: Any) -> Any:
        """A method of `Job`, which is read anew."""
        return await self.call("job", queue=queue, job=job_id, method=method, args=args)

    async def state(self, queue: str, job_id: str) -> str:
        return await self.job(queue, job_id, "getState")

    async def flow(self, tree: Mapping[str, Any]) -> Any:
        """`FlowProducer.add`; the ids, as {id, children}."""
        return await self.call("flow", tree=tree)

    async def worker(self, queue: str, name: str = "node", *, history: Path | None = None, **options: Any) -> None:
        """Start a `Worker` that does what each job's data says: `perform` of tests/support/tasks.py is the same on our
        side.
        """
        directory = None if history is None else str(history)
        await self.call("worker", queue=queue, name=name, history=directory, options=options)

    async def stop_worker(self, name: str = "node") -> None:
        """Close a worker after its running jobs."""
        await self.call("worker_call", name=name, method="close", args=[])

    async def take(self, queue: str) -> Any:
        """Claim one job by hand, or None; `settle` it."""
        return await self.call("take", queue=queue)

    async def settle(self, job_id: str, *, result: Any = None, error: str | None = None) -> None:
        """End a job that `take` has claimed."""
        await self.call("settle", job=job_id, result=result, error=error)

    async def listen(self, queue: str) -> None:
        """Start a `QueueEvents` that reads the stream from its start."""
        await self.call("listen", queue=queue)

    async def seen(self, queue: str, event: str, field: str | None = None) -> list[Any]:
        """The events of one name that QueueEvents has told, or one field of each."""
        return await self.call("seen", queue=queue, event=event, field=field)

    async def wait_until_finished(self, queue: str, job_id: str, within: float = 20.0) -> Any:
        """`Job.waitUntilFinished`: the result. Raises NodeError with the job's failure. `listen` must have been called."""
        ttl = round(within * 1000)
        reply = await self.call("waitUntilFinished", queue=queue, job=job_id, ttl=ttl, within=within + 5)
        return reply["result"]

    async def until_state(self, queue: str, job_id: str, *states: str, within: float = 15.0) -> str:
        """Wait until a job is in one of these states, as Node names them."""

        async def state() -> str | None:
            now = await self.state(queue, job_id)
            assert now in states, f"job {job_id} is {now}"
            return now

        return (
            await eventually(state, within, f"job {job_id} of {queue} did not come to be {' or '.join(states)}") or ""
        )

    def freeze(self) -> None:
        """SIGSTOP: it runs no further, and its connections stay open."""
        self._node.freeze()

    def kill(self) -> None:
        """SIGKILL, all its workers with it."""
        self._node.kill()

    async def _read(self) -> None:
        while True:
            try:
                reply = await self._node.receive(timeout=3600)
            except AssertionError as ended:
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_exception(ended)
                return
            answer = self._answers.pop(reply["call"], None)
            if answer is not None and not answer.done():
                answer.set_result(reply)

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
